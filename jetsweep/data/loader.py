"""Batches in an order that is a pure function of (seed, epoch), the same whatever the number of ranks."""

# Shapes: B jets of this rank's part of a global batch.

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from jetsweep.data._shards import Matrices, SplitReader, gather_ragged
from jetsweep.data.batch import Batch, Ragged
from jetsweep.data.derived import DERIVED_GROUPS
from jetsweep.data.order import WINDOW_BLOCKS, EpochOrder, ResampledOrder, SelectedOrder

if TYPE_CHECKING:
    from jetsweep.data.reweight import Reweighting
    from jetsweep.data.selection import SelectedRows

Extra = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Loader:
    """Batches of one split.

    Parameters
    ----------
    reader : SplitReader
    batch_size : int
        Jets of a global batch, over all ranks.
    groups : mapping of str to tuple of str
        List columns and their children, e.g. ``{"constituents": ("px", "py", "pz", "energy")}``.
    scalars : tuple of str
        Stored scalar columns.
    extra : callable or None
        Takes ascending row numbers and gives further scalar columns (derived ones).
    derived_groups : tuple of str
        Groups of `DERIVED_GROUPS`, made from the leading `max_constituents` constituents.
    labels, weights : bool
        Whether the split has them.
    shuffle : bool
        Record batches in random order, rows in random order inside windows of `WINDOW_BLOCKS` of them.
    num_rows : int
        Leading rows that are used.
    reweighting : Reweighting, optional
        Of the same rows: multiplies the weights, or draws rows in proportion to what would be their weights.
    selected : SelectedRows, optional
        Which of the leading rows are read; all without it.
    """

    def __init__(
        self,
        reader: SplitReader,
        batch_size: int,
        *,
        groups: Mapping[str, tuple[str, ...]],
        scalars: tuple[str, ...] = (),
        extra: Extra | None = None,
        derived_groups: tuple[str, ...] = (),
        labels: bool = True,
        weights: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        max_constituents: int | None = None,
        num_rows: int | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        pin_memory: bool = False,
        reweighting: Reweighting | None = None,
        selected: SelectedRows | None = None,
    ) -> None:
        self.reader, self.batch_size = reader, batch_size
        self.groups, self.scalars, self.extra = dict(groups), scalars, extra
        self.derived_groups = derived_groups
        self.labels, self.weights = labels, weights
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.max_constituents = max_constituents
        leading = reader.num_rows if num_rows is None else min(num_rows, reader.num_rows)
        self._edges = np.append(reader.starts[reader.starts < leading], leading)
        self.reweighting, self.selected = reweighting, selected
        if selected is not None:
            leading = selected.num_rows
        self._resamples = reweighting is not None and reweighting.method == "sample"
        self.num_rows = reweighting.num_draws if reweighting is not None and self._resamples else leading
        self.prefetch, self.pin_memory = prefetch, pin_memory
        self._matrices = Matrices((WINDOW_BLOCKS if shuffle else 1) * max(1, len(self.groups) + len(derived_groups)))
        # fewer jets than one batch still make a step
        full = self.num_rows // batch_size
        self.num_steps = max(1, full) if drop_last else -(-self.num_rows // batch_size)

    def order(self, epoch: int) -> EpochOrder:
        """Row numbers in the order of the epoch, made as far as they are asked for."""
        if self.selected is not None and not self._resamples:
            counts, of_block = self.selected.counts, self.selected.of_block
            return SelectedOrder(self._edges, self.seed, epoch, self.shuffle, counts=counts, rows_of_block=of_block)
        if self.reweighting is None or not self._resamples:
            return EpochOrder(self._edges, self.seed, epoch, self.shuffle)
        return ResampledOrder(
            self._edges,
            self.seed,
            epoch,
            self.shuffle,
            sums=self.reweighting.sums,
            weights=self.reweighting.of_block,
            num_draws=self.num_rows,
        )

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Batches of this rank from `start_step` on; the rest of the epoch does not depend on where it starts."""
        order = self.order(epoch)
        steps = range(start_step, self.num_steps)
        if self.prefetch < 1:
            for step in steps:
                yield self._batch(order, step)
            return
        yield from in_thread((partial(self._batch, order, step) for step in steps), self.prefetch)

    def _batch(self, order: EpochOrder, step: int) -> Batch:
        rows, mine = self.rows_of_step(order, step)
        batch = self.read(rows[mine])
        return batch.pin_memory() if self.pin_memory else batch

    def rows_of_step(self, order: EpochOrder, step: int) -> tuple[np.ndarray, slice]:
        """Rows of a global batch, ascending so that every block is visited once, and which of them are this rank's."""
        rows = np.sort(order.rows(step * self.batch_size, (step + 1) * self.batch_size))
        low, high = (len(rows) * r // self.world_size for r in (self.rank, self.rank + 1))
        return rows, slice(low, high)

    def read(self, rows: np.ndarray, scattered: bool = False) -> Batch:
        """Rows (ascending) as a batch; of `scattered` ones, few of each block, no more is touched than themselves."""
        matrices = None if scattered else self._matrices
        parts = self.reader.split_by_block(rows)
        groups = {}
        for name, columns in self.groups.items():
            values, offsets = gather_ragged(parts, name, columns, self.max_constituents, matrices)
            groups[name] = Ragged(torch.from_numpy(values), torch.from_numpy(offsets), tuple(columns))
        for name in self.derived_groups:
            group = DERIVED_GROUPS[name]
            p4 = gather_ragged(parts, "constituents", ("px", "py", "pz", "energy"), self.max_constituents, matrices)
            values, offsets = group.make(*p4)
            groups[name] = Ragged(torch.from_numpy(values), torch.from_numpy(offsets), group.columns)

        def scalar(name: str, dtype: type) -> torch.Tensor:
            pieces = [block.scalar(name)[local] for block, local in parts]
            return torch.from_numpy(np.concatenate(pieces).astype(dtype) if pieces else np.zeros(0, dtype))

        scalars = {name: scalar(name, np.float32) for name in self.scalars}
        if self.extra is not None:
            scalars |= {name: torch.from_numpy(x) for name, x in self.extra(rows).items()}
        targets = {"label": scalar("label", np.int64)} if self.labels else {}
        if self.reweighting is None:
            weight = scalar("weight", np.float32) if self.weights else None
        else:  # rows that were drawn by their weights count alike
            weight = None if self._resamples else torch.from_numpy(self.reweighting.of_rows(rows).astype(np.float32))
        return Batch(groups, scalars, targets, weight, torch.from_numpy(rows.astype(np.int64)))


def in_thread(makers: Iterator[Callable[[], Batch]], depth: int) -> Iterator[Batch]:
    """Run `makers` ahead in a thread; its exception is raised here, and closing early ends it."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for make in makers:
                if not put(make()):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="jetsweep-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
