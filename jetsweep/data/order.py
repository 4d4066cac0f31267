"""Row numbers of an epoch as a pure function of (seed, epoch), window by window: every row, some rows, or resampled."""

# Shapes: R rows of a block.

from __future__ import annotations

from collections.abc import Callable

import numpy as np

WINDOW_BLOCKS = 16
"""Record batches that are shuffled together; reading stays sequential over windows of this size."""


class EpochOrder:
    """Row numbers of one epoch, window by window: an epoch of 100 million jets needs no list of all of them.

    Parameters
    ----------
    edges : array, shape (blocks + 1,)
        First row of each record batch, and the number of rows.
    seed, epoch : int
    shuffle : bool
    """

    def __init__(self, edges: np.ndarray, seed: int, epoch: int, shuffle: bool) -> None:
        self.edges, self.seed, self.epoch, self.shuffle = edges, seed, epoch, shuffle
        counts = self._counts()
        blocks = np.flatnonzero(counts)
        if shuffle:
            blocks = np.random.default_rng([seed, epoch]).permutation(blocks)
        self.windows = np.array_split(blocks, -(-len(blocks) // WINDOW_BLOCKS) if shuffle else len(blocks))
        self.starts = np.cumsum([0, *(int(counts[window].sum()) for window in self.windows)])
        self._made: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def rows(self, low: int, high: int) -> np.ndarray:
        """Row numbers at positions `low` to `high` of the epoch, fewer at its end."""
        first, last = np.searchsorted(self.starts, (low, high), side="right") - 1
        parts = [np.zeros(0, np.int64)]
        for number in range(first, min(last + 1, len(self.windows))):
            start = self.starts[number]
            parts.append(self._window(number)[max(0, low - start) : high - start])
        return np.concatenate(parts)

    def end_of_window(self, position: int) -> int:
        """Position in the epoch that follows the last one of the same window."""
        return int(self.starts[np.searchsorted(self.starts, position, side="right")])

    def _window(self, number: int) -> np.ndarray:
        if self._made[0] != number:
            rows = np.concatenate([self._rows_of_block(i) for i in self.windows[number]])
            if self.shuffle:
                rows = np.random.default_rng([self.seed, self.epoch, number]).permutation(rows)
            self._made = (number, rows)
        return self._made[1]

    def _counts(self) -> np.ndarray:
        """How many positions of the epoch each block fills."""
        return np.diff(self.edges)

    def _rows_of_block(self, block: int) -> np.ndarray:
        return np.arange(self.edges[block], self.edges[block + 1])


class SelectedOrder(EpochOrder):
    """Some rows of each record batch, once in every epoch.

    Parameters
    ----------
    edges, seed, epoch, shuffle
        As for `EpochOrder`.
    counts : array, shape (blocks,)
        How many rows of each block are taken.
    rows_of_block : callable
        Takes a block's number, gives these rows in ascending order.
    """

    def __init__(
        self,
        edges: np.ndarray,
        seed: int,
        epoch: int,
        shuffle: bool,
        *,
        counts: np.ndarray,
        rows_of_block: Callable[[int], np.ndarray],
    ) -> None:
        self._taken, self._take = counts, rows_of_block
        super().__init__(edges, seed, epoch, shuffle)

    def _counts(self) -> np.ndarray:
        return self._taken

    def _rows_of_block(self, block: int) -> np.ndarray:
        return self._take(block)


class ResampledOrder(EpochOrder):
    """Rows drawn in proportion to their weights: systematic resampling, with another offset in every epoch.

    Of equidistant points on the cumulative weight each takes the row that it falls on: a row whose expected number of
    draws is x comes floor(x) or ceil(x) times. How many points fall into a block follows from the blocks' sums alone,
    so rows are drawn window by window and an epoch can start anywhere.

    Parameters
    ----------
    edges, seed, epoch, shuffle
        As for `EpochOrder`.
    sums : array, shape (blocks,)
        Weight of each block; their total is positive.
    weights : callable
        Weights (R,) of the rows of a block, by its number; none is negative.
    num_draws : int
        Positions of the epoch.
    """

    def __init__(
        self,
        edges: np.ndarray,
        seed: int,
        epoch: int,
        shuffle: bool,
        *,
        sums: np.ndarray,
        weights: Callable[[int], np.ndarray],
        num_draws: int,
    ) -> None:
        self._weights = weights
        self._before = np.concatenate([[0.0], np.cumsum(sums)])
        self._spacing = self._before[-1] / num_draws
        self._offset = np.random.default_rng([seed, epoch, 0, 0, 1]).random()
        first = np.ceil(self._before / self._spacing - self._offset).astype(np.int64)
        first[self._before >= self._before[-1]] = num_draws  # rounding must not lose the last point
        self._first = np.clip(first, 0, num_draws)
        super().__init__(edges, seed, epoch, shuffle)

    def _counts(self) -> np.ndarray:
        return np.diff(self._first)

    def _rows_of_block(self, block: int) -> np.ndarray:
        weight_R = self._weights(block)
        drawable = np.flatnonzero(weight_R > 0)
        points = (np.arange(self._first[block], self._first[block + 1]) + self._offset) * self._spacing
        place = np.searchsorted(np.cumsum(weight_R[drawable]), points - self._before[block], side="right")
        rows: np.ndarray = self.edges[block] + drawable[np.minimum(place, len(drawable) - 1)]
        return rows
