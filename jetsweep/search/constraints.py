"""Outcome constraints of a sweep: judged before a trial where that is possible, after it otherwise, told to Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import ExperimentError
from jetsweep.experiment.constraints import INFERENCE, PARAMETERS, SECONDS, Constraint, parse_constraint
from jetsweep.search.abilities import USES_CONSTRAINTS

if TYPE_CHECKING:
    from optuna.trial import Trial as OptunaTrial

    from jetsweep.experiment.schema import Experiment, SearchConfig

VIOLATIONS = "violations"
"""User attribute of an Optuna trial: violation by constraint; positive is violated."""


class Infeasible(ExperimentError):
    """An experiment that violates a constraint before it was trained."""

    def __init__(self, message: str, violations: dict[str, float]) -> None:
        super().__init__(message)
        self.violations = violations


class OutcomeConstraints:
    """The constraints of one sweep.

    Parameters
    ----------
    search : SearchConfig
    data_root : Path
        Folder of made datasets.
    """

    def __init__(self, search: SearchConfig, data_root: Path) -> None:
        self.search, self.data_root = search, data_root
        self.constraints = tuple(parse_constraint(text) for text in search.constraints)
        self._classes: tuple[str, ...] | None = None

    def check_before(self, experiment: Experiment) -> None:
        """Refuse an experiment whose number of parameters breaks a bound; it need not be trained.

        Raises
        ------
        Infeasible
            With the violations.
        """
        bounds = [c for c in self.constraints if c.name == PARAMETERS]
        if not bounds:
            return
        from jetsweep.experiment.costs import count_parameters

        if self._classes is None:
            self._classes = classes_of(experiment, self.data_root)
        number = count_parameters(experiment, self._classes)
        violations = {c.text: c.violation(number) for c in bounds}
        broken = [text for text, violation in violations.items() if violation > 0]
        if broken:
            raise Infeasible(f"expected {' and '.join(broken)}, found {number:,} parameters", violations)

    def judge(self, best: Mapping[str, Any], metrics: Mapping[str, Any], folder: Path) -> dict[str, float]:
        """Violation of every constraint by a trial that trained to its end.

        Parameters
        ----------
        best, metrics : mapping
            Metrics of the best and of the last epoch; the best one is judged.
        folder : Path
            The trial's folder with its ``result.json``.
        """
        if not self.constraints:
            return {}
        return violations_of(self.constraints, {**metrics, **best, **measured(read_result(folder) or {})})

    def tell(self, asked: OptunaTrial, violations: Mapping[str, float], flag: str | None = None) -> None:
        """Write constraints into an Optuna trial, before it is told.

        Parameters
        ----------
        asked : optuna.Trial
        violations : mapping
            Where a constraint is missing its value is not known: then it counts as exactly on the bound.
        flag : str, optional
            "invalid" or "diverged": infeasible for that reason.
        """
        if violations:
            asked.set_user_attr(VIOLATIONS, dict(violations))
        if self.search.sampler not in USES_CONSTRAINTS:
            return
        for constraint in self.constraints:
            asked.set_constraint(constraint.text, violations.get(constraint.text, 0.0))
        # the Gaussian process demands the same constraints of every trial, and learns from imputed values instead
        if flag is not None and self.search.sampler != "gp":
            asked.set_constraint(flag, 1.0)


def violations_of(constraints: Sequence[Constraint], values: Mapping[str, Any]) -> dict[str, float]:
    """Violation by the text of each constraint; a value that is missing or NaN meets none."""
    found = {}
    for constraint in constraints:
        value = values.get(constraint.name, math.nan)
        found[constraint.text] = constraint.violation(float(value) if isinstance(value, int | float) else math.nan)
    return found


def read_result(folder: Path) -> dict[str, Any] | None:
    """``result.json`` of a trial's folder; None where there is none."""
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """Parameters, seconds and inference time of a trial's result, where it has them."""
    timing = result.get("timing", {})
    found = {PARAMETERS: result.get("parameters"), SECONDS: result.get("seconds"), INFERENCE: timing.get(INFERENCE)}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def classes_of(experiment: Experiment, data_root: Path) -> tuple[str, ...]:
    """Class names of an experiment's dataset, without making it."""
    from jetsweep.data.config import made_folder
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.sources._base import SOURCES

    data = experiment.data
    if data.source is None:
        return tuple(open_dataset(str(data.path)).classes)
    folder = made_folder(data.source, data_root)
    if folder.exists():
        return tuple(open_dataset(folder).classes)
    return tuple(SOURCES.get(data.source.name)(data.source).classes)
