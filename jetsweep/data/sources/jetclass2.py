"""JetClass-II (Li et al., arXiv:2405.12972): 188 kinds of Delphes jets with pile-up, in Parquet or ROOT files."""

# Shapes: R jets of a slice, N constituents of all of them.

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._files import FileOptions, FileSource, Input, Published, check_energy
from jetsweep.data.sources._jets import FLAGS, P4, TRACKS, Jets
from jetsweep.data.sources._ragged import flat, ragged_columns
from jetsweep.data.sources._tables import ParquetTable, RootTable, TableFile
from jetsweep.data.sources.jetclass import PARTICLES
from jetsweep.data.sources.jetclass import SCALARS as JET_SCALARS
from jetsweep.errors import DataError

NUM_LABELS = 188
PARTS = {"two-prong": range(15), "three-four-prong": range(15, 161), "qcd": range(161, NUM_LABELS)}
"""Values of `jet_label` of each part."""
LAST_FILES = {"Res2P": (200, 250, 300), "Res34P": (860, 1075, 1290), "QCD": (280, 350, 420)}
"""Numbers where the training, validation and test files of each part end."""
BRANCHES = (*PARTICLES.values(), *JET_SCALARS, "jet_label")


class JetClass2Options(FileOptions):
    """Options of the source `jetclass2`."""

    name: Literal["jetclass2"] = "jetclass2"
    labels: Literal["parts", "numbers"] = Field(
        "parts", description="Classes: the three parts (two-prong, three-four-prong, qcd), or label_0 … label_187."
    )


@register_source
class JetClass2Source(FileSource):
    """Files are on this machine already; the published numbers in their names tell the splits."""

    config: JetClass2Options
    options: ClassVar[type[SourceOptions]] = JetClass2Options
    description = "JetClass-II, arXiv:2405.12972: 188 kinds of Delphes jets with pile-up, Parquet or ROOT."
    plausible_pt = (100.0, 3000.0)
    slice_rows = 2_000

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Parts, or one class for each value of `jet_label`."""
        return tuple(PARTS) if self.config.labels == "parts" else tuple(f"label_{i}" for i in range(NUM_LABELS))

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "charge", *FLAGS, *TRACKS)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*JET_SCALARS, "jet_mass", "jet_label")

    def published(self) -> list[Published]:
        return []

    def inputs(self) -> list[Input]:
        """Files as given, or all below a folder with the split that their names tell."""
        if self.config.files is not None:
            return super().inputs()
        if self.config.path is None:
            raise DataError("source jetclass2: give `path` or `files`; the files are not downloaded here")
        folder = Path(self.config.path)
        found = sorted(x for x in folder.rglob("*") if x.suffix in (".parquet", ".root") and x.is_file())
        if not found:
            raise DataError(f"{folder}: expected a folder with .parquet or .root files of JetClass-II")
        return [Input(path, _split_of(path)) for path in found]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "arXiv:2405.12972",
            "licence": "MIT",
            "jet_scalars": "as stored; jet_mass derived from the stored four-vector",
            "conventions": "pseudorapidity; impact parameters in mm; PUPPI-corrected, about 50 pile-up interactions",
        }

    def count(self, path: Path) -> int:
        with _open(path) as table:
            table.check(BRANCHES)
            return table.num_rows

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with _open(path) as table:
            for columns in table.slices(BRANCHES, rows, self.slice_rows):
                stored, offsets = ragged_columns(columns, PARTICLES, None, path)
                values: dict[str, np.ndarray] = {name: stored[name].astype(np.float32) for name in (*P4, *TRACKS)}
                check_energy(np.column_stack([values[name] for name in P4]), path, "part_px … part_energy")
                values["charge"] = np.rint(stored["charge"]).astype(np.int8)
                values |= {name: stored[name] != 0 for name in FLAGS}
                scalars = {name: flat(columns[name], name, path).astype(np.float32) for name in JET_SCALARS}
                pt, eta, energy = (scalars[n].astype(np.float64) for n in ("jet_pt", "jet_eta", "jet_energy"))
                mass = np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0.0))
                number = flat(columns["jet_label"], "jet_label", path).astype(np.int64)
                scalars |= {"jet_mass": mass.astype(np.float32), "jet_label": number.astype(np.float32)}
                yield Jets(values, offsets, self._classes_of(number, path), np.arange(len(number)), scalars)

    def _classes_of(self, number: np.ndarray, path: Path) -> np.ndarray:
        outside = np.unique(number[(number < 0) | (number >= NUM_LABELS)])
        if len(outside):
            raise DataError(f"{path}: jet_label holds {outside[:5].tolist()}, expected 0 to {NUM_LABELS - 1}")
        if self.config.labels == "numbers":
            return number
        starts = [values.start for values in PARTS.values()]
        return np.asarray(np.searchsorted(starts, number, side="right") - 1)


def _open(path: Path) -> TableFile:
    return RootTable(path, "tree") if path.suffix == ".root" else ParquetTable(path)


def _split_of(path: Path) -> str:
    """By the part and the number that end its name: Res2P_0210 is the validation's."""
    match = re.search(r"(Res2P|Res34P|QCD)_(\d{4})$", path.stem)
    if match is None:
        raise DataError(f"{path}: expected a name such as Res2P_0000, which tells the split; or give `files`")
    for split, end in zip(("train", "val", "test"), LAST_FILES[match[1]]):
        if int(match[2]) < end:
            return split
    raise DataError(f"{path}: {match[1]} has the files 0 to {LAST_FILES[match[1]][2] - 1}, found {match[2]}")
