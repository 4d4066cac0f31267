"""Leaves of an experiment as Optuna parameters."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from jetsweep.errors import JetsweepError
from jetsweep.experiment.distributions import Choice, Distribution, Float, Int, Normal
from jetsweep.experiment.requirements import Unmet

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from jetsweep.experiment.template import ExperimentTemplate

QUANTILE = " (quantile)"
"""Ends the Optuna name of a normal leaf, whose parameter is a quantile and not the value itself."""

_MAX_GRID = 100_000


def suggest(trial: Trial, name: str, distribution: Distribution) -> Any:
    """Let Optuna draw one leaf; returns the label of a choice and the number of anything else.

    A normal distribution is drawn as a uniform quantile between those of its two cuts: Optuna has no normal
    distribution, and this way its samplers start from exactly the one that the user wrote.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    name, drawn = parameter(name, distribution)
    if isinstance(drawn, CategoricalDistribution):
        return trial.suggest_categorical(name, drawn.choices)
    if isinstance(drawn, IntDistribution):
        return trial.suggest_int(name, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
    assert isinstance(drawn, FloatDistribution)
    return decode(distribution, trial.suggest_float(name, drawn.low, drawn.high, step=drawn.step, log=drawn.log))


def parameter(name: str, distribution: Distribution) -> tuple[str, BaseDistribution]:
    """Optuna's name and distribution of a leaf, exactly those that `suggest` makes."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, Choice):
        return name, CategoricalDistribution(distribution.labels)
    if isinstance(distribution, Int):
        last = distribution.high - (distribution.high - distribution.low) % distribution.step
        return name, IntDistribution(distribution.low, last, step=distribution.step, log=distribution.log)
    if isinstance(distribution, Normal):
        return name + QUANTILE, FloatDistribution(*quantiles(distribution))
    if distribution.step is None:
        return name, FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    return name, FloatDistribution(distribution.low, _steps(distribution)[-1], step=distribution.step)


def encode(distribution: Distribution, value: Any) -> Any:
    """Optuna's value of a leaf's value: the quantile of a normal leaf, else the same."""
    if not isinstance(distribution, Normal):
        return value
    low, high = quantiles(distribution)
    return min(max(NormalDist(distribution.mean, distribution.std).cdf(value), low), high)


def decode(distribution: Distribution, value: Any) -> Any:
    """A leaf's value of Optuna's."""
    return from_quantile(distribution, value) if isinstance(distribution, Normal) else value


def quantiles(normal: Normal) -> tuple[float, float]:
    """Cumulative probabilities of the two cuts."""
    curve = NormalDist(normal.mean, normal.std)
    return curve.cdf(normal.low), curve.cdf(normal.high)


def from_quantile(normal: Normal, quantile: float) -> float:
    """Value of a cumulative probability, inside the cuts."""
    if not 0.0 < quantile < 1.0:  # a cut so far out that its probability is rounded
        return normal.low if quantile <= 0.0 else normal.high
    return min(max(NormalDist(normal.mean, normal.std).inv_cdf(quantile), normal.low), normal.high)


def _steps(distribution: Float) -> list[float]:
    """Values of a stepped interval; the last may lie below `high`, which Optuna would otherwise warn of."""
    assert distribution.step is not None
    number = int((distribution.high - distribution.low) / distribution.step + 1e-9)
    return [round(distribution.low + i * distribution.step, 12) for i in range(number + 1)]


def grid_values(name: str, distribution: Distribution) -> list[Any]:
    """Every value of a leaf that a grid can list.

    Raises
    ------
    JetsweepError
        If it is a continuum.
    """
    if isinstance(distribution, Choice):
        return list(distribution.labels)
    if isinstance(distribution, Int) and not distribution.log:
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, Float) and distribution.step is not None:
        return _steps(distribution)
    raise JetsweepError(f"search.sampler: grid cannot list {name}; use choice, int, or uniform with a step")


class _Unlisted(Exception):
    """The walk met a leaf that has no value yet."""

    def __init__(self, name: str, distribution: Distribution) -> None:
        self.name, self.distribution = name, distribution


def grid(template: ExperimentTemplate) -> Iterator[dict[str, Any]]:
    """Every assignment of a finite space that `search.require` allows, each conditional leaf only where it applies."""
    todo: list[dict[str, Any]] = [{}]
    while todo:
        assignment = todo.pop()

        def ask(name: str, distribution: Distribution, known: dict[str, Any] = assignment) -> Any:
            if name not in known:
                raise _Unlisted(name, distribution)
            return known[name]

        try:
            template.draw(ask)
        except _Unlisted as leaf:
            values = grid_values(leaf.name, leaf.distribution)
            todo += [assignment | {leaf.name: value} for value in reversed(values)]
        except Unmet:
            continue
        else:
            yield assignment


def grid_points(template: ExperimentTemplate, trials: int, seed: int) -> list[dict[str, Any]]:
    """The whole grid in the file's order, or as many random points of it as there are trials.

    Raises
    ------
    JetsweepError
        If the grid is too large to list.
    """
    points = list(itertools.islice(grid(template), _MAX_GRID + 1))
    if len(points) > _MAX_GRID:
        raise JetsweepError(f"search.sampler: grid has more than {_MAX_GRID} points; use random or tpe")
    if len(points) <= trials:
        return points
    chosen = sorted(random.Random(seed).sample(range(len(points)), trials))
    return [points[i] for i in chosen]
