"""One background, many signals: the matrix of figures of merit, and objectives that sum up its columns."""

# Shapes: J jets, S signals, M scores.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics.classification import Array, RocCurve, roc_curve


@dataclass(frozen=True)
class SignalMatrix:
    """A figure of merit of every score on every signal.

    Parameters
    ----------
    signals, scores : tuple of str
    values : ndarray, shape (S, M)
    """

    signals: tuple[str, ...]
    scores: tuple[str, ...]
    values: Array

    def of_score(self, name: str) -> dict[str, float]:
        """Figures of one score by signal."""
        column = self.values[:, self.scores.index(name)]
        return dict(zip(self.signals, column.tolist()))

    def rows(self) -> list[dict[str, float | str]]:
        """One row per signal, for tables."""
        return [
            {"signal": signal, **dict(zip(self.scores, row.tolist()))} for signal, row in zip(self.signals, self.values)
        ]


def signal_matrix(
    scores: Mapping[str, Array],
    label: Array,
    background: str,
    figure: Callable[[RocCurve], float] = lambda roc: roc.area,
    signals: Sequence[str] | None = None,
    weight: Array | None = None,
) -> SignalMatrix:
    """Figure of merit of every score on every signal against the same background jets.

    Parameters
    ----------
    scores : mapping of str to ndarray, shape (J,)
        Larger means more anomalous.
    label : ndarray, shape (J,), str
        Class of every jet.
    background : str
        Class that acts as background.
    figure : callable
        Number from a ROC curve; the default is the area.
    signals : sequence of str, optional
        Default: every other class, in alphabetical order.
    weight : ndarray, shape (J,), optional

    Raises
    ------
    MetricError
        If a class has no jets, or whatever `figure` raises, with the names of score and signal in front.
    """
    label = np.asarray(label).astype(str)
    present = sorted(set(label.tolist()))
    wanted = [name for name in present if name != background] if signals is None else list(signals)
    if not wanted or not scores:
        raise MetricError("a signal matrix needs a signal and a score or more")
    missing = [name for name in (background, *wanted) if name not in present]
    if missing:
        raise MetricError(f"there are no jets of class {missing[0]!r}; there are {', '.join(present) or 'none'}")
    if background in wanted:
        raise MetricError(f"{background!r} cannot be signal and background")
    values = np.empty((len(wanted), len(scores)))
    for s, signal in enumerate(wanted):
        used = (label == background) | (label == signal)
        is_signal = label[used] == signal
        w = None if weight is None else np.asarray(weight)[used]
        for m, (name, score) in enumerate(scores.items()):
            try:
                values[s, m] = figure(roc_curve(np.asarray(score)[used], is_signal, w))
            except MetricError as error:
                raise MetricError(f"score {name!r} on signal {signal!r}: {error}") from error
    return SignalMatrix(tuple(wanted), tuple(scores), values)


def mean_signal(figures: Mapping[str, float]) -> float:
    """Mean over the signals, an objective to maximise."""
    return float(np.mean(_values(figures)))


def worst_signal(figures: Mapping[str, float]) -> float:
    """Least value over the signals, an objective to maximise: the score that fails on no signal."""
    return float(np.min(_values(figures)))


def soft_minimum(figures: Mapping[str, float], temperature: float = 0.05) -> float:
    """-T log mean exp(-x / T) over the signals: the worst signal for T to 0, the mean for T to infinity.

    Parameters
    ----------
    figures : mapping of str to float
    temperature : float
        In units of the figure.
    """
    if not temperature > 0:
        raise MetricError(f"the temperature of a soft minimum must be positive, found {temperature:g}")
    x = _values(figures)
    least = x.min()
    return float(least - temperature * np.log(np.mean(np.exp(-(x - least) / temperature))))


def rank_average(matrix: SignalMatrix) -> dict[str, float]:
    """Mean rank of every score over the signals: 1 is the best on every signal; ties share their mean rank."""
    x_SM = matrix.values
    _values({f"{s}, {m}": float(x_SM[i, j]) for i, s in enumerate(matrix.signals) for j, m in enumerate(matrix.scores)})
    better_SM = (x_SM[:, None, :] > x_SM[:, :, None]).sum(axis=2)
    equal_SM = (x_SM[:, None, :] == x_SM[:, :, None]).sum(axis=2)
    rank_M = (better_SM + (equal_SM + 1) / 2).mean(axis=0)
    return dict(zip(matrix.scores, rank_M.tolist()))


def _values(figures: Mapping[str, float]) -> Array:
    if not figures:
        raise MetricError("an objective over signals needs a signal or more")
    bad = [name for name, x in figures.items() if not np.isfinite(x)]
    if bad:
        raise MetricError(f"the figure of {bad[0]} is not finite, an objective over signals cannot use it")
    return np.array(list(figures.values()), dtype=np.float64)
