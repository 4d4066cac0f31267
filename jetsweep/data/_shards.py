"""Memory-mapped record batches of one split: numpy views of Arrow buffers, and ragged gathers from them."""

# Shapes: B rows asked for, N constituents of them, F columns.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.fs

from jetsweep.data._host import gather_rows
from jetsweep.data.manifest import Shard
from jetsweep.errors import DataError

_ROWS_IN_CACHE = 8192
"""Rows that are put side by side at once; more would leave the processor's cache between two columns."""


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
            self._views[group] = _to_numpy(self.batch.column(group).offsets)
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
    if pa.types.is_boolean(array.type) or array.null_count:  # bits, and holes, cannot be a view
        copy: np.ndarray = array.to_numpy(zero_copy_only=False)
        return copy
    return np.from_dlpack(array)  # a view; `to_numpy` would import pandas


class SplitReader:
    """All record batches of a split, in order.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
    folder : str
    shards : sequence of Shard
    check : callable
        Called with the path and a record batch of each shard; raises if the columns are not those that are expected.
    """

    def __init__(
        self,
        filesystem: pa.fs.FileSystem,
        folder: str,
        shards: Sequence[Shard],
        check: Callable[[str, pa.RecordBatch], None],
    ) -> None:
        self.blocks: list[Block] = []
        row = 0
        for shard in shards:
            path = f"{folder}/{shard.file}"
            batches = _open_batches(filesystem, path, shard)
            for batch in batches[:1]:
                check(path, batch)
            for batch in batches:
                self.blocks.append(Block(batch, row))
                row += batch.num_rows
        self.num_rows = row
        self.starts = np.array([block.first_row for block in self.blocks] + [row])

    def split_by_block(self, rows_B: np.ndarray) -> list[tuple[Block, np.ndarray]]:
        """Group ascending rows by block: (block, rows inside the block)."""
        if not len(rows_B):
            return []
        # only the blocks of these rows are looked at: a large dataset has ten thousands of others
        block_B = np.searchsorted(self.starts, rows_B, side="right") - 1
        edges = [0, *(np.flatnonzero(np.diff(block_B)) + 1).tolist(), len(rows_B)]
        blocks = [self.blocks[i] for i in block_B[edges[:-1]]]
        return [(block, rows_B[low:high] - block.first_row) for block, low, high in zip(blocks, edges[:-1], edges[1:])]


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


class Matrices:
    """List columns of a few blocks as float32 rows (N, F): a jet is then one stretch of memory and not F of them.

    Shuffled batches come back to the same blocks again and again; a block's columns are put side by side once.

    Parameters
    ----------
    keep : int
        Blocks that are kept, those used last.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._kept: OrderedDict[tuple[int, str, tuple[str, ...]], np.ndarray] = OrderedDict()

    def of(self, block: Block, group: str, columns: tuple[str, ...]) -> np.ndarray:
        """Rows of all entries of a list column, in the order of `Block.offsets`, which count from 0 here."""
        key = (block.first_row, group, columns)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        while len(self._kept) >= self.keep:
            self._kept.popitem(last=False)
        first, last = (int(block.offsets(group)[i]) for i in (0, -1))
        matrix_NF = np.empty((last - first, len(columns)), dtype=np.float32)
        children = [block.child(group, name)[first:last] for name in columns]
        for low in range(0, last - first, _ROWS_IN_CACHE):
            part_NF = matrix_NF[low : low + _ROWS_IN_CACHE]
            for i, child in enumerate(children):
                part_NF[:, i] = child[low : low + _ROWS_IN_CACHE]
        self._kept[key] = matrix_NF
        return matrix_NF


def gather_ragged(
    parts: Sequence[tuple[Block, np.ndarray]],
    group: str,
    columns: Sequence[str],
    longest: int | None,
    matrices: Matrices | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, F) float32 and offsets (B + 1,) int64 of the leading `longest` entries of each row.

    Without `matrices` the entries of these rows alone are read: for rows that are few in each block.
    """
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for block, rows in parts:
        offsets = block.offsets(group)
        low = (offsets[rows] - offsets[0]).astype(np.int64)
        count = (offsets[rows + 1] - offsets[rows]).astype(np.int64)
        if longest is not None:
            count = np.minimum(count, longest)
        if matrices is None:
            pieces.append(_entries(block, group, columns, low, count))
        else:
            pieces.append((matrices.of(block, group, tuple(columns)), low, count))
    lengths = np.concatenate([np.zeros(1, np.int64), *(count for _, _, count in pieces)])
    return gather_rows(pieces, len(columns)), np.cumsum(lengths)


def _entries(
    block: Block, group: str, columns: Sequence[str], low_R: np.ndarray, count_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of a few rows side by side, (N, F), and where those of each row begin, and their number."""
    start_R = np.cumsum(count_R) - count_R
    place_N = np.arange(int(count_R.sum())) + np.repeat(low_R - start_R, count_R) + int(block.offsets(group)[0])
    matrix_NF = np.empty((len(place_N), len(columns)), np.float32)
    for i, name in enumerate(columns):
        matrix_NF[:, i] = block.child(group, name)[place_N]
    return matrix_NF, start_R, count_R
