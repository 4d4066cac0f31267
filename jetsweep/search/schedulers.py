"""Schedulers that end weak trials early, in an order that leaves nothing behind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

if TYPE_CHECKING:
    from jetsweep.experiment.schema import SearchConfig

TIME, VALUE = "epoch", "objective"
"""Keys of a result that schedulers read. Tune's `training_iteration` counts reports, which a restart repeats."""

_NEVER = 10**9


class _Asks(TrialScheduler):  # type: ignore[misc]
    """Turns a scheduler's stop into a question to the trial.

    Tune would end the trial's process at once, and with it everything that could take its workers down (ray#54305).
    So the trial is told, goes on "running", and ends by itself with its next result, after its loop has saved and its
    workers have gone. Calls of an actor run in order, so it is told before it is asked for that result.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not _usable(result):  # NaN passes every comparison of ASHA and spoils every mean of the median rule
            return str(TrialScheduler.CONTINUE)
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            trial.temporary_state.ray_actor.request_stop.remote("scheduler")
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if _usable(result):
            super().on_trial_complete(tune_controller, trial, result)


def _usable(result: dict[str, Any]) -> bool:
    return TIME in result and math.isfinite(result.get(VALUE, math.nan))


class _ASHA(_Asks, AsyncHyperBandScheduler):  # type: ignore[misc]
    pass


class _Median(_Asks, MedianStoppingRule):  # type: ignore[misc]
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial in self._stopped_trials:  # asked before, on its way out
            return str(TrialScheduler.CONTINUE)
        return super().on_trial_result(tune_controller, trial, result)


def build_scheduler(search: SearchConfig, epochs: int) -> TrialScheduler:
    """Make the scheduler of ``search.scheduler``, which judges the first objective after each epoch.

    Parameters
    ----------
    search : SearchConfig
    epochs : int
        Largest number of epochs of any trial.
    """
    if search.scheduler == "none":
        return FIFOScheduler()
    mode = search.objectives[0].mode
    if search.scheduler == "median":
        # `min_time_slice`: without it, trials pause as long as there are too few to compare with
        return _Median(time_attr=TIME, metric=VALUE, mode=mode, grace_period=search.grace_epochs, min_time_slice=_NEVER)
    grace = min(search.grace_epochs, epochs)
    return _ASHA(
        time_attr=TIME,
        metric=VALUE,
        mode=mode,
        max_t=epochs,
        grace_period=grace,
        reduction_factor=search.reduction_factor,
        brackets=min(search.brackets, 1 + int(math.log(epochs / grace, search.reduction_factor) + 1e-9)),
        stop_last_trials=False,
    )
