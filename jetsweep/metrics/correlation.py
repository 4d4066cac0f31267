"""Distance correlation of two variables (Székely, Rizzo, Bakirov 2007), exact in O(N log² N) time and O(N) memory."""

# Shapes: J jets.

from __future__ import annotations

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics.classification import Array


def distance_correlation(x: Array, y: Array, weight: Array | None = None, power: float = 1.0) -> float:
    """Distance correlation of a score and a mass, in the convention of DisCo (arXiv:2001.05310).

    Parameters
    ----------
    x, y : ndarray, shape (J,)
    weight : ndarray, shape (J,), optional
        Of any sign, as those of a generator are; their sum must be positive and does not matter.
    power : float
        1 is mean(AB) / √(mean(AA) mean(BB)) with doubly centred distances A and B, which is the *square* of what the
        paper of 2007 calls distance correlation; 0.5 is that one itself.

    Returns
    -------
    float
        Between 0 (independent) and 1; 0 if one of the variables is constant.

    Raises
    ------
    MetricError
        If the lengths differ, a number is not finite, the weights add up to 0 or less, or there are fewer than two
        jets.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    w = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not x.shape == y.shape == w.shape or x.ndim != 1 or len(x) < 2:
        raise MetricError(
            f"a distance correlation needs two jets or more of the same number, found {x.shape}, {y.shape}"
        )
    for name, values in (("first variables", x), ("second variables", y), ("weights", w)):
        if not np.isfinite(values).all():
            raise MetricError(f"{int((~np.isfinite(values)).sum())} of {len(values)} {name} are not finite")
    if not w.sum() > 0:
        raise MetricError(f"the weights of a distance correlation add up to {w.sum():g}, expected more than 0")
    w = w / w.sum()
    x, y = x - w @ x, y - w @ y
    cross = _covariance(x, y, w)
    of_x, of_y = _covariance(x, x, w), _covariance(y, y, w)
    if not (of_x > 0 and of_y > 0):
        return 0.0
    # rounding may leave a hair below zero or above one, negative weights more
    return float(min(max(cross / np.sqrt(of_x * of_y), 0.0), 1.0) ** power)


def _covariance(x: Array, y: Array, w: Array) -> float:
    """Squared distance covariance of centred values with weights of sum 1."""
    row_x, row_y = _row_means(x, w), _row_means(y, w)
    mean_product = 2 * (w @ (x * x)) if x is y else _mean_product(x, y, w)
    return float(mean_product - 2 * (w @ (row_x * row_y)) + (w @ row_x) * (w @ row_y))


def _row_means(x: Array, w: Array) -> Array:
    """Weighted mean distance of every jet from all others, by prefix sums over the sorted values."""
    order = np.argsort(x, kind="stable")
    value, below = x[order], np.cumsum(w[order])
    sum_below = np.cumsum(w[order] * value)
    out = np.empty_like(x)
    out[order] = value * (2 * below - below[-1]) + sum_below[-1] - 2 * sum_below
    return out


def _mean_product(x: Array, y: Array, w: Array) -> float:
    """Weighted mean of |xi - xj| |yi - yj| over all pairs.

    With jets sorted by x, |yi - yj| is ± (yj - yi) by whether the earlier jet has the lower y. Pairs of that kind are
    counted as merge sort finds them: in blocks of doubling size, earlier half against later half.
    """
    order = np.argsort(x, kind="stable")
    x, y, w = x[order], y[order], w[order]
    rank = np.empty(len(y), np.int64)
    rank[np.argsort(y, kind="stable")] = np.arange(len(y))
    moments = np.stack([w, w * x, w * y, w * x * y])
    position = np.arange(len(x))
    ascending = 0.0
    half = 1
    while half < len(x):
        block = position // (2 * half)
        by_rank = np.argsort(block * len(x) + rank)
        is_early = (position // half % 2 == 0)[by_rank]
        sums = np.cumsum(np.where(is_early, moments[:, by_rank], 0.0), axis=1)
        # what earlier blocks have added
        first = np.searchsorted(block[by_rank], block[by_rank])
        before = np.concatenate([np.zeros((4, 1)), sums], axis=1)[:, first]
        late = by_rank[~is_early]
        s1, sx, sy, sxy = (sums - before)[:, ~is_early]
        ascending += float(w[late] @ (x[late] * y[late] * s1 - x[late] * sy - y[late] * sx + sxy))
        half *= 2
    all_pairs = float(w.sum() * (w @ (x * y)) - (w @ x) * (w @ y))
    return 2 * (2 * ascending - all_pairs)
