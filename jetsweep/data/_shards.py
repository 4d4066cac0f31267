"""Memory-mapped record batches of one split: numpy views of Arrow buffers, and ragged gathers from them."""

# Shapes: B rows asked for, N constituents of them, F columns.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from jetsweep.data._buffers import empty
from jetsweep.data._host import place_rows
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
    folder : str or Path
        On this machine.
    shards : sequence of Shard
    check : callable
        Called with the path and a record batch of each shard; raises if the columns are not those that are expected.
    """

    def __init__(
        self,
        folder: str | Path,
        shards: Sequence[Shard],
        check: Callable[[str, pa.RecordBatch], None],
    ) -> None:
        self.blocks: list[Block] = []
        row = 0
        for shard in shards:
            path = f"{folder}/{shard.file}"
            batches = _open_batches(path, shard)
            for batch in batches[:1]:
                check(path, batch)
            for batch in batches:
                self.blocks.append(Block(batch, row))
                row += batch.num_rows
        self.num_rows = row
        self.starts = np.array([block.first_row for block in self.blocks] + [row])

    def split_by_block(self, rows_B: np.ndarray) -> list[tuple[Block, np.ndarray, np.ndarray]]:
        """Group rows by block: (block, ascending rows inside the block, their places in `rows_B`)."""
        if not len(rows_B):
            return []
        order_B = np.argsort(rows_B, kind="stable")
        rows_B = rows_B[order_B]
        # only the blocks of these rows are looked at: a large dataset has ten thousands of others
        block_B = np.searchsorted(self.starts, rows_B, side="right") - 1
        edges = [0, *(np.flatnonzero(np.diff(block_B)) + 1).tolist(), len(rows_B)]
        blocks = [self.blocks[i] for i in block_B[edges[:-1]]]
        return [
            (block, rows_B[low:high] - block.first_row, order_B[low:high])
            for block, low, high in zip(blocks, edges[:-1], edges[1:])
        ]


def _open_batches(path: str, shard: Shard) -> list[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(path))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except FileNotFoundError as error:
        raise DataError(f"{path}: shard missing; the manifest lists it with {shard.rows} rows") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: shard damaged ({str(error).splitlines()[0]}); run `jetsweep data verify`") from error
    rows = sum(batch.num_rows for batch in batches)
    if rows != shard.rows:
        raise DataError(f"{path}: expected {shard.rows} rows as in the manifest, found {rows}")
    return batches


def gather_scalar(parts: Sequence[tuple[Block, np.ndarray, np.ndarray]], name: str) -> np.ndarray:
    """Scalar column at rows of several blocks, shape (B,); `parts` as `gather_ragged` takes them."""
    pieces = [block.scalar(name)[rows] for block, rows, _ in parts]
    found_B = np.empty(sum(map(len, pieces)), pieces[0].dtype if pieces else np.float64)
    for piece, (_, _, places) in zip(pieces, parts, strict=True):
        found_B[places] = piece
    return found_B


def gather_ragged(
    parts: Sequence[tuple[Block, np.ndarray, np.ndarray]],
    group: str,
    columns: Sequence[str],
    longest: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Leading `longest` entries of rows of several blocks, in any order.

    Parameters
    ----------
    parts : sequence of (Block, rows, places)
        Ascending rows of each block, and the place of each among all rows, together 0, 1, … in some order: blocks are
        read from their beginning to their end, wherever a row goes.
    group : str
        List column.
    columns : sequence of str
        F of its children.
    longest : int or None

    Returns
    -------
    values : array, shape (N, F), float32
    offsets : array, shape (B + 1,), int64
    """
    offsets = np.zeros(1 + sum(len(rows) for _, rows, _ in parts), np.int64)
    lows = []
    for block, rows, places in parts:
        bounds = block.offsets(group)
        low = bounds[rows].astype(np.int64)
        count = bounds[rows + 1] - low
        lows.append(low)
        offsets[1 + places] = count if longest is None else np.minimum(count, longest)
    np.cumsum(offsets, out=offsets)
    values_NF = empty(int(offsets[-1]), len(columns))
    for (block, _, places), low in zip(parts, lows, strict=True):
        target = offsets[places]
        children = [block.child(group, name) for name in columns]
        place_rows(children, low, offsets[1 + places] - target, target, values_NF)
    return values_NF, offsets
