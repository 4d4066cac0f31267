"""Points inside windows around other points, one of them drawn for each; an empty window grows."""

# Shapes: N points to draw from, B (R of them) windows, D variables, K draws, P draws together, C cells of a window.

from __future__ import annotations

from itertools import chain

import numpy as np

_CELLS = 512
"""Cells of the first variable that a window may overlap; wider ones are searched point by point."""
_TRIES = 16
"""Candidates that are tried, before those inside a window are counted."""
_FEW = 64
"""So many candidates are counted at once. Neither number may depend on other windows: ranks see different ones."""


class Windows:
    """A grid over points, for windows of one size that grows where it is empty.

    The first variable is cut into cells as wide as the window; inside a cell points are sorted by the last variable,
    so a window's candidates are a stretch of each cell that it overlaps.

    Parameters
    ----------
    points : array, shape (N, D)
        N > 0, all finite.
    width : array, shape (D,)
        Full widths of the windows; their edges belong to them.
    """

    def __init__(self, points_ND: np.ndarray, width_D: np.ndarray) -> None:
        self._width_D, self._num = width_D, len(points_ND)
        self._low = float(points_ND[:, 0].min())
        by_last_N = np.argsort(points_ND[:, -1], kind="stable")
        self._last_N = points_ND[by_last_N, -1]
        is_grid = points_ND.shape[1] > 1
        cell_N = self._cell(points_ND[by_last_N, 0]) if is_grid else np.zeros(self._num, np.int64)
        self._num_cells = int(cell_N.max()) + 1
        by_cell_N = np.argsort(cell_N, kind="stable")
        self._key_N = cell_N[by_cell_N] * (self._num + 1) + by_cell_N
        self._order_N = by_last_N[by_cell_N]
        self._points_ND = points_ND[self._order_N]

    def draw(self, around_BD: np.ndarray, state_BK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw points, all of those inside with the same probability, from the smallest window that holds any.

        Parameters
        ----------
        around : array, shape (B, D)
            Finite.
        state : array, shape (B, K), uint64
            Of `hashed`: each decides one draw, whatever the others are.

        Returns
        -------
        drawn : array, shape (B, K), int64
            Indices of points.
        doublings : array, shape (B,), int64
            How often a width was doubled: the last variable's first, then the one before it, and so on in turn.
        """
        drawn_BK = np.zeros(state_BK.shape, np.int64)
        doublings_B = np.zeros(len(around_BD), np.int64)
        pending, level = np.arange(len(around_BD)), 0
        while len(pending):
            drawn_RK = self._draw_at(around_BD[pending], state_BK[pending], level)
            is_full_R = drawn_RK[:, 0] >= 0
            drawn_BK[pending[is_full_R]] = self._order_N[drawn_RK[is_full_R]]
            doublings_B[pending[is_full_R]] = level
            pending, level = pending[~is_full_R], level + 1
        return drawn_BK, doublings_B

    def width(self, level: int) -> np.ndarray:
        """Widths (D,) after so many doublings."""
        num = len(self._width_D)
        turns_D = [level // num + (num - 1 - d < level % num) for d in range(num)]
        return np.asarray(np.ldexp(self._width_D, turns_D))

    def _cell(self, x: np.ndarray) -> np.ndarray:
        cell: np.ndarray = np.floor((x - self._low) / self._width_D[0]).clip(-1, 2.0**31).astype(np.int64)
        return cell

    def _draw_at(self, around_RD: np.ndarray, state_RK: np.ndarray, level: int) -> np.ndarray:
        """Sorted points inside windows of one size, shape (R, K); -1 where there is none."""
        first_RC, end_RC = self._stretches(around_RD, level)
        up_to_RC = np.cumsum(end_RC - first_RC, axis=1)
        half_D, drawn_RK = self.width(level) / 2, np.full(state_RK.shape, -1)
        row_P, column_P = np.nonzero(np.broadcast_to(up_to_RC[:, -1:] > 0, state_RK.shape))
        state_P = state_RK[row_P, column_P]
        is_few_P = up_to_RC[row_P, -1] <= _FEW
        few = row_P[is_few_P], column_P[is_few_P], state_P[is_few_P]
        row_P, column_P, state_P = row_P[~is_few_P], column_P[~is_few_P], state_P[~is_few_P]
        for _ in range(_TRIES):  # about every second candidate is inside, so looking at all of them would be a waste
            if not len(row_P):
                break
            nth_P = (uniform(state_P) * up_to_RC[row_P, -1]).astype(np.int64)
            cell_P = (nth_P[:, None] >= up_to_RC[row_P]).sum(axis=1)
            point_P = end_RC[row_P, cell_P] - up_to_RC[row_P, cell_P] + nth_P
            hit_P = (np.abs(self._points_ND[point_P] - around_RD[row_P]) <= half_D).all(axis=1)
            drawn_RK[row_P[hit_P], column_P[hit_P]] = point_P[hit_P]
            row_P, column_P, state_P = row_P[~hit_P], column_P[~hit_P], mixed(state_P[~hit_P])
        for row, column, state in chain(zip(*few), zip(row_P, column_P, state_P)):
            points = np.concatenate([np.arange(low, end) for low, end in zip(first_RC[row], end_RC[row])])
            points = points[(np.abs(self._points_ND[points] - around_RD[row]) <= half_D).all(axis=1)]
            if len(points):
                drawn_RK[row, column] = points[int(uniform(state) * len(points))]
        return drawn_RK

    def _stretches(self, around_BD: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
        """First and last candidate (exclusive) of each window in each cell that it may overlap."""
        half_D = self.width(level) / 2
        rank_B2 = [
            np.searchsorted(self._last_N, around_BD[:, -1] - half_D[-1], side="left"),
            np.searchsorted(self._last_N, around_BD[:, -1] + half_D[-1], side="right"),
        ]
        num_cells = self._num_cells
        if len(half_D) == 1:
            return rank_B2[0][:, None], rank_B2[1][:, None]
        low_B = self._cell(around_BD[:, 0] - half_D[0]).clip(0, num_cells - 1)
        high_B = self._cell(around_BD[:, 0] + half_D[0]).clip(0, num_cells - 1)
        span = int((high_B - low_B).max(initial=0)) + 1
        if span > _CELLS:
            return np.zeros((len(around_BD), 1), np.int64), np.full((len(around_BD), 1), self._num)
        cell_BC = low_B[:, None] + np.arange(span)
        first_BC, end_BC = (
            np.searchsorted(self._key_N, cell_BC * (self._num + 1) + rank_B[:, None]) for rank_B in rank_B2
        )
        return first_BC, np.where(cell_BC <= high_B[:, None], end_BC, first_BC)


def hashed(seed: int, *parts: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits, shape (P,), each a function of the seed and its place in all parts (Steele et al. 2014)."""
    state_P = mixed(np.full(len(parts[0]), seed, np.uint64))
    for part_P in parts:
        state_P = mixed(state_P + part_P.astype(np.uint64))
    return state_P


def mixed(x: np.ndarray) -> np.ndarray:
    """A step of SplitMix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def uniform(state: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) from 64 bits."""
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)
