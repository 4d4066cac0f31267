"""One number per jet from those of several models."""

# Shapes: M models, J jets, K classes.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jetsweep.errors import MetricError

HOWS: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median, "std": np.std}
"""Ways to combine; the standard deviation is that of the members (over M, not M - 1): how much they disagree."""


def combine(values_MJ: Sequence[np.ndarray], how: str) -> np.ndarray:
    """Mean, median or standard deviation over models, float64.

    Parameters
    ----------
    values_MJ : sequence of ndarray, each of shape (J, ...)
    how : str
        One of `HOWS`.
    """
    found: np.ndarray = HOWS[how](np.stack([x.astype(np.float64) for x in values_MJ]), axis=0)
    return found


def combine_probabilities(probability_MJK: Sequence[np.ndarray], how: str) -> np.ndarray:
    """Mean or median of class probabilities over models, shape (J, K), float64, summing to 1 over the classes.

    Medians of three classes or more need not sum to 1, and are divided by their sum.

    Raises
    ------
    MetricError
        If the medians of a jet's probabilities are all 0.
    """
    found = combine(probability_MJK, how)
    total_J1 = found.sum(axis=-1, keepdims=True)
    if not (total_J1 > 0).all():
        raise MetricError(f"{int((total_J1 <= 0).sum())} jets have a {how} probability of 0 for every class")
    scaled: np.ndarray = found / total_J1
    return scaled


def standardise(score_J: np.ndarray, is_background_J: np.ndarray) -> np.ndarray:
    """A score in units of its spread over the background, so that scores of several models can be combined.

    Parameters
    ----------
    score_J : ndarray, shape (J,)
    is_background_J : ndarray, shape (J,), bool

    Returns
    -------
    ndarray, shape (J,), float64
        ``(score - m) / w`` with the median m and half the width w of the central 68 % (quantiles 0.16 and 0.84) of
        the background: outliers, which anomaly scores have many of, move neither.

    Raises
    ------
    MetricError
        If there is no background, or its central 68 % all have the same score.
    """
    background = score_J[is_background_J].astype(np.float64)
    if not len(background):
        raise MetricError("a score is standardised on the background, found no jets of it")
    low, middle, high = np.quantile(background, (0.16, 0.5, 0.84))
    if not high > low:
        raise MetricError(f"a score cannot be standardised: {middle:g} is that of most of the background")
    scaled: np.ndarray = (score_J.astype(np.float64) - middle) / (0.5 * (high - low))
    return scaled
