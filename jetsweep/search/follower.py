"""What Tune tells the driver: events for listeners, and signs that a sweep no longer moves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback

from jetsweep.errors import JetsweepError, ResourceError
from jetsweep.search.budget import Clock, found_enough
from jetsweep.search.listener import SweepListener
from jetsweep.search.lock import STOP_FILE, ask_to_stop
from jetsweep.search.repeat_run import RepeatSearcher
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.trial import REPORTED
from jetsweep.search.trials import Trial

_LOOK_S = 0.5


class Follower(Callback):  # type: ignore[misc]
    """Tune callback of a sweep.

    Parameters
    ----------
    searcher : StudySearcher or RepeatSearcher
    listener : SweepListener
    clock : Clock
    start_timeout_s : float
        Seconds without any running trial and without a new one after which the sweep ends with an error.
    """

    def __init__(
        self, searcher: StudySearcher | RepeatSearcher, listener: SweepListener, clock: Clock, start_timeout_s: float
    ) -> None:
        self.searcher, self.listener, self.clock, self.start_timeout_s = searcher, listener, clock, start_timeout_s
        self.started: set[int] = set()
        self.over: set[int] = set()
        self.problem: JetsweepError | None = None
        self.idle_since = self.looked = time.monotonic()
        self.heard: dict[str, float] = {}

    def __reduce__(self) -> tuple[type[Any], tuple[()]]:
        # Tune pickles its callbacks into a snapshot that we never read; listeners hold locks and connections
        return (Callback, ())

    @property
    def trials(self) -> Mapping[str, Trial]:
        """Trials by Tune's name."""
        return self.searcher.trials

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.idle_since = self.heard[trial.trial_id] = time.monotonic()
        self.begun(self.trials[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.heard[trial.trial_id] = time.monotonic()
        if result.get(REPORTED):
            self.listener.trial_reported(self.trials[trial.trial_id].number, json.loads(result["metrics"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        forget_statistics(trial)
        self.ended(self.trials[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        forget_statistics(trial)
        self.begun(self.trials[trial.trial_id])  # it may have died on its very first step
        self.ended(self.trials[trial.trial_id])

    def begun(self, trial: Trial) -> None:
        """Announce a trial, once."""
        if trial.number not in self.started:
            self.started.add(trial.number)
            self.listener.trial_started(trial.number, trial.params, trial.experiment, trial.folder)

    def ended(self, trial: Trial) -> None:
        """Announce the end of a trial that had begun, once."""
        self.idle_since = time.monotonic()
        if trial.number in self.started - self.over and trial.status is not None:
            self.over.add(trial.number)
            self.listener.trial_ended(trial.number, trial.status, trial.stopped_because, trial.folder, trial.error)
            if trial.status == "COMPLETE" and not self.searcher.enough:
                self.searcher.enough = found_enough(self.searcher.all_trials, self.searcher.search) or ""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        running = sum(trial.status == "RUNNING" for trial in trials)
        waiting = [trial for trial in trials if trial.status == "PENDING"]
        now = time.monotonic()
        if now - self.looked > _LOOK_S:
            self.looked = now
            self.clock.tick(running)
            self._look_for_reasons_to_stop()
            self._look_for_stalled([trial for trial in trials if trial.status == "RUNNING"])
        if not waiting or running:
            self.idle_since = now
        elif now - self.idle_since > self.start_timeout_s:
            number = self.trials[waiting[0].trial_id].number
            self.problem = starved(waiting[0], number, self.start_timeout_s)
            raise self.problem

    def _look_for_stalled(self, running: list[Any]) -> None:
        """End the process of a trial that hangs; the searcher then starts it again, so often."""
        import ray

        for trial in running:
            mine = self.trials[trial.trial_id]
            minutes, actor = mine.experiment.resources.stall_minutes, trial.temporary_state.ray_actor
            silent_s = time.monotonic() - self.heard.get(trial.trial_id, self.looked)
            if minutes is not None and actor is not None and silent_s > 60 * minutes:
                self.heard[trial.trial_id] = time.monotonic()
                mine.stalled = f"no epoch ended for {minutes:g} minutes"
                ray.kill(actor)

    def _look_for_reasons_to_stop(self) -> None:
        """`jetsweep stop` leaves a file; a budget ends by itself."""
        stop_file = self.searcher.sweep_dir / STOP_FILE
        if self.searcher.stopping:
            return
        spent = self.clock.spent()
        if spent is not None:
            self.searcher.stopped_by = spent
            ask_to_stop(self.searcher.sweep_dir)
            self.searcher.stopping = True
        elif stop_file.exists():
            self.searcher.stopping = True


def forget_statistics(trial: Any) -> None:
    """Drop what Tune keeps of every number an ended trial reported; nobody reads it."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()
    trial.run_metadata.invalidate_cache()


def starved(waiting: Any, number: int, after_s: float) -> ResourceError:
    """What a trial waits for in vain."""
    import ray

    needs = ", ".join(f"{v:g} {k}" for k, v in waiting.placement_group_factory.required_resources.items())
    free = ", ".join(f"{v:g} {k}" for k, v in ray.available_resources().items() if k in ("CPU", "GPU"))
    return ResourceError(
        f"trial {number} waits for {needs} since {after_s:g} s and nothing else runs; free on the cluster: "
        f"{free or 'nothing'}"
    )
