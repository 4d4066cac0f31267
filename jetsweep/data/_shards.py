"""Memory-mapped record batches of one split: numpy views of Arrow buffers, and ragged gathers from them."""

# Shapes: B rows asked for, N constituents of them, F columns.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.fs

from jetsweep.data.manifest import Shard
from jetsweep.errors import DataError


@dataclass
class Block:
    """One record batch: columns by name, opened on first use."""

    batch: pa.RecordBatch
    first_row: int

    @cached_property
    def _views(self) -> dict[str, np.ndarray]:
        return {}

    def offsets(self, group: str) -> np.ndarray:
        """Offsets of a list column, shape (rows + 1,)."""
        if group not in self._views:
            self._views[group] = self.batch.column(group).offsets.to_numpy()
        return self._views[group]

    def child(self, group: str, name: str) -> np.ndarray:
        """Child of a list column over all rows of the block (indexed by `offsets`)."""
        key = f"{group}.{name}"
        if key not in self._views:
            self._views[key] = _to_numpy(self.batch.column(group).values.field(name))
        return self._views[key]

    def scalar(self, name: str) -> np.ndarray:
        """Scalar column; a dictionary column gives its indices."""
        if name not in self._views:
            column = self.batch.column(name)
            self._views[name] = _to_numpy(column.indices if isinstance(column, pa.DictionaryArray) else column)
        return self._views[name]


def _to_numpy(array: pa.Array) -> np.ndarray:
    # booleans are bit-packed in Arrow: the one type that cannot be a view
    view: np.ndarray = array.to_numpy(zero_copy_only=not pa.types.is_boolean(array.type) and array.null_count == 0)
    return view


class SplitReader:
    """All record batches of a split, in order."""

    def __init__(self, filesystem: pa.fs.FileSystem, folder: str, shards: Sequence[Shard]) -> None:
        self.blocks: list[Block] = []
        row = 0
        for shard in shards:
            path = f"{folder}/{shard.file}"
            for batch in _open_batches(filesystem, path, shard):
                self.blocks.append(Block(batch, row))
                row += batch.num_rows
        self.num_rows = row
        self.starts = np.array([block.first_row for block in self.blocks] + [row])

    def split_by_block(self, rows_B: np.ndarray) -> list[tuple[Block, np.ndarray]]:
        """Group ascending rows by block: (block, rows inside the block)."""
        edges = np.searchsorted(rows_B, self.starts)
        return [
            (block, rows_B[low:high] - block.first_row)
            for block, low, high in zip(self.blocks, edges[:-1], edges[1:])
            if high > low
        ]


def _open_batches(filesystem: pa.fs.FileSystem, path: str, shard: Shard) -> list[pa.RecordBatch]:
    try:
        if isinstance(filesystem, pa.fs.LocalFileSystem):
            source = pa.memory_map(path)
        else:
            source = filesystem.open_input_file(path)
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except FileNotFoundError as error:
        raise DataError(f"{path}: shard missing; the manifest lists it with {shard.rows} rows") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: shard damaged ({str(error).splitlines()[0]}); run `jetsweep data verify`") from error
    rows = sum(batch.num_rows for batch in batches)
    if rows != shard.rows:
        raise DataError(f"{path}: expected {shard.rows} rows as in the manifest, found {rows}")
    return batches


def gather_ragged(
    parts: Sequence[tuple[Block, np.ndarray]], group: str, columns: Sequence[str], longest: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, F) float32 and offsets (B + 1,) int64 of the leading `longest` entries of each row."""
    starts, lengths = [], []
    for block, rows in parts:
        offsets = block.offsets(group)
        low = offsets[rows].astype(np.int64)
        count = offsets[rows + 1] - low
        starts.append(low)
        lengths.append(count if longest is None else np.minimum(count, longest))
    total = int(sum(int(count.sum()) for count in lengths))
    values_NF = np.empty((total, len(columns)), dtype=np.float32)
    at = 0
    for (block, _), low, count in zip(parts, starts, lengths):
        size = int(count.sum())
        index = np.arange(size) + np.repeat(low - (np.cumsum(count) - count), count)
        for i, name in enumerate(columns):
            values_NF[at : at + size, i] = block.child(group, name)[index]
        at += size
    lengths_B = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    return values_NF, np.concatenate([[0], np.cumsum(lengths_B)]).astype(np.int64)
