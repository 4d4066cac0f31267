"""Columns of HDF5, Parquet and ROOT files by name, in slices of rows: flat, ragged or padded, as they are stored."""

# Shapes: R rows of a slice, N entries of all their lists, P padded slots.

from __future__ import annotations

import contextlib
import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from jetsweep.data.sources._files import reading
from jetsweep.errors import DataError


@dataclass(frozen=True)
class Lists:
    """A ragged column: `values` (N,) and `offsets` (R + 1,)."""

    values: np.ndarray
    offsets: np.ndarray


Column = np.ndarray | Lists
"""A value per row (R,), padded values (R, P), or lists."""


class TableFile(ABC):
    """One file, open for reading; a context manager.

    Attributes
    ----------
    names : list of str
    num_rows : int
    """

    kind: str
    names: list[str]
    num_rows: int

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def check(self, names: Sequence[str]) -> None:
        """Raise a `DataError` that names the first column which is not there, and the nearest that is."""
        for name in names:
            if name not in self.names:
                close = difflib.get_close_matches(name, self.names, n=1)
                hint = f", did you mean {close[0]!r}?" if close else f"; there are {_some(self.names)}"
                raise DataError(f"{self.path}: there is no column {name!r}{hint}")

    @abstractmethod
    def slices(self, names: Sequence[str], rows: int, step: int) -> Iterator[dict[str, Column]]:
        """Columns of the first `rows` rows, at most `step` rows at a time."""


class ParquetTable(TableFile):
    """Parquet: numbers, text, lists of numbers, and children of lists of structs (``particles.px``)."""

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        super().__init__(path)
        with reading(path, self.kind):
            self._file = pq.ParquetFile(path)
        self.num_rows = int(self._file.metadata.num_rows)
        self.names = []
        for field in self._file.schema_arrow:
            inner = getattr(field.type, "value_type", None)
            if inner is not None and pa.types.is_struct(inner):
                self.names += [f"{field.name}.{child.name}" for child in inner]
            else:
                self.names.append(field.name)

    def close(self) -> None:
        self._file.close()

    def slices(self, names: Sequence[str], rows: int, step: int) -> Iterator[dict[str, Column]]:
        tops = {name: name if name in self._file.schema_arrow.names else name.split(".")[0] for name in names}
        batches = self._file.iter_batches(batch_size=step, columns=list(dict.fromkeys(tops.values())))
        while rows:
            with reading(self.path, self.kind):
                batch = next(batches)
                batch = batch.slice(0, min(rows, len(batch)))
                columns = {name: self._column(batch, name, tops[name]) for name in names}
            rows -= len(batch)
            yield columns

    def _column(self, batch: Any, name: str, top: str) -> Column:
        import pyarrow as pa
        import pyarrow.compute

        array = batch[top]
        if not hasattr(array.type, "value_type") or pa.types.is_dictionary(array.type):
            if array.null_count:
                raise DataError(f"{self.path}: the column {name!r} holds empty cells (null)")
            flat: np.ndarray = array.to_numpy(zero_copy_only=False)
            return flat.astype(str) if flat.dtype == object else flat
        lengths = pa.compute.fill_null(pa.compute.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        values = array.flatten()
        if name != top:
            values = values.field(name.removeprefix(f"{top}."))
        return Lists(values.to_numpy(zero_copy_only=False), _offsets(lengths))


class HDF5Table(TableFile):
    """HDF5: datasets by path, ``jets:pt`` for a field of a compound, ``particles:0`` for a place on the last axis."""

    kind = "HDF5"

    def __init__(self, path: Path) -> None:
        import h5py

        # Blosc, which many files are compressed with, is a plug-in
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401
        super().__init__(path)
        self.names, lengths = [], {}
        with reading(path, self.kind):
            self._file = h5py.File(path, "r")
            found: list[Any] = []
            self._file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
            for data in found:
                name = data.name.lstrip("/")
                if data.ndim == 0 or data.ndim > 3:
                    continue
                lengths[name] = len(data)
                if data.dtype.names:
                    self.names += [f"{name}:{field}" for field in data.dtype.names]
                else:
                    self.names.append(name)
                    self.names += [f"{name}:{i}" for i in range(data.shape[-1] if data.ndim > 1 else 0)]
        self._lengths = lengths
        self.num_rows = max(lengths.values(), default=0)

    def close(self) -> None:
        self._file.close()

    def check(self, names: Sequence[str]) -> None:
        super().check(names)
        lengths = {name: self._lengths[name.rpartition(":")[0] or name] for name in names}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.path}: the columns have different numbers of rows: {lengths}")
        self.num_rows = next(iter(lengths.values()), 0)

    def slices(self, names: Sequence[str], rows: int, step: int) -> Iterator[dict[str, Column]]:
        for start in range(0, rows, step):
            with reading(self.path, self.kind):
                stored: dict[str, np.ndarray] = {}
                yield {name: self._column(name, slice(start, min(start + step, rows)), stored) for name in names}

    def _column(self, name: str, rows: slice, stored: dict[str, np.ndarray]) -> Column:
        dataset, _, place = name.rpartition(":")
        data = dataset or place
        if data not in stored:
            stored[data] = self._file[data][rows]
        values = stored[data]
        if dataset:
            values = values[place] if values.dtype.names else values[..., int(place)]
        if values.dtype.kind == "S":
            return values.astype(str)
        if values.dtype.hasobject:  # text, or lists of variable length
            if len(values) and isinstance(values[0], np.ndarray):
                return Lists(np.concatenate(values), _offsets(np.array([len(x) for x in values])))
            return np.array([x.decode() if isinstance(x, bytes) else str(x) for x in values])
        return values


class RootTable(TableFile):
    """ROOT: the branches of a TTree or the fields of an RNTuple; `tree` may be left out where there is only one."""

    kind = "ROOT"

    def __init__(self, path: Path, tree: str | None = None) -> None:
        try:
            import awkward  # noqa: F401
            import uproot
        except ImportError as error:
            raise DataError(f"{path}: ROOT files need uproot: pip install 'jetsweep[root]'") from error
        super().__init__(path)
        with reading(path, self.kind):
            self._file = uproot.open(path)
            classes = self._file.classnames(recursive=True, cycle=False)
        trees = [name for name, kind in classes.items() if kind in ("TTree", "TNtuple", "ROOT::RNTuple")]
        chosen = tree if tree is not None else trees[0] if len(trees) == 1 else None
        if chosen not in trees:
            self._file.close()
            expected = f"a TTree called {tree!r}" if tree else "one TTree, or the option `tree`"
            raise DataError(f"{path}: expected {expected}, found {', '.join(trees) or 'none'}")
        with reading(path, self.kind):
            self._tree = self._file[chosen]
            # members of a split object carry the object's name as a folder
            self._keys = {key.rpartition("/")[2]: key for key in reversed(list(self._tree.keys()))}
            self.names = list(self._keys)[::-1]
            self.num_rows = int(self._tree.num_entries)

    def close(self) -> None:
        self._file.close()

    def awkward(self, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Branches as awkward arrays, by name."""
        with reading(self.path, self.kind):
            return {
                name: self._tree[self._keys[name]].array(entry_start=start, entry_stop=stop, library="ak")
                for name in names
            }

    def slices(self, names: Sequence[str], rows: int, step: int) -> Iterator[dict[str, Column]]:
        for start in range(0, rows, step):
            arrays = self.awkward(names, start, min(start + step, rows))
            with reading(self.path, self.kind):
                columns = {name: self._column(name, array) for name, array in arrays.items()}
            yield columns

    def _column(self, name: str, array: Any) -> Column:
        import awkward as ak

        if ak.fields(array) or array.ndim > 2:
            raise DataError(
                f"{self.path}: the branch {name!r} holds {ak.type(array)}, expected numbers or lists of them"
            )
        if array.ndim == 1:
            return np.asarray(ak.to_numpy(array))
        return Lists(np.asarray(ak.to_numpy(ak.flatten(array))), _offsets(ak.to_numpy(ak.num(array))))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])} … ({len(names)} in all)"
