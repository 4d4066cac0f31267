"""ROC curves, areas and background rejections with uncertainties, exact for weighted jets and ties."""

# Shapes: J jets of a split, C classes, K distinct scores.

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from jetsweep.errors import MetricError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RocCurve:
    """Efficiencies when cutting at each distinct score, from the hardest cut to the loosest.

    Parameters
    ----------
    signal_efficiency, background_efficiency : ndarray, shape (K + 1,)
        Both start at 0 and end at 1.
    background_above : ndarray, shape (K + 1,)
        Effective number of background jets above the cut: (sum w)^2 / sum w^2, the plain count for unit weights.
    num_background : float
        Effective number of background jets in all.
    threshold : ndarray, shape (K + 1,)
        Score of each cut; the first is +inf.
    """

    signal_efficiency: Array
    background_efficiency: Array
    background_above: Array
    num_background: float
    threshold: Array

    @property
    def area(self) -> float:
        """Area under the curve: the chance that a signal jet outscores a background jet, ties counted half."""
        return float(np.trapezoid(self.signal_efficiency, self.background_efficiency))


def _check_scores(score: Array, is_signal: Array) -> None:
    if not np.isfinite(score).all():
        raise MetricError(f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite")
    if is_signal.all() or not is_signal.any():
        found = "signal" if is_signal.any() else "background"
        raise MetricError(f"a ROC curve needs signal and background jets; all {len(is_signal)} jets are {found}")


def roc_curve(score: Array, is_signal: Array, weight: Array | None = None) -> RocCurve:
    """Efficiencies of signal and background at every distinct score.

    Parameters
    ----------
    score : ndarray, shape (J,)
        Larger means more signal-like.
    is_signal : ndarray, shape (J,), bool
    weight : ndarray, shape (J,), optional

    Raises
    ------
    MetricError
        If a score is not finite, or only one class is present.
    """
    score, is_signal = np.asarray(score, dtype=np.float64), np.asarray(is_signal, dtype=bool)
    _check_scores(score, is_signal)
    w = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    score, is_signal, w = score[order], is_signal[order], w[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)

    def cumulative(x: Array) -> Array:
        return np.concatenate([[0.0], np.cumsum(x)[last_of_ties]])

    signal, background = cumulative(w * is_signal), cumulative(w * ~is_signal)
    squared = cumulative(w**2 * ~is_signal)
    count = np.divide(background**2, squared, out=np.zeros_like(background), where=squared > 0)
    return RocCurve(
        signal / signal[-1],
        background / background[-1],
        count,
        float(count[-1]),
        np.concatenate([[np.inf], score[last_of_ties]]),
    )


def auc(score: Array, is_signal: Array, weight: Array | None = None) -> float:
    """Area under the ROC curve of `roc_curve` with the same arguments."""
    return roc_curve(score, is_signal, weight).area


def one_vs_one_auc(probability: Array, label: Array, weight: Array | None = None) -> float:
    """Mean of the pairwise areas over all pairs of classes (Hand and Till 2001), the JetClass convention.

    Parameters
    ----------
    probability : ndarray, shape (J, C)
    label : ndarray, shape (J,), int
        Every class that occurs is paired with every other that occurs; each pair is the mean of its two directions,
        ranked by the probability of the class that acts as signal.

    Raises
    ------
    ValueError
        If fewer than two classes occur.
    """
    present = np.unique(label)
    if len(present) < 2:
        raise ValueError(f"pairwise areas need two classes; only class {present.tolist()} occurs")
    areas = []
    for a, b in combinations(present, 2):
        pair = (label == a) | (label == b)
        w = None if weight is None else weight[pair]
        areas.append(auc(probability[pair, a], label[pair] == a, w))
        areas.append(auc(probability[pair, b], label[pair] == b, w))
    return float(np.mean(areas))


def accuracy(prediction: Array, label: Array, weight: Array | None = None) -> float:
    """Weighted share of jets whose predicted class is the true one."""
    return float(np.average(np.asarray(prediction) == np.asarray(label), weights=weight))


def background_rejection(roc: RocCurve, efficiency: float) -> tuple[float, float, float]:
    """Background rejection 1/εB at a signal efficiency, with its binomial uncertainty.

    εB is interpolated linearly in the signal efficiency. With k (effective) background jets above the cut out of n,
    the relative uncertainty is sqrt((1 - εB) / k).

    Parameters
    ----------
    roc : RocCurve
    efficiency : float, in (0, 1)
        Signal efficiency εS.

    Returns
    -------
    rejection, uncertainty, background_above : float
        When no background jet is above the cut the rejection is unbounded: n, the number of background jets, is
        returned as a lower bound with an infinite uncertainty.

    Raises
    ------
    ValueError
        If `efficiency` is not inside (0, 1).
    """
    if not 0.0 < efficiency < 1.0:
        raise ValueError(f"a signal efficiency must be inside (0, 1), found {efficiency}")
    eps_b = float(_interpolate(roc.signal_efficiency, roc.background_efficiency, efficiency))
    above = float(_interpolate(roc.signal_efficiency, roc.background_above, efficiency))
    if eps_b <= 0.0 or above <= 0.0:
        return roc.num_background, float("inf"), 0.0
    return 1.0 / eps_b, float(np.sqrt(max(0.0, 1.0 - eps_b) / above)) / eps_b, above


def _interpolate(x: Array, y: Array, at: float) -> float:
    """Linear interpolation on the first crossing; a vertical step of the curve (equal x) gives its lower end."""
    high = int(np.searchsorted(x, at, side="left"))
    if x[high] == at:
        return float(y[high])
    low = high - 1
    return float(y[low] + (y[high] - y[low]) * (at - x[low]) / (x[high] - x[low]))
