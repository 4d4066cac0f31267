"""`search.start`: what a sweep begins with, checked against its space when the file is read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from jetsweep.errors import ExperimentError
from jetsweep.experiment._validate import did_you_mean
from jetsweep.experiment._yaml import Path_, dotted
from jetsweep.experiment.distributions import Choice, Distribution, Float, Int, draw, probes

if TYPE_CHECKING:
    from jetsweep.experiment.template import ExperimentTemplate

LEARNING_SAMPLERS = ("tpe", "gp")
"""Those that use trials they did not propose; CMA-ES and NSGA-II follow their own generations only."""

_DRAWS = 50
AT: Path_ = ("search", "start")


def check_points(template: ExperimentTemplate) -> None:
    """Refuse a start that cannot be what its author meant.

    Raises
    ------
    ExperimentError
        One sentence with file and line.
    """
    start, sampler, document = template.search.start, template.search.sampler, template.document
    if start.points and sampler == "grid":
        raise document.error((*AT, "points"), "expected no points with the sampler grid, which runs every point")
    if start.sweep is not None and sampler not in LEARNING_SAMPLERS:
        known = ", ".join(LEARNING_SAMPLERS)
        raise document.error(
            (*AT, "sweep"), f"expected a sampler that learns from earlier trials ({known}), found {sampler!r}"
        )
    if start.trials is not None and start.sweep is None:
        raise document.error((*AT, "trials"), "expected the key 'sweep' beside it, found none")
    for i in range(len(start.points)):
        resolve_point(template, i)


def resolve_point(template: ExperimentTemplate, index: int) -> dict[str, Any]:
    """One of `search.start.points`, by names of `template.space`, labels for choices.

    A key may be the name of a leaf or its path in the experiment, which in several branches may be several leaves.

    Raises
    ------
    ExperimentError
        If a key is unknown or never drawn beside the others, a value is outside its range, or the whole is invalid.
    """
    point = template.search.start.points[index]
    path: Path_ = (*AT, "points", index)
    keys = _leaves_of(template, point, path)
    found: dict[str, Any] = {}
    rng, problem, valid = random.Random(0), None, False
    for attempt in range(_DRAWS):
        free = False

        def ask(name: str, distribution: Distribution, again: int = attempt) -> Any:
            nonlocal free
            if name in keys:
                try:
                    found[name] = value_of(distribution, point[keys[name]])
                except ValueError as error:
                    raise _Wrong(template.document.error((*path, keys[name]), str(error))) from error
                return found[name]
            free = True
            return draw(distribution, rng) if again else probes(distribution)[0]

        try:
            template.draw(ask)
        except _Wrong as wrong:
            raise wrong.error from None
        except ExperimentError as error:
            problem = problem or error
        else:
            valid = True
            if found.keys() == keys.keys():
                break
        if not free:
            break
    if problem is not None and not valid:
        raise template.document.error(path, f"expected a valid experiment, found none: {problem}")
    for key in point:
        if key not in {keys[name] for name in found}:
            raise template.document.error((*path, key), "expected a leaf that is drawn beside the others of this point")
    return found


class _Wrong(Exception):
    """A value of the point, not the experiment around it, is wrong."""

    def __init__(self, error: ExperimentError) -> None:
        self.error = error


def _leaves_of(template: ExperimentTemplate, point: dict[str, Any], path: Path_) -> dict[str, str]:
    """Key of the point by the name of each leaf that it may stand for."""
    paths = {name: dotted(template.leaves[name].path) for name in template.space}
    known = list(dict.fromkeys([*paths.values(), *paths]))
    keys: dict[str, str] = {}
    for key in point:
        names = [name for name, where in paths.items() if key in (name, where)]
        if not names:
            raise template.document.error(
                (*path, key),
                f"expected a leaf that is searched ({', '.join(known)}), found {key!r}" + did_you_mean(key, known),
            )
        for name in names:
            if name in keys:
                raise template.document.error((*path, key), f"expected each leaf once, found {keys[name]!r} as well")
            keys[name] = key
    return keys


def value_of(distribution: Distribution, value: Any) -> Any:
    """A value as `suggest` returns it: the label of a choice, an integer, or a float.

    Raises
    ------
    ValueError
        If the distribution cannot give it; the message says what was expected and found.
    """
    if isinstance(distribution, Choice):
        for label, option in zip(distribution.labels, distribution.options):
            if any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in (label, option)):
                return label
        labels = [str(label) for label in distribution.labels]
        raise ValueError(f"expected one of {', '.join(labels)}, found {value!r}{did_you_mean(value, labels)}")
    low, high = distribution.low, distribution.high
    kind: type = int if isinstance(distribution, Int) else float
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and value != int(value)):
        raise ValueError(f"expected a {'whole ' if kind is int else ''}number, found {value!r}")
    if not low <= value <= high:
        raise ValueError(f"expected a number from {low:g} to {high:g}, found {value:g}")
    step = distribution.step if isinstance(distribution, Int | Float) else None
    if step is not None and abs((steps := (value - low) / step) - round(steps)) > 1e-8:
        raise ValueError(f"expected {low:g} and steps of {step:g}, found {value:g}")
    return kind(value)
