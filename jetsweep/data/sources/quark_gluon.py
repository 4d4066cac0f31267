"""Quark and gluon jets from EnergyFlow (Komiske, Metodiev, Thaler, arXiv:1810.05165; Zenodo 3164691, 3066475)."""

# Shapes: R jets of a slice, P padded slots, N constituents, 4 = (pt [GeV], rapidity, phi, PDG id) as stored.

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._checksums import QUARK_GLUON
from jetsweep.data.sources._files import FileOptions, FileSource, Published, reading
from jetsweep.data.sources._jets import FLAGS, Jets, flags_of_ids
from jetsweep.errors import DataError

RECORDS = {"pythia": "3164691", "herwig": "3066475"}
STEMS = {
    ("pythia", "uds"): "QG_jets",
    ("pythia", "udscb"): "QG_jets_withbc_0",
    ("herwig", "uds"): "QG_jets_herwig_0",
    ("herwig", "udscb"): "QG_jets_herwig_withbc_0",
}
MASSES = {
    11: 0.000511, 13: 0.105658, 22: 0.0, 130: 0.497611, 211: 0.139570, 310: 0.497611, 321: 0.493677, 2112: 0.939565,
    2212: 0.938272,
}  # fmt: skip
"""GeV, of the particles that occur."""


class QuarkGluonOptions(FileOptions):
    """Options of the source `quark-gluon`."""

    name: Literal["quark-gluon"] = "quark-gluon"
    generator: Literal["pythia", "herwig"] = Field("pythia", description="Which generator's files.")
    flavours: Literal["uds", "udscb"] = Field(
        "uds", description="Quark flavours: uds, or with charm and bottom; the two sets are never mixed."
    )
    masses: Literal["pdg", "zero"] = Field(
        "pdg", description="Constituent masses by PDG id, or 0 as in the files of weaver's authors."
    )


@register_source
class QuarkGluonSource(FileSource):
    """Reads the npz files slice by slice out of the zip; 16 files train, 2 val, 2 test, in the published order."""

    options: ClassVar[type[SourceOptions]] = QuarkGluonOptions
    config: QuarkGluonOptions
    description = "EnergyFlow quark/gluon jets, arXiv:1810.05165: 2M particle-level jets per generator, 500-550 GeV."
    classes = ("gluon", "quark")
    plausible_pt = (300.0, 900.0)

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return ("px", "py", "pz", "energy", "pdg_id", "charge", *FLAGS)

    def published(self) -> list[Published]:
        key = (self.config.generator, self.config.flavours)
        stem, url = STEMS[key], f"https://zenodo.org/records/{RECORDS[key[0]]}/files"
        names = [f"{stem.removesuffix('_0')}_{i}.npz" if i else f"{stem}.npz" for i in range(20)]
        splits = ["train"] * 16 + ["val"] * 2 + ["test"] * 2
        return [Published(n, s, f"{url}/{n}", md5) for n, s, md5 in zip(names, splits, QUARK_GLUON[key], strict=True)]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "arXiv:1810.05165, Zenodo 3164691 (Pythia) and 3066475 (Herwig)",
            "generator": f"{self.config.generator}, {self.config.flavours}, particle level, anti-kt R = 0.4",
            "masses": self.config.masses,
            "conventions": "energy and pz from rapidity and mT; phi wrapped into [-pi, pi]; sorted by pT",
        }

    def count(self, path: Path) -> int:
        with _Npz(path) as npz:
            return npz.shape[0]

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with _Npz(path) as npz:
            labels = npz.labels()
            for start in range(0, rows, self.slice_rows):
                stop = min(start + self.slice_rows, rows)
                yield self._jets(npz.rows(stop - start), labels[start:stop], path)

    def _jets(self, stored_RP4: np.ndarray, label_R: np.ndarray, path: Path) -> Jets:
        real_RP = (stored_RP4 != 0).any(axis=2)
        pt_N, rapidity_N, phi_N, id_N = stored_RP4[real_RP].astype(np.float64).T
        known_N = np.isfinite(id_N)
        if not (np.round(id_N[known_N]) == id_N[known_N]).all():
            raise DataError(f"{path}: column 3 of X is not a PDG id, expected (pt, rapidity, phi, PDG id)")
        id_N = np.where(known_N, id_N, 0).astype(np.int32)
        phi_N = (phi_N + np.pi) % (2 * np.pi) - np.pi
        mass_N = self._mass(id_N, path) if self.config.masses == "pdg" else np.zeros(len(id_N))
        transverse_N = np.hypot(pt_N, mass_N)
        # a negative pT is damage, which the sign of the energy carries to the count of dropped jets
        p4 = (pt_N * np.cos(phi_N), pt_N * np.sin(phi_N), transverse_N * np.sinh(rapidity_N))
        energy_N = np.where(pt_N < 0, -1.0, 1.0) * transverse_N * np.cosh(rapidity_N)
        values = {n: x.astype(np.float32) for n, x in zip(("px", "py", "pz", "energy"), (*p4, energy_N))}
        values |= {"pdg_id": id_N, **flags_of_ids(id_N)}
        offsets = np.concatenate([[0], np.cumsum(real_RP.sum(axis=1))])
        return Jets(values, offsets, label_R.astype(np.int64), np.arange(len(label_R)))

    def _mass(self, id_N: np.ndarray, path: Path) -> np.ndarray:
        absolute_N = np.abs(id_N)
        ids, inverse = np.unique(absolute_N, return_inverse=True)
        unknown = [int(i) for i in ids if int(i) not in MASSES and i != 0]
        if unknown:
            raise DataError(f"{path}: PDG ids {unknown[:5]} have no known mass here; use masses: zero")
        return np.array([MASSES.get(int(i), 0.0) for i in ids])[inverse]


class _Npz:
    """`X` (rows, P, 4) and `y` (rows,) of one npz file; X is streamed, nothing is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: Any = None
        with reading(path, "npz"):
            self._zip = zipfile.ZipFile(path)
        try:
            members = sorted(n.removesuffix(".npy") for n in self._zip.namelist())
            if not {"X", "y"} <= set(members):
                raise DataError(f"{path}: expected the arrays X and y, found {', '.join(members) or 'none'}")
            with reading(path, "npz"):
                self._stream = self._zip.open("X.npy")
                self.shape, self._dtype = self._header(self._stream, "X")
            if len(self.shape) != 3 or self.shape[2] != 4:
                raise DataError(
                    f"{path}: X has the shape {self.shape}, expected (jets, constituents, 4): pt, rapidity, phi, PDG id"
                )
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> _Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._stream is not None:  # it keeps the file open, whatever becomes of the archive
            self._stream.close()
        self._zip.close()

    def _header(self, stream: Any, name: str) -> tuple[tuple[int, ...], np.dtype]:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise DataError(f"{self.path}: {name} is an object array, which is never unpickled")
        if dtype.kind not in "fiu":
            raise DataError(f"{self.path}: {name} holds {dtype}, expected numbers")
        if fortran:
            raise DataError(f"{self.path}: {name} is stored in Fortran order, expected C order")
        return shape, dtype

    def labels(self) -> np.ndarray:
        """All of y, 0 gluon, 1 quark."""
        with reading(self.path, "npz"), self._zip.open("y.npy") as stream:
            shape, dtype = self._header(stream, "y")
            y = np.frombuffer(stream.read(), dtype)
        if shape != (self.shape[0],):
            raise DataError(f"{self.path}: y has the shape {shape}, expected ({self.shape[0]},)")
        if not np.isin(y, (0, 1)).all():
            raise DataError(f"{self.path}: y holds {np.unique(y)[:5].tolist()}, expected 0 and 1")
        return y

    def rows(self, number: int) -> np.ndarray:
        """The next rows of X."""
        size = number * self.shape[1] * 4 * self._dtype.itemsize
        with reading(self.path, "npz"):
            data = self._stream.read(size)
            if len(data) != size:
                raise EOFError(f"X ends {size - len(data)} bytes early")
        return np.frombuffer(data, self._dtype).reshape(number, self.shape[1], 4)
