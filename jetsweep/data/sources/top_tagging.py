"""The top-tagging reference set (Kasieczka et al., arXiv:1902.09914; Zenodo 2603256): top against QCD jets in HDF5."""

# Shapes: R rows (jets) of a slice, 200 constituent slots, 4 = (px, py, pz, energy) in GeV.

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._files import FileOptions, FileSource, Published, check_energy, reading
from jetsweep.data.sources._jets import P4, Jets
from jetsweep.errors import DataError

RECORD = "2603256"
SLOTS = 200
FLOATS = [f"{part}_{i}" for i in range(SLOTS) for part in ("E", "PX", "PY", "PZ")]
TRUTH = ["truthE", "truthPX", "truthPY", "truthPZ"]
INTEGERS = ["ttv", "is_signal_new"]


class TopTaggingOptions(FileOptions):
    """Options of the source `top-tagging`."""

    name: Literal["top-tagging"] = "top-tagging"


@register_source
class TopTaggingSource(FileSource):
    """Reads pandas HDF5, table or fixed format, with h5py in slices of rows; published splits."""

    options: ClassVar[type[SourceOptions]] = TopTaggingOptions
    description = "Top-tagging reference set, arXiv:1902.09914: 2M Delphes jets, 550-650 GeV, top against QCD."
    classes = ("qcd", "top")
    plausible_pt = (300.0, 1000.0)

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return P4

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, "truth_px", "truth_py", "truth_pz", "truth_energy")

    def published(self) -> list[Published]:
        url = f"https://zenodo.org/records/{RECORD}/files"
        return [Published(f"{s}.h5", s, f"{url}/{s}.h5", None) for s in ("train", "val", "test")]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "arXiv:1902.09914, doi 10.5281/zenodo.2603256",
            "licence": "CC-BY-4.0",
            "generator": "Pythia 8 and Delphes (ATLAS card), 14 TeV, anti-kt R = 0.8, as published",
            "truth": "truth_* is the top's four-vector, 0 for qcd",
        }

    def count(self, path: Path) -> int:
        with _open(path) as file:
            return _Layout(file, path).rows

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with _open(path) as file:
            layout = _Layout(file, path)
            for start in range(0, rows, self.slice_rows):
                with reading(path, "HDF5"):
                    floats, signal = layout.slice(start, min(start + self.slice_rows, rows))
                yield _jets(floats, signal, path)


def _jets(floats: np.ndarray, signal: np.ndarray, path: Path) -> Jets:
    """A slice without its padding; `floats` (R, 804) starts with E_0, PX_0, PY_0, PZ_0."""
    p4_R4 = floats[:, : 4 * SLOTS].reshape(len(floats), SLOTS, 4)[..., [1, 2, 3, 0]]
    real_RP = (p4_R4 != 0).any(axis=2)
    p4_N4 = p4_R4[real_RP]
    check_energy(p4_N4, path, "columns E, PX, PY, PZ in this order")
    if not np.isin(signal, (0, 1)).all():
        raise DataError(f"{path}: is_signal_new holds {sorted(set(signal.tolist()))[:5]}, expected 0 and 1")
    truth = floats[:, 4 * SLOTS :].astype(np.float32)
    scalars = dict(zip(("truth_energy", "truth_px", "truth_py", "truth_pz"), truth.T))
    return Jets(
        {name: p4_N4[:, i].astype(np.float32) for i, name in enumerate(P4)},
        np.concatenate([[0], np.cumsum(real_RP.sum(axis=1))]),
        signal.astype(np.int64),
        np.arange(len(signal)),
        scalars,
    )


class _Layout:
    """Where the 804 numbers and the label of each row are, found by inspection; no pickled attribute is read."""

    def __init__(self, file: Any, path: Path) -> None:
        self.slice: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
        with reading(path, "HDF5"):
            group = file.get("table")
            keys = sorted(group) if hasattr(group, "keys") else []
        if "table" in keys:
            self._table(group["table"], path)
        elif "axis0" in keys and "block0_values" in keys:
            self._fixed(group, path)
        else:
            found = f"'table' with {keys}" if keys else f"{sorted(file)}"
            raise DataError(
                f"{path}: expected a pandas table under the key 'table' (table format: table/table; fixed format: "
                f"table/axis0 and table/block0_values), found {found}"
            )

    def _table(self, table: Any, path: Path) -> None:
        names = table.dtype.names or ()
        self.rows = len(table)
        widths = {n: int(np.prod(table.dtype[n].shape, dtype=int)) for n in names if n != "index"}
        if widths.get("values_block_0") == 804 and widths.get("values_block_1") == 2:

            def blocks(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
                part = table[start:stop]
                return part["values_block_0"], part["values_block_1"][:, 1]

            self.slice = blocks
        elif set(FLOATS + TRUTH) | {"is_signal_new"} <= set(names):

            def columns(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
                part = table[start:stop]
                return np.column_stack([part[n] for n in FLOATS + TRUTH]), part["is_signal_new"]

            self.slice = columns
        else:
            raise DataError(
                f"{path}: table/table holds blocks of {widths} columns, expected 804 floats (E_0 … PZ_199, truth) and "
                "2 integers (ttv, is_signal_new)"
            )

    def _fixed(self, group: Any, path: Path) -> None:
        where: dict[str, tuple[str, int]] = {}
        for key in sorted(k for k in group if k.startswith("block") and k.endswith("_items")):
            for i, name in enumerate(group[key][:]):
                where[name.decode() if isinstance(name, bytes) else str(name)] = (key.replace("items", "values"), i)
        missing = [n for n in [*FLOATS, *TRUTH, "is_signal_new"] if n not in where]
        if missing:
            raise DataError(f"{path}: {len(missing)} of the 806 columns are missing, the first is {missing[0]}")
        used = sorted({where[n][0] for n in [*FLOATS, *TRUTH, "is_signal_new"]})
        objects = [b for b in used if group[b].dtype.hasobject]
        if objects:
            raise DataError(f"{path}: table/{objects[0]} is an object array, which is never read")
        self.rows = len(group["axis1"])

        def slice_(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            parts = {b: group[b][start:stop] for b in used}
            floats = np.empty((stop - start, len(FLOATS) + 4), np.float64)
            for i, name in enumerate([*FLOATS, *TRUTH]):
                block, column = where[name]
                floats[:, i] = parts[block][:, column]
            block, column = where["is_signal_new"]
            return floats, parts[block][:, column]

        self.slice = slice_


def _open(path: Path) -> Any:
    import h5py

    # Blosc, which pandas files may be compressed with, is a plug-in
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401
    with reading(path, "HDF5"):
        return h5py.File(path, "r")
