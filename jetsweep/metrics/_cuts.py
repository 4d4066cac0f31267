"""Cuts at a background efficiency, and how many jets weighted jets are worth."""

# Shapes: J jets.

from __future__ import annotations

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics.classification import Array


def effective_number(total: Array | float, squared: Array | float) -> Array:
    """Jets of unit weight that are as good as weighted ones, (sum w)^2 / sum w^2; below 0 where the weights' sum is.

    Parameters
    ----------
    total, squared : ndarray or float, any shape
        Sum of the weights and of their squares; 0 of both is no jet.
    """
    total, squared = np.asarray(total, dtype=np.float64), np.asarray(squared, dtype=np.float64)
    return np.asarray(np.divide(total * np.abs(total), squared, out=np.zeros_like(total), where=squared > 0))


def in_units_of_the_least(weight: Array) -> Array:
    """Weights (J,) over the least that is not 0, whatever its sign: whole numbers if jets are counted repeatedly.

    A rule for unweighted jets that knows single ones (the rank in the middle of a jet, the nearest whole number) then
    holds for weighted ones, and depends on no common factor.
    """
    weight = np.asarray(weight, dtype=np.float64)
    size = np.abs(weight)
    least = size[size > 0].min(initial=np.inf)
    return np.asarray(weight / least) if np.isfinite(least) else weight


def checked_weights(weight: Array, num_jets: int) -> Array:
    """Weights as float64, shape (J,).

    Raises
    ------
    MetricError
        If their number is wrong, one is not finite, or they do not add up to more than 0.
    """
    weight = np.asarray(weight, dtype=np.float64)
    if weight.shape != (num_jets,):
        raise MetricError(f"there are {num_jets} jets but {len(weight)} weights")
    if not np.isfinite(weight).all():
        raise MetricError(f"{int((~np.isfinite(weight)).sum())} of {len(weight)} weights are not finite")
    if not weight.sum() > 0:
        raise MetricError(f"the weights of {len(weight)} jets add up to {weight.sum():g}, expected more than 0")
    return weight


def cut_threshold(score: Array, efficiency: float, min_jets: int = 10, weight: Array | None = None) -> float:
    """Score of the softest background jet that passes (``score >= threshold``) at a background efficiency.

    Parameters
    ----------
    score : ndarray, shape (J,)
        Of background jets, larger means more anomalous.
    efficiency : float, in (0, 1]
    min_jets : int
        Least (effective) number of jets that pass.
    weight : ndarray, shape (J,), optional
        Of any sign; the hardest cut that reaches the efficiency counts.

    Raises
    ------
    MetricError
        If a score is not finite, `efficiency` is out of range, fewer jets than `min_jets` would pass, or the weights
        are none.
    """
    score = np.asarray(score, dtype=np.float64)
    if not np.isfinite(score).all():
        raise MetricError(f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite")
    if not 0.0 < efficiency <= 1.0:
        raise MetricError(f"a background efficiency must be inside (0, 1], found {efficiency:g}")
    if weight is None:
        number = round(efficiency * len(score))
        _check_number(number, len(score), efficiency, min_jets)
        return float(np.partition(score, len(score) - number)[len(score) - number])
    weight = in_units_of_the_least(checked_weights(weight, len(score)))
    order = np.argsort(-score, kind="stable")
    cuts = score[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(cuts)), len(cuts) - 1)
    passing, squared = (np.cumsum(x[order])[last_of_ties] for x in (weight, weight**2))
    wanted = round(efficiency * passing[-1])
    # rounding of sums must not cost a jet
    first = int(np.argmax(passing >= wanted * (1 - 1e-12)))
    effective = effective_number(passing, squared)
    _check_number(float(effective[first]) if wanted > 0 else 0.0, float(effective[-1]), efficiency, min_jets)
    return float(cuts[last_of_ties[first]])


def _check_number(number: float, total: float, efficiency: float, min_jets: int) -> None:
    if number < max(1, min_jets) * (1 - 1e-9):
        raise MetricError(
            f"a background efficiency of {efficiency:g} leaves {number:.10g} of {total:.10g} background jets above the "
            f"cut, fewer than the minimum of {max(1, min_jets)}; take more background jets"
        )
