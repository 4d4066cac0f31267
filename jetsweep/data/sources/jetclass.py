"""JetClass (Qu, Li, Qian, arXiv:2202.03772; Zenodo 6619768): ten classes of Delphes jets, in ROOT or Parquet files."""

# Shapes: R jets of a slice, N constituents of all of them.

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._checksums import JETCLASS_TEST, JETCLASS_TRAIN, JETCLASS_VAL
from jetsweep.data.sources._files import FileOptions, FileSource, Input, Published, check_energy, reading
from jetsweep.data.sources._jets import FLAGS, P4, TRACKS, Jets
from jetsweep.errors import DataError

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
FOLDERS = {"train": "train_100M", "val": "val_5M", "test": "test_20M"}
PARTICLES = {
    "px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy", "charge": "part_charge",
    "d0": "part_d0val", "d0_err": "part_d0err", "dz": "part_dzval", "dz_err": "part_dzerr",
    "is_charged_hadron": "part_isChargedHadron", "is_neutral_hadron": "part_isNeutralHadron",
    "is_photon": "part_isPhoton", "is_electron": "part_isElectron", "is_muon": "part_isMuon",
}  # fmt: skip
SCALARS = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4")
LABELS = tuple(f"label_{name}" for name in CLASSES)
BRANCHES = (*PARTICLES.values(), *SCALARS, *LABELS)


class JetClassOptions(FileOptions):
    """Options of the source `jetclass`."""

    name: Literal["jetclass"] = "jetclass"


@register_source
class JetClassSource(FileSource):
    """Reads files in ranges of entries; one file holds one class, so slices of all files take turns."""

    options: ClassVar[type[SourceOptions]] = JetClassOptions
    description = "JetClass, arXiv:2202.03772: 125M Delphes jets of ten classes, 500-1000 GeV, ROOT or Parquet."
    classes = CLASSES
    plausible_pt = (300.0, 1500.0)
    slice_rows = 2_000

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "charge", *FLAGS, *TRACKS)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*SCALARS, "jet_mass")

    def published(self) -> list[Published]:
        url = "https://zenodo.org/records/6619768/files"
        names = [(f"JetClass_Pythia_train_100M_part{i}.tar", "train", md5) for i, md5 in enumerate(JETCLASS_TRAIN)]
        names += [("JetClass_Pythia_val_5M.tar", "val", JETCLASS_VAL)]
        names += [("JetClass_Pythia_test_20M.tar", "test", JETCLASS_TEST)]
        return [Published(name, split, f"{url}/{name}", md5) for name, split, md5 in names]

    def inputs(self) -> list[Input]:
        """ROOT and Parquet files; those of a folder are told apart by its subfolders or by their numbers."""
        if self.config.path is None:
            return [unpacked for item in super().inputs() for unpacked in _unpacked(item)]
        folder = Path(self.config.path)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder, expected the subfolders {', '.join(FOLDERS.values())}")
        for file in self.published():
            if (folder / file.name).is_file():
                _unpacked(Input(folder / file.name, file.split))
        found = sorted(x for x in folder.rglob("*") if x.suffix in (".root", ".parquet") and x.is_file())
        if not found:
            raise DataError(f"{folder} holds no .root or .parquet files and none of the published .tar files")
        return [Input(path, _split_of(path, folder)) for path in found]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "arXiv:2202.03772, doi 10.5281/zenodo.6619768",
            "jet_scalars": "as stored; jet_mass derived from the stored four-vector",
            "conventions": "pseudorapidity; impact parameters in mm, 0 for neutral particles",
        }

    def count(self, path: Path) -> int:
        if path.suffix == ".parquet":
            return int(_parquet(path).metadata.num_rows)
        with _Tree(path) as tree:
            return int(tree.num_entries)

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        slices = _parquet_slices if path.suffix == ".parquet" else _root_slices
        for offsets, columns in slices(path, rows, self.slice_rows):
            yield _jets(offsets, columns, path)


def _jets(offsets: np.ndarray, columns: dict[str, np.ndarray], path: Path) -> Jets:
    """One slice; `columns` by branch name, those of particles flattened."""
    one_hot_RC = np.column_stack([columns[name] for name in LABELS]).astype(np.float64)
    wrong_R = (one_hot_RC != 0).sum(axis=1) != 1
    if wrong_R.any():
        raise DataError(f"{path}: {int(wrong_R.sum())} jets do not have exactly one of the ten labels set")
    values = {name: columns[branch] for name, branch in PARTICLES.items()}
    for name in FLAGS:
        values[name] = values[name] != 0
    for name in (*P4, *TRACKS):
        values[name] = values[name].astype(np.float32)
    values["charge"] = np.rint(values["charge"]).astype(np.int8)
    check_energy(np.column_stack([values[name] for name in P4]), path, "part_px, part_py, part_pz, part_energy")
    scalars = {name: columns[name].astype(np.float32) for name in SCALARS}
    pt, eta, energy = (scalars[name].astype(np.float64) for name in ("jet_pt", "jet_eta", "jet_energy"))
    scalars["jet_mass"] = np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0.0)).astype(np.float32)
    return Jets(values, offsets, one_hot_RC.argmax(axis=1), np.arange(len(one_hot_RC)), scalars)


def _check_branches(names: list[str], path: Path) -> None:
    missing = [name for name in BRANCHES if name not in names]
    if missing:
        raise DataError(f"{path}: {len(missing)} of {len(BRANCHES)} columns are missing, the first is {missing[0]}")


def _check_lists(lists: list[str], path: Path) -> None:
    flat = [name for name in PARTICLES.values() if name not in lists]
    if flat:
        raise DataError(f"{path}: {flat[0]} holds one value per jet, expected a list of its particles' values")


class _Tree:
    """Context of the file's one tree, called `tree`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            import awkward  # noqa: F401
            import uproot
        except ImportError as error:
            raise DataError(f"{self.path}: ROOT files need uproot: pip install 'jetsweep[root]'") from error
        with reading(self.path, "ROOT"):
            self.file = uproot.open(self.path)
            keys = [key.split(";")[0] for key in self.file.iterkeys()]
        try:
            if "tree" not in keys:
                raise DataError(f"{self.path}: expected a TTree called 'tree', found {', '.join(keys) or 'nothing'}")
            with reading(self.path, "ROOT"):
                tree = self.file["tree"]
                names = list(tree.keys())
            _check_branches(names, self.path)
        except BaseException:
            self.file.close()
            raise
        return tree

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _root_slices(path: Path, rows: int, step: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    import awkward as ak

    with _Tree(path) as tree:
        for start in range(0, rows, step):
            with reading(path, "ROOT"):
                stop = min(start + step, rows)
                arrays = tree.arrays(list(BRANCHES), entry_start=start, entry_stop=stop, library="ak")
                _check_lists([name for name in PARTICLES.values() if arrays[name].ndim == 2], path)
                num_R = ak.to_numpy(ak.num(arrays["part_px"])).astype(np.int64)
                columns = {name: ak.to_numpy(arrays[name]) for name in (*SCALARS, *LABELS)}
                for name in PARTICLES.values():
                    if not np.array_equal(ak.to_numpy(ak.num(arrays[name])), num_R):
                        raise ValueError(f"{name} has other lengths than part_px")
                    columns[name] = ak.to_numpy(ak.flatten(arrays[name]))
            yield np.concatenate([[0], np.cumsum(num_R)]), columns


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    with reading(path, "Parquet"):
        file = pq.ParquetFile(path)
    schema = file.schema_arrow
    _check_branches(schema.names, path)
    _check_lists([field.name for field in schema if hasattr(field.type, "value_type")], path)
    return file


def _parquet_slices(path: Path, rows: int, step: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    left = rows
    batches = _parquet(path).iter_batches(batch_size=step, columns=list(BRANCHES))
    while left:
        with reading(path, "Parquet"):
            batch = next(batches)
            batch = batch.slice(0, min(left, len(batch)))
            num_R = np.diff(batch["part_px"].offsets.to_numpy())
            columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in (*SCALARS, *LABELS)}
            for name in PARTICLES.values():
                if not np.array_equal(np.diff(batch[name].offsets.to_numpy()), num_R):
                    raise ValueError(f"{name} has other lengths than part_px")
                columns[name] = batch[name].flatten().to_numpy(zero_copy_only=False)
        left -= len(batch)
        yield np.concatenate([[0], np.cumsum(num_R, dtype=np.int64)]), columns


def _split_of(path: Path, folder: Path) -> str:
    """By subfolder (train_100M, val_5M, test_20M), else by number: 000-099 train, 100-119 test, 120-124 val."""
    for part in path.relative_to(folder).parts[:-1]:
        for split in FOLDERS:
            if part.startswith(split):
                return split
    number = re.search(r"_(\d{3})$", path.stem)
    if number is None:
        raise DataError(
            f"{path}: neither its folder nor a number at the end of its name says which split it belongs to"
        )
    return "train" if int(number[1]) < 100 else "test" if int(number[1]) < 120 else "val"


def _unpacked(item: Input) -> list[Input]:
    """The ROOT files inside a downloaded tar, unpacked beside it once."""
    if item.path.suffix != ".tar":
        return [item]
    target = item.path.with_suffix("")
    done = target / ".complete"
    if not done.exists():
        with reading(item.path, "tar"), tarfile.open(item.path) as tar:
            tar.extractall(target, members=[m for m in tar if m.isfile() and m.name.endswith(".root")], filter="data")
        done.touch()
    return [Input(path, item.split) for path in sorted(target.rglob("*.root"))]
