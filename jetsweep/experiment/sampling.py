"""Random draws from an experiment file without a study: for `jetsweep plan` and for tests of search spaces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from jetsweep.errors import ExperimentError
from jetsweep.experiment.distributions import Distribution, draw
from jetsweep.experiment.requirements import Unmet
from jetsweep.experiment.schema import Experiment
from jetsweep.experiment.template import ExperimentTemplate

_MAX_REFUSED = 1000


def sample(template: ExperimentTemplate, count: int, seed: int = 0) -> Iterator[tuple[dict[str, Any], Experiment]]:
    """Yield `count` random experiments with the leaves that were drawn for each.

    What `search.require` refuses is drawn again.

    Parameters
    ----------
    template : ExperimentTemplate
    count : int
    seed : int

    Raises
    ------
    ExperimentError
        If hardly any draw meets the requirements.
    """
    rng = random.Random(seed)
    for _ in range(count):
        yield _sample(template, rng)


def _sample(template: ExperimentTemplate, rng: random.Random) -> tuple[dict[str, Any], Experiment]:
    problem = ""
    for _ in range(_MAX_REFUSED):
        drawn: dict[str, Any] = {}

        def ask(name: str, distribution: Distribution, drawn: dict[str, Any] = drawn) -> Any:
            drawn[name] = draw(distribution, rng)
            return drawn[name]

        try:
            return drawn, template.draw(ask)
        except Unmet as error:
            problem = str(error)
    raise ExperimentError(f"{problem}; {_MAX_REFUSED} draws in a row were refused")
