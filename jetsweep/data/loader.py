"""Batches in an order that is a pure function of (seed, epoch), the same whatever the number of ranks."""

# Shapes: B jets of this rank's part of a global batch.

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from jetsweep.data._shards import SplitReader, gather_ragged, gather_scalar
from jetsweep.data.batch import Batch, Ragged
from jetsweep.data.derived import derived_group
from jetsweep.data.order import EpochOrder, ResampledOrder, SelectedOrder

if TYPE_CHECKING:
    from jetsweep.data.reweight import Reweighting
    from jetsweep.data.selection import SelectedRows

_P4 = "four-vectors of derived groups"
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
        Names that `jetsweep.data.derived.derived_group` knows: made from the leading `max_constituents` constituents.
    labels, weights : bool
        Whether the split has them.
    shuffle : bool
        Record batches in random order, rows in random order inside windows of `WINDOW_BLOCKS` of them.
    num_rows : int
        Leading rows that are used.
    prefetch : int
        Batches that a thread makes ahead; 0 for none.
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
        prefetch: int = 8,
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
        batches = self._batches(self.order(epoch), start_step)
        if self.prefetch < 1:
            return batches
        return in_thread(batches, self.prefetch)

    def _batches(self, order: EpochOrder, step: int) -> Iterator[Batch]:
        """Batches as views of what all steps that begin in one window have together."""
        while step < self.num_steps:
            end = min(-(-order.end_of_window(step * self.batch_size) // self.batch_size), self.num_steps)
            rows = []
            for number in range(step, end):
                global_rows, mine = self.rows_of_step(order, number)
                rows.append(global_rows[mine])
            window = self._stored(np.concatenate(rows))
            edges = np.cumsum([0, *map(len, rows)]).tolist()
            for low, high in pairwise(edges):
                batch = self._with_derived_groups(window.part(low, high))
                yield batch.pin_memory() if self.pin_memory else batch
            step = end

    def rows_of_step(self, order: EpochOrder, step: int) -> tuple[np.ndarray, slice]:
        """Rows of a global batch, ascending, and which of them are this rank's."""
        rows = np.sort(order.rows(step * self.batch_size, (step + 1) * self.batch_size))
        low, high = (len(rows) * r // self.world_size for r in (self.rank, self.rank + 1))
        return rows, slice(low, high)

    def read(self, rows: np.ndarray) -> Batch:
        """Rows, in this order, as a batch."""
        return self._with_derived_groups(self._stored(rows))

    def _stored(self, rows: np.ndarray) -> Batch:
        """All but the derived groups, in whose place are the four-vectors that they are made of."""
        parts = self.reader.split_by_block(rows)
        wanted = self.groups | ({_P4: ("px", "py", "pz", "energy")} if self.derived_groups else {})
        groups = {}
        for name, columns in wanted.items():
            stored = "constituents" if name == _P4 else name
            values, offsets = gather_ragged(parts, stored, columns, self.max_constituents)
            groups[name] = Ragged(torch.from_numpy(values), torch.from_numpy(offsets), tuple(columns))

        def scalar(name: str, dtype: type) -> torch.Tensor:
            return torch.from_numpy(gather_scalar(parts, name).astype(dtype, copy=False))

        scalars = {name: scalar(name, np.float32) for name in self.scalars}
        order = np.concatenate([np.zeros(0, np.int64), *(places for _, _, places in parts)])
        if self.extra is not None:
            scalars |= {name: torch.from_numpy(_put(x, order)) for name, x in self.extra(rows[order]).items()}
        targets = {"label": scalar("label", np.int64)} if self.labels else {}
        if self.reweighting is None:
            weight = scalar("weight", np.float32) if self.weights else None
        elif self._resamples:  # rows that were drawn by their weights count alike
            weight = None
        else:
            weight = torch.from_numpy(_put(self.reweighting.of_rows(rows[order]).astype(np.float32), order))
        return Batch(groups, scalars, targets, weight, torch.from_numpy(rows.astype(np.int64)))

    def _with_derived_groups(self, batch: Batch) -> Batch:
        if not self.derived_groups:
            return batch
        groups = dict(batch.groups)
        p4 = groups.pop(_P4)
        for name in self.derived_groups:
            group = derived_group(name)
            assert group is not None, name
            values, offsets = group.make(p4.values.numpy(), p4.offsets.numpy())
            groups[name] = Ragged(torch.from_numpy(values), torch.from_numpy(offsets), group.columns)
        return replace(batch, groups=groups)


def _put(x_B: np.ndarray, places_B: np.ndarray) -> np.ndarray:
    """Entries at other places."""
    out_B = np.empty_like(x_B)
    out_B[places_B] = x_B
    return out_B


def in_thread(batches: Iterator[Batch], depth: int) -> Iterator[Batch]:
    """Run up to `depth` batches ahead in a thread; its exception is raised here, and closing early ends it."""
    ready: deque[Batch | BaseException | None] = deque()
    changed = threading.Condition()
    stop = False

    def put(item: Batch | BaseException | None) -> bool:
        with changed:
            if len(ready) >= depth:
                # half of them at a time: waking this thread for every batch costs more than making it
                changed.wait_for(lambda: stop or len(ready) <= depth // 2)
            ready.append(item)
            changed.notify()
            return not stop

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="jetsweep-loader", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready)
                item = ready.popleft()
                if len(ready) == depth // 2:
                    changed.notify()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        with changed:
            stop = True
            changed.notify()
        thread.join()
