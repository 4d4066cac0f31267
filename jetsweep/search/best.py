"""Which trials count: the best, the Pareto front, and the order of the rest.

A trial counts that trained to its end, reports every objective, and meets every constraint. One that was stopped
early, diverged or failed never does, nor a run that only repeats another, nor a trial of an earlier sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from jetsweep.experiment.schema import Objective
    from jetsweep.search.trials import Trial

FROM_SWEEP, REPEAT_OF = "from_sweep", "repeat_of"
"""User attributes of Optuna trials that are no trials of this sweep: known from an earlier one, or repetitions."""


def objective_values(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Objectives of the best epoch; NaN where a trial does not report one."""
    values = (trial.best.get(o.metric, trial.metrics.get(o.metric)) for o in objectives)
    return tuple(float(value) if isinstance(value, int | float) else math.nan for value in values)


def counts(trial: Trial, objectives: Sequence[Objective]) -> bool:
    """Whether a trial may be best or on the front."""
    return (
        trial.status == "COMPLETE"
        and trial.repeat_of is None
        and not any(violation > 0 for violation in trial.violations.values())
        and all(map(math.isfinite, objective_values(trial, objectives)))
    )


def best(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The trial with the best first objective among those that count; None where none does.

    Of several equal ones the one with the lowest number.
    """
    first = objectives[:1]
    able = [trial for trial in trials if counts(trial, objectives)]
    return min(able, key=lambda trial: (_losses(trial, first), trial.number), default=None)


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Trials that count and that no other beats, in the order of their first objective.

    Of one objective this is the best trial, with all that equal it.
    """
    able = [trial for trial in trials if counts(trial, objectives)]
    front = non_dominated([_losses(trial, objectives) for trial in able])
    members = [trial for trial, on_front in zip(able, front) if on_front]
    return sorted(members, key=lambda trial: (_losses(trial, objectives), trial.number))


def ranked(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Trials that count, best first: front by front, each in the order of the first objective."""
    left = [trial for trial in trials if counts(trial, objectives)]
    if len(objectives) == 1:
        return sorted(left, key=lambda trial: (_losses(trial, objectives), trial.number))
    order: list[Trial] = []
    while left:
        front = pareto_front(left, objectives)
        numbers = {trial.number for trial in front}
        order += front
        left = [trial for trial in left if trial.number not in numbers]
    return order


def non_dominated(losses: ArrayLike) -> list[bool]:
    """Which rows no other row dominates; equal rows are all kept.

    Parameters
    ----------
    losses : array-like, shape (trials, objectives)
        Finite; smaller is better.

    Returns
    -------
    list of bool
        One per row.
    """
    rows = np.asarray(losses, dtype=np.float64)
    if not rows.size:
        return []
    return [not ((rows <= row).all(axis=1) & (rows < row).any(axis=1)).any() for row in rows]


def _losses(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Objective values, smaller is better."""
    values = objective_values(trial, objectives)
    return tuple(value if o.mode == "min" else -value for value, o in zip(values, objectives))


def is_own(trial: FrozenTrial) -> bool:
    """Whether an Optuna trial is one of this sweep's trials, whatever became of it."""
    return FROM_SWEEP not in trial.user_attrs and REPEAT_OF not in trial.user_attrs


def own_trials(study: Study) -> list[FrozenTrial]:
    """Trials of a study that belong to its sweep: neither those taken from an earlier sweep nor repetitions."""
    return [trial for trial in study.get_trials(deepcopy=False) if is_own(trial)]
