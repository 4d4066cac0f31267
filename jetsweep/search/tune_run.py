"""The sweep itself: Ray Tune runs the trials that the study proposes, listeners follow."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import JetsweepError, ResourceError
from jetsweep.search.best import best
from jetsweep.search.cluster import quiet
from jetsweep.search.concurrency import Concurrency, cluster_nodes, plan_concurrency
from jetsweep.search.listener import SweepInfo, SweepListener, SweepStatus
from jetsweep.search.schedulers import build_scheduler
from jetsweep.search.searcher import StudySearcher, Trial, open_study
from jetsweep.search.trial import REPORTED, STOP_FILE, TrainFunction, trial_actor
from jetsweep.search.warm_start import warm_start

if TYPE_CHECKING:
    from jetsweep.experiment.template import ExperimentTemplate

START_TIMEOUT_S = float(os.environ.get("JETSWEEP_START_TIMEOUT_S", "300"))
"""Seconds after which a sweep in which nothing runs and nothing starts is ended."""

_DRIVER_BYTES = 64 * 1024**2

_TUNE_FOLDER = ".tune"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left.

    Parameters
    ----------
    status : "FINISHED", "STOPPED" or "FAILED"
    trials : tuple of Trial
        In the order of their numbers.
    best : Trial or None
        Best first objective among trials that trained to their end and meet `search.constraints`.
    """

    status: SweepStatus
    trials: tuple[Trial, ...]
    best: Trial | None


def run_sweep(
    template: ExperimentTemplate,
    sweep_dir: Path,
    data_root: Path,
    listener: SweepListener,
    *,
    concurrency: Concurrency | None = None,
    train: TrainFunction | None = None,
    start_timeout_s: float = START_TIMEOUT_S,
) -> SweepResult:
    """Run all trials of an experiment on the connected Ray cluster.

    Parameters
    ----------
    template : ExperimentTemplate
    sweep_dir, data_root : Path
        The sweep's folder, and the folder of made datasets; on several nodes on a filesystem that all share.
    listener : SweepListener
    concurrency : Concurrency, optional
        Computed from the cluster if not given.
    train : callable, optional
        In place of the real training; for tests and benchmarks.
    start_timeout_s : float
        Seconds without any running trial and without a new one after which the sweep ends with an error.

    Returns
    -------
    SweepResult

    Raises
    ------
    ResourceError
        If no trial fits the cluster, or none starts.
    JetsweepError
        If the sweep cannot go on. A trial's failure is not such a case; it is recorded.
    """
    sweep_dir, data_root = Path(sweep_dir).absolute(), Path(data_root).absolute()
    plan = concurrency or plan_concurrency(cluster_nodes(), template.example.resources, template.search.trials)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    stop_file = sweep_dir / STOP_FILE
    stop_file.unlink(missing_ok=True)
    study = open_study(sweep_dir, template.search)
    notes = warm_start(study, template, sweep_dir.parent).sentences()
    searcher = StudySearcher(study, template, sweep_dir, data_root, template.search.trials, plan.threads)
    follower = _follower(searcher, listener, start_timeout_s)
    status: SweepStatus = "FAILED"
    try:
        listener.sweep_started(_info(template, sweep_dir, data_root, searcher.limit, plan, notes))
        with _interrupt_once(searcher, stop_file):
            _tune(template, searcher, follower, plan, train, sweep_dir)
        if follower.problem is not None:
            raise follower.problem
        status = "STOPPED" if searcher.stopping else "FINISHED"
    finally:
        for trial in searcher.close():
            follower.ended(trial)
        listener.sweep_ended(status)
        stop_file.unlink(missing_ok=True)
        shutil.rmtree(sweep_dir / _TUNE_FOLDER, ignore_errors=True)
    trials = tuple(sorted(searcher.trials.values(), key=lambda trial: trial.number))
    return SweepResult(status, trials, best(trials, template.search.objectives))


def _info(
    template: ExperimentTemplate, sweep_dir: Path, data_root: Path, trials: int, plan: Concurrency, notes: list[str]
) -> SweepInfo:
    objectives = tuple((objective.metric, objective.mode) for objective in template.search.objectives)
    return SweepInfo(
        sweep_dir.name, template, sweep_dir, data_root, trials, plan.trials, plan.threads, objectives, notes
    )


def _tune(
    template: ExperimentTemplate,
    searcher: StudySearcher,
    follower: Any,
    plan: Concurrency,
    train: TrainFunction | None,
    sweep_dir: Path,
) -> None:
    quiet()  # Tune reads some of it on import
    from ray import tune

    # With several workers the trial's process only waits for them, and Ray Train reserves what they need. A hundredth
    # of a CPU for it could keep the last worker from fitting; Tune wants some request, and memory is what it does use.
    needs = dict(plan.worker) if plan.workers == 1 else {"memory": _DRIVER_BYTES}
    actor = tune.with_resources(trial_actor(train), tune.PlacementGroupFactory([needs]))
    tuner = tune.Tuner(
        actor,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=build_scheduler(template.search, _most_epochs(template)),
            num_samples=searcher.limit,
            max_concurrent_trials=plan.trials,
            # starting a process and importing torch costs more than many a small trial
            reuse_actors=plan.workers == 1,
            trial_dirname_creator=lambda trial: trial.trial_id,
            trial_name_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=_TUNE_FOLDER, storage_path=str(sweep_dir), verbose=0, callbacks=[follower], log_to_file=False
        ),
    )
    tuner.fit()


def _most_epochs(template: ExperimentTemplate) -> int:
    from jetsweep.experiment.distributions import probes

    drawn = [probes(d) for name, d in template.space.items() if name == "training.epochs"]
    return int(max([template.example.training.epochs, *(value for values in drawn for value in values)]))


def _follower(searcher: StudySearcher, listener: SweepListener, start_timeout_s: float) -> Any:
    """Tune callback that passes events on and notices when nothing happens any more."""
    from ray.tune import Callback

    class Follower(Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started: set[int] = set()
            self.over: set[int] = set()
            self.problem: JetsweepError | None = None
            self.idle_since = time.monotonic()

        def __reduce__(self) -> tuple[type[Any], tuple[()]]:
            # Tune pickles its callbacks into a snapshot that we never read; listeners hold locks and connections
            return (Callback, ())

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.idle_since = time.monotonic()
            self.begun(searcher.trials[trial.trial_id])

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if result.get(REPORTED):
                listener.trial_reported(searcher.trials[trial.trial_id].number, result["metrics"])

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ended(searcher.trials[trial.trial_id])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.begun(searcher.trials[trial.trial_id])  # it may have died on its very first step
            self.ended(searcher.trials[trial.trial_id])

        def begun(self, trial: Trial) -> None:
            if trial.number not in self.started:
                self.started.add(trial.number)
                listener.trial_started(trial.number, trial.params, trial.experiment, trial.folder)

        def ended(self, trial: Trial) -> None:
            self.idle_since = time.monotonic()
            if trial.number in self.started - self.over and trial.status is not None:
                self.over.add(trial.number)
                listener.trial_ended(trial.number, trial.status, trial.stopped_because, trial.folder, trial.error)

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            waiting = [trial for trial in trials if trial.status == "PENDING"]
            if not waiting or any(trial.status == "RUNNING" for trial in trials):
                self.idle_since = time.monotonic()
            elif time.monotonic() - self.idle_since > start_timeout_s:
                self.problem = _starved(waiting[0], searcher.trials[waiting[0].trial_id].number, start_timeout_s)
                raise self.problem

    return Follower()


def _starved(waiting: Any, number: int, after_s: float) -> ResourceError:
    import ray

    needs = ", ".join(f"{v:g} {k}" for k, v in waiting.placement_group_factory.required_resources.items())
    free = ", ".join(f"{v:g} {k}" for k, v in ray.available_resources().items() if k in ("CPU", "GPU"))
    return ResourceError(
        f"trial {number} waits for {needs} since {after_s:g} s and nothing else runs; free on the cluster: "
        f"{free or 'nothing'}"
    )


@contextlib.contextmanager
def _interrupt_once(searcher: StudySearcher, stop_file: Path) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: trials save and end, none starts; a second one ends the sweep at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        if searcher.stopping:
            raise KeyboardInterrupt
        searcher.stopping = True
        stop_file.touch()

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
