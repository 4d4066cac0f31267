"""ATLAS top-tagging open data (arXiv:2407.20127; CERN open data 80030): nominal jets and every varied sample.

Files ``<set>_<nnn>.h5.gz`` become the splits ``train`` and ``val`` (``train_nominal``, by event number), ``test``
(``test_nominal``) and ``syst/<set>`` (all others). The files are in MeV, the dataset in GeV.
"""

# Shapes: R rows (jets) of a slice, P = 200 constituent slots, N constituents of all of them.

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, field_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._files import FileOptions, FileSource, Input, Published, check_energy, reading
from jetsweep.data.sources._jets import P4, Jets
from jetsweep.errors import DataError
from jetsweep.physics.high_level import HIGH_LEVEL_NAMES

URL = "https://opendata.cern.ch/record/80030/files/assets/atlas/datascience/CERN-EP-2024-159"
SLOTS = 200
NUM_SHOWER_WEIGHTS = 27
NOMINAL_SETS = {"train_nominal": "train", "test_nominal": "test"}
DETECTOR_SETS = ("esup", "esdown", "cer", "cpos", "teg", "tej", "tfl", "tfj", "bias")
MODEL_SETS = ("ttbar_pythia", "ttbar_herwig", "cluster", "string", "angular", "dipole")
SETS = (*NOMINAL_SETS, *DETECTOR_SETS, *MODEL_SETS)
STORED_HIGH_LEVEL = (
    "Tau1_wta", "Tau2_wta", "Tau3_wta", "Tau4_wta", "Split12", "Split23", "ECF1", "ECF2", "ECF3",
    "C2", "D2", "Qw", "L2", "L3", "ThrustMaj",
)  # fmt: skip
MEV_POWERS = {"split12": 1, "split23": 1, "ecf1": 1, "ecf2": 2, "ecf3": 3, "qw": 1}
"""High-level variables with a unit: the power of MeV they are stored in."""
CONSTITUENTS = ("fjet_clus_pt", "fjet_clus_eta", "fjet_clus_phi", "fjet_clus_E", "fjet_clus_taste")
JETS = {"jet_pt": "fjet_pt", "jet_eta": "fjet_eta", "jet_phi": "fjet_phi", "jet_mass": "fjet_m"}
PLAUSIBLE_PT = (300.0, 4000.0)
"""Of the median jet, GeV."""


class AtlasTopTaggingOptions(FileOptions):
    """Options of the source `atlas-top-tagging`."""

    name: Literal["atlas-top-tagging"] = "atlas-top-tagging"
    sets: tuple[str, ...] | None = Field(
        None, description="Sets to read, e.g. [train_nominal, test_nominal, esup]; default: all that are in `path`."
    )
    numbers: tuple[NonNegativeInt, ...] | None = Field(
        None, description="File numbers to read of every set, e.g. [0, 1]; default: all that are in `path`."
    )

    @field_validator("sets")
    @classmethod
    def _known(cls, sets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in sets or ():
            if name not in SETS:
                raise ValueError(f"there is no set {name!r}; there are {', '.join(SETS)}")
        return sets


@register_source
class AtlasTopTaggingSource(FileSource):
    """Reads one file at a time, unpacked into a temporary file if it is gzipped, in slices of rows."""

    config: AtlasTopTaggingOptions
    options: ClassVar[type[SourceOptions]] = AtlasTopTaggingOptions
    description = "ATLAS open data, arXiv:2407.20127: 103M fully simulated jets, top against QCD, with systematics."
    classes = ("qcd", "top")
    slice_rows = 2_000
    num_shower_weights = NUM_SHOWER_WEIGHTS

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "taste")

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, *HIGH_LEVEL_NAMES, "weight", "event_number")

    def published(self) -> list[Published]:
        names = [f"{s}_{n:03d}.h5.gz" for s in self.config.sets or SETS for n in self.config.numbers or (0,)]
        return [Published(name, _split_of(name), f"{URL}/{name}", None) for name in names]

    def inputs(self) -> list[Input]:
        """Files as given, or those of the folder, sets in the order of `SETS`; nothing is downloaded."""
        if self.config.files is not None:
            return super().inputs()
        if self.config.path is None:
            raise DataError(_fetch(self.published()[0].name, "a folder", "name that folder with the option path"))
        folder = Path(self.config.path)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder, expected the files {self._names()} in it")
        found: list[Input] = []
        for name in self.config.sets or SETS:
            there = {n: path for path in sorted(folder.glob(f"{name}_*.h5*")) if (n := _number(path, name)) is not None}
            if not there and self.config.sets is None:
                continue
            for number in self.config.numbers or sorted(there) or [0]:
                if number not in there:
                    raise DataError(_fetch(f"{name}_{number:03d}.h5.gz", str(folder)))
                found.append(Input(there[number], _split_of(name)))
        if not found:
            raise DataError(f"{folder} holds no files of {self.config.name}: expected {self._names()}, from {URL}")
        return found

    @cached_property
    def contents(self) -> list[tuple[Input, int]]:
        """The files, with their numbers of jets if `jets` asks for a share of them: counting unpacks a file."""
        return [(item, self.count(item.path) if self.config.jets is not None else -1) for item in self.inputs()]

    @property
    def total(self) -> int | None:
        return None if self.config.jets is None else super().total

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "arXiv:2407.20127, doi 10.7483/OPENDATA.ATLAS.SOAY.LABE",
            "generator": "ATLAS full detector simulation, 13 TeV, anti-kt R = 1.0 flow objects, as published",
            "jet_scalars": "as stored: calibrated, and not recomputed in the varied sets",
            "splits": "train_nominal by event number: 9 mod 10 is val, other numbers train",
            "weights_required": True,
            "weight": "training weight of train and val, 1 in the other splits",
            "shower_weights": f"list of {NUM_SHOWER_WEIGHTS} of the nominal sets, the first is nominal; else null",
        }

    def count(self, path: Path) -> int:
        with _open(path) as file:
            _check_layout(file, path, needed=())
            return len(file["labels"])

    @cached_property
    def planned(self) -> list[tuple[Input, int]]:
        return self.contents if self.config.jets is None else super().planned

    def jets(self) -> Iterator[tuple[str, Jets]]:
        for place, (item, _) in enumerate(self.planned):
            for jets in self.stream(place):
                if item.split != "train":
                    yield item.split, jets
                    continue
                is_val_B = jets.scalars["event_number"] % 10 == 9
                for split, keep_B in (("train", ~is_val_B), ("val", is_val_B)):
                    if keep_B.any():
                        yield split, jets.take_jets(keep_B)

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        """Slices of the first `rows` jets, of all for -1."""
        split = next(item.split for item, _ in self.contents if item.path == path)
        is_nominal = not split.startswith("syst/")
        needed = ["training_weights"] * (split == "train") + ["EventInfo_mcEventWeights"] * is_nominal
        with _open(path) as file:
            _check_layout(file, path, needed)
            size = len(file["labels"]) if rows < 0 else rows
            any_weight = split != "train" or size == 0
            for start in range(0, size, self.slice_rows):
                with reading(path, "HDF5"):
                    columns = {name: file[name][start : min(start + self.slice_rows, size)] for name in _names(needed)}
                jets = _jets(columns, path)
                _check_events(columns["EventInfo_mcEventNumber"], split, path)
                any_weight = any_weight or bool(jets.scalars["weight"].any())
                yield jets
        if not any_weight:
            raise DataError(f"{path}: training_weights are all zero, nothing could be learned from these jets")


def _split_of(name: str) -> str:
    name = re.sub(r"_\d+\.h5(\.gz)?$", "", name)
    return NOMINAL_SETS.get(name, f"syst/{name}")


def _number(path: Path, name: str) -> int | None:
    match = re.fullmatch(rf"{name}_(\d+)\.h5(\.gz)?", path.name)
    return int(match[1]) if match else None


def _fetch(name: str, folder: str, then: str = "it is missing there") -> str:
    return f"atlas-top-tagging: put {name}, from {URL}/{name}, into {folder}; {then}"


def _names(needed: list[str]) -> list[str]:
    high_level = [f"fjet_{name}" for name in STORED_HIGH_LEVEL]
    return [*CONSTITUENTS, *JETS.values(), *high_level, "labels", "EventInfo_mcEventNumber", *needed]


def _check_layout(file: Any, path: Path, needed: Any) -> None:
    """Refuse a file that lacks a dataset or whose datasets do not have the same number of rows."""
    names = _names(list(needed))
    with reading(path, "HDF5"):
        shapes = {name: file[name].shape for name in names if name in file}
        found = sorted(file)
    missing = [name for name in names if name not in shapes]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(names)} datasets are missing, the first is {missing[0]}; "
            f"found {', '.join(found) or 'none'}"
        )
    size = shapes["labels"][0]
    for name, shape in shapes.items():
        width = {"EventInfo_mcEventWeights": (NUM_SHOWER_WEIGHTS,)}.get(name, (SLOTS,) if name in CONSTITUENTS else ())
        if shape != (size, *width):
            raise DataError(f"{path}: {name} has the shape {shape}, expected {(size, *width)}")


def _jets(columns: dict[str, np.ndarray], path: Path) -> Jets:
    """A slice without its padding, in GeV."""
    pt_RP, eta_RP, phi_RP, energy_RP, taste_RP = (columns[name] for name in CONSTITUENTS)
    real_RP = ~(pt_RP <= 0)  # NaN stays, to be counted
    pt_N, eta_N, phi_N, energy_N = (x[real_RP].astype(np.float64) for x in (pt_RP, eta_RP, phi_RP, energy_RP))
    p4_N4 = np.column_stack([pt_N * np.cos(phi_N), pt_N * np.sin(phi_N), pt_N * np.sinh(eta_N), energy_N]) / 1e3
    label = columns["labels"]
    if not np.isin(label, (0, 1)).all():
        raise DataError(f"{path}: labels holds {sorted(set(label.tolist()))[:5]}, expected 0 and 1")
    scalars: dict[str, np.ndarray] = {name: columns[stored].astype(np.float32) for name, stored in JETS.items()}
    for name in ("jet_pt", "jet_mass"):
        scalars[name] = scalars[name] / np.float32(1e3)
    for name, stored in zip(HIGH_LEVEL_NAMES, STORED_HIGH_LEVEL):
        scaled = columns[f"fjet_{stored}"].astype(np.float64) / 1e3 ** MEV_POWERS.get(name, 0)
        scalars[name] = scaled.astype(np.float32)
    scalars["event_number"] = columns["EventInfo_mcEventNumber"].astype(np.int64)
    scalars["weight"] = _weights(columns.get("training_weights"), len(label), path)
    if "EventInfo_mcEventWeights" in columns:
        shower = columns["EventInfo_mcEventWeights"].astype(np.float32)
        scalars |= {f"shower_{i}": shower[:, i] for i in range(NUM_SHOWER_WEIGHTS)}
    _check_units(scalars["jet_pt"], np.nansum(np.where(real_RP, pt_RP, 0), axis=1) / 1e3, path)
    check_energy(p4_N4, path, "fjet_clus_E to be the energy of fjet_clus_pt, _eta, _phi")
    values = {name: p4_N4[:, i].astype(np.float32) for i, name in enumerate(P4)}
    values["taste"] = taste_RP[real_RP].astype(np.int8)
    offsets = np.concatenate([[0], np.cumsum(real_RP.sum(axis=1))]).astype(np.int64)
    return Jets(values, offsets, label.astype(np.int64), np.arange(len(label)), scalars)


def _weights(stored: np.ndarray | None, size: int, path: Path) -> np.ndarray:
    if stored is None:
        return np.ones(size, np.float32)
    bad = ~np.isfinite(stored) | (stored < 0)
    if bad.any():
        raise DataError(
            f"{path}: training_weights: {int(bad.sum())} of {size} are negative or not finite, the first is "
            f"{stored[bad][0]:g}; expected weights of 0 and more"
        )
    return stored.astype(np.float32)


def _check_units(jet_pt: np.ndarray, sum_pt: np.ndarray, path: Path) -> None:
    """Refuse jets that are not in MeV, and constituents in another unit than their jets."""
    low, high = PLAUSIBLE_PT
    median = float(np.median(jet_pt))
    if not low < median < high:
        hint = "; the file seems to be in GeV" if low < median * 1e3 < high else ""
        raise DataError(
            f"{path}: the median of fjet_pt is {median * 1e3:.4g}, expected {low * 1e3:g} to {high * 1e3:g} MeV{hint}"
        )
    share = float(np.median(sum_pt)) / median
    if not 0.5 < share < 2.0:
        raise DataError(
            f"{path}: the constituents' pT sum to {share:.3g} of the jets' pT, expected about 1; are fjet_clus_pt "
            "and fjet_pt both in MeV?"
        )


def _check_events(number: np.ndarray, split: str, path: Path) -> None:
    """Event numbers that are multiples of ten belong to the test and varied sets, all others to training."""
    wrong = (number % 10 == 0) == (split == "train")
    if wrong.any():
        rule = "no multiples of ten: those are test events" if split == "train" else "multiples of ten only"
        raise DataError(
            f"{path}: {int(wrong.sum())} event numbers do not belong to the split {split!r}, the first is "
            f"{int(number[wrong][0])}; expected {rule}"
        )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The HDF5 file, unpacked into a temporary one if it is gzipped."""
    import h5py

    if path.suffix != ".gz":
        with reading(path, "HDF5"):
            file = h5py.File(path, "r")
        with file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="jetsweep-") as folder:
        unpacked = Path(folder, path.stem)
        with reading(path, "gzip"), gzip.open(path, "rb") as source, unpacked.open("wb") as target:
            try:
                shutil.copyfileobj(source, target, 1 << 20)
            except OSError as error:
                if error.errno is None:  # the file's fault, not the disk's
                    raise
                raise DataError(f"{path} cannot be unpacked in {tempfile.gettempdir()}: {error.strerror}") from error
        with reading(path, "HDF5"):
            file = h5py.File(unpacked, "r")
        with file:
            yield file
