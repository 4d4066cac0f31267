"""Random draws from an experiment file without a study: for `jetsweep plan` and for tests of search spaces."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

from jetsweep.experiment.distributions import Choice, Distribution, Int, Normal
from jetsweep.experiment.schema import Experiment
from jetsweep.experiment.template import ExperimentTemplate


def sample(template: ExperimentTemplate, count: int, seed: int = 0) -> Iterator[tuple[dict[str, Any], Experiment]]:
    """Yield `count` random experiments with the leaves that were drawn for each.

    Parameters
    ----------
    template : ExperimentTemplate
    count : int
    seed : int
    """
    rng = random.Random(seed)
    for _ in range(count):
        drawn: dict[str, Any] = {}

        def ask(name: str, distribution: Distribution, drawn: dict[str, Any] = drawn) -> Any:
            drawn[name] = draw(distribution, rng)
            return drawn[name]

        experiment = template.draw(ask)
        yield drawn, experiment


def draw(distribution: Distribution, rng: random.Random) -> Any:
    """One value of a distribution; of a choice the label."""
    if isinstance(distribution, Choice):
        return rng.choice(distribution.labels)
    if isinstance(distribution, Normal):
        curve = NormalDist(distribution.mean, distribution.std)
        quantile = rng.uniform(curve.cdf(distribution.low), curve.cdf(distribution.high))
        value = curve.inv_cdf(min(max(quantile, 1e-12), 1 - 1e-12))
        return min(max(value, distribution.low), distribution.high)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
        # the exponential of a logarithm may leave the interval by a rounding error
        value = min(max(value, low), high)
        return round(value) if isinstance(distribution, Int) else value
    if distribution.step is None:
        return rng.uniform(low, high)
    steps = rng.randrange(int((high - low) / distribution.step + 1e-9) + 1)
    return low + steps * distribution.step
