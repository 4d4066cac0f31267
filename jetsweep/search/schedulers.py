"""Schedulers that end weak trials early, in an order that leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

TIME, VALUE = "epoch", "objective"
"""Keys of a result that schedulers read. Tune's `training_iteration` counts reports, which a restart repeats."""

Judge = Callable[[str, dict[str, Any]], bool]
"""Takes Tune's name of a trial and a result; tells whether the trial shall stop."""


class AskingScheduler(FIFOScheduler):  # type: ignore[misc]
    """Tells trials to stop, and never ends one.

    Tune would end the trial's process at once, and with it everything that could take its workers down (ray#54305).
    So the trial is told, goes on "running", and ends by itself with its next result, after its loop has saved and its
    workers have gone. Calls of an actor run in order, so it is told before it is asked for that result.

    The verdicts are Optuna's pruners': what they know is in the study, and so outlives the process.

    Parameters
    ----------
    judge : callable
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.judge(trial.trial_id, result):
            trial.temporary_state.ray_actor.request_stop.remote("scheduler")
        return str(TrialScheduler.CONTINUE)
