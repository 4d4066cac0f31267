"""Prediction files: scores beside row numbers, labels and jet scalars, as Parquet, HDF5 or ROOT."""

# Shapes: B jets of a batch.

from __future__ import annotations

import contextlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from jetsweep.data.dataset import Dataset
from jetsweep.errors import DataError
from jetsweep.training.checkpoint import LoadedModel
from jetsweep.training.inference import predict_batches

PARQUET, HDF5, ROOT = (".parquet", ".pq"), (".h5", ".hdf5"), (".root",)
TABLE = "jets"
"""Name of the one compound dataset in an HDF5 file, and of the tree in a ROOT file."""


def predict_to_file(
    loaded: LoadedModel,
    dataset: Dataset,
    out: Path,
    splits: Sequence[str] | None = None,
    *,
    device: torch.device | None = None,
    batch_size: int | None = None,
    batches: Callable[[str], Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]] | None = None,
    about: dict[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the model's predictions of every jet; memory does not grow with the dataset.

    Columns: ``split``, ``row`` (in the split), ``label`` (name of the class), the dataset's scalars as they are stored,
    and what the task predicts, e.g. ``score_top``.

    Parameters
    ----------
    loaded : LoadedModel
    dataset : Dataset
    out : Path
        Ends in ``.parquet``, ``.h5`` or ``.root``; appears when it is complete and not before.
    splits : sequence of str, optional
        All that have jets by default.
    device : torch.device, optional
    batch_size : int, optional
    batches : callable, optional
        Makes the predictions of a split, as `predict_batches`, where they are not those of `loaded` alone.
    about : dict, optional
        Written into the file's metadata, beside model, classes and the dataset's digest.
    progress : callable, optional
        Called with (jets done, jets in all).

    Returns
    -------
    int
        Number of jets.

    Raises
    ------
    DataError
        If the file cannot be written, or the dataset does not suit the model.
    """
    kinds: tuple[tuple[tuple[str, ...], type[_File]], ...]
    kinds = ((PARQUET, _ParquetFile), (HDF5, _HDF5File), (ROOT, _RootFile))
    writer_of = next((kind for suffixes, kind in kinds if out.suffix.lower() in suffixes), None)
    if writer_of is None:
        found = repr(out.suffix or "no suffix")
        raise DataError(f"{out}: expected a name that ends in .parquet, .h5 or .root, found {found}")
    chosen = [name for name in dataset.splits if dataset.num_rows(name)] if splits is None else list(splits)
    total, done = sum(dataset.num_rows(name) for name in chosen), 0
    facts = {
        "model": loaded.spec.model.name,
        "classes": json.dumps(list(loaded.classes)),
        "dataset": dataset.path,
        "dataset_digest": dataset.digest,
        **(about or {}),
    }
    try:
        with writer_of(out, facts) as file:
            for split in chosen:
                stored = _scalars(dataset, split)
                made = (
                    batches(split)
                    if batches is not None
                    else predict_batches(loaded, dataset, split, device=device, batch_size=batch_size)
                )
                for rows, predicted in made:
                    table = stored.slice(int(rows[0]), len(rows))  # rows are in order and without gaps
                    file.write(_columns(table, split, rows, predicted))
                    done += len(rows)
                    if progress is not None:
                        progress(done, total)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    return done


def _scalars(dataset: Dataset, split: str) -> pa.Table:
    """Labels and scalar columns, memory-mapped."""
    table = dataset.to_arrow(split)
    names = [name for name in table.column_names if name not in dataset.manifest.groups]
    return table.select(names)


def _columns(table: pa.Table, split: str, rows: np.ndarray, predicted: dict[str, np.ndarray]) -> pa.Table:
    columns: dict[str, Any] = {"split": pa.array([split] * len(rows), pa.string()), "row": pa.array(rows, pa.int64())}
    for name in table.column_names:
        column = table.column(name)
        columns[name] = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    clash = columns.keys() & predicted.keys()
    if clash:
        raise DataError(f"the dataset has columns named like predictions: {', '.join(sorted(clash))}")
    return pa.table({**columns, **{name: pa.array(x) for name, x in predicted.items()}})


class _File(ABC):
    """Grows under a temporary name; takes its own when it is complete."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self.path, self.about = path, about
        self.temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> _File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(Exception):  # the file is thrown away, and the first error is the one to tell
                self.close()
            self.temporary.unlink(missing_ok=True)
            return
        try:
            self.close()
            with self.temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)
        except BaseException:
            self.temporary.unlink(missing_ok=True)
            raise

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Append rows."""

    @abstractmethod
    def close(self) -> None:
        """Write what is buffered."""


class _ParquetFile(_File):
    writer: Any = None

    def write(self, table: pa.Table) -> None:
        if self.writer is None:
            import pyarrow.parquet

            schema = table.schema.with_metadata({f"jetsweep.{name}": text for name, text in self.about.items()})
            self.writer = pyarrow.parquet.ParquetWriter(self.temporary, schema, compression="zstd")
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class _HDF5File(_File):
    """One compound dataset `jets`, a row per jet, as the field's taggers write theirs."""

    file: Any = None

    def write(self, table: pa.Table) -> None:
        import h5py

        rows = _records(table)
        if self.file is None:
            self.file = h5py.File(self.temporary, "w")
            self.file.attrs.update({f"jetsweep.{name}": text for name, text in self.about.items()})
            self.file.create_dataset(TABLE, shape=(0,), maxshape=(None,), dtype=rows.dtype, chunks=True, shuffle=True)
        stored = self.file[TABLE]
        start = len(stored)
        stored.resize(start + len(rows), axis=0)
        stored[start:] = rows

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class _RootFile(_File):
    """One TTree `jets`; what is known about the predictions is the JSON text beside it, called `jetsweep`."""

    file: Any = None

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        try:
            import awkward  # noqa: F401
            import uproot  # noqa: F401
        except ImportError as error:
            raise DataError(f"{path}: ROOT files need uproot: pip install 'jetsweep[root]'") from error
        super().__init__(path, about)

    def write(self, table: pa.Table) -> None:
        import awkward as ak
        import uproot

        columns = {}
        for name in table.column_names:
            column = table.column(name)
            text = pa.types.is_string(column.type)
            columns[name] = ak.Array(column.to_pylist() if text else column.to_numpy())
        if self.file is None:
            self.file = uproot.recreate(self.temporary)
            self.file.mktree(TABLE, {name: ak.type(x).content for name, x in columns.items()})
            self.file["jetsweep"] = json.dumps(self.about)
        self.file[TABLE].extend(columns)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _records(table: pa.Table) -> np.ndarray:
    """Rows as a structured array; text as HDF5 strings."""
    import h5py

    columns = {}
    for name in table.column_names:
        column = table.column(name)
        text = pa.types.is_string(column.type)
        values = column.to_numpy()
        columns[name] = (values, h5py.string_dtype() if text else values.dtype)
    rows = np.empty(table.num_rows, dtype=[(name, dtype) for name, (_, dtype) in columns.items()])
    for name, (values, _) in columns.items():
        rows[name] = values
    return rows
