"""The sweep itself: Ray Tune runs the trials that the study proposes, listeners follow."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.search.best import best
from jetsweep.search.budget import Clock
from jetsweep.search.cluster import quiet
from jetsweep.search.concurrency import Concurrency, cluster_nodes, plan_concurrency
from jetsweep.search.follower import Follower
from jetsweep.search.listener import SweepInfo, SweepListener, SweepStatus
from jetsweep.search.lock import ask_to_stop, driving
from jetsweep.search.repeat_run import RepeatEvents, RepeatSearcher, planned_repeats
from jetsweep.search.schedulers import AskingScheduler
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.study import open_study
from jetsweep.search.trial import TrainFunction, trial_actor
from jetsweep.search.trials import Trial
from jetsweep.search.warm_start import warm_start
from jetsweep.training.config import NEW_NODE_S

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
    why : str
        One sentence if a budget or the terminator ended it.
    """

    status: SweepStatus
    trials: tuple[Trial, ...]
    best: Trial | None
    why: str = ""


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
    search = template.search
    plan = concurrency or plan_concurrency(cluster_nodes(), template.example.resources, search.trials)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    with driving(sweep_dir):
        study = open_study(sweep_dir, search, _most_epochs(template))
        notes = warm_start(study, template, sweep_dir.parent).sentences()
        searcher = StudySearcher(study, template, sweep_dir, data_root, search.trials, plan.threads, plan.trials)
        clock = Clock(sweep_dir, search, plan.workers)
        if template.example.resources.autoscaler:
            start_timeout_s = max(start_timeout_s, NEW_NODE_S)
        follower = Follower(searcher, listener, clock, start_timeout_s)
        status: SweepStatus = "FAILED"
        try:
            listener.sweep_started(_info(searcher, plan, [*_taken_up(searcher), *notes]))
            with _interrupt_once(searcher, sweep_dir):
                _tune(template, searcher, follower, plan, train)
                if not searcher.stopping and search.repeats is not None:
                    _repeat(template, searcher, listener, clock, plan, train, start_timeout_s)
            status = "STOPPED" if searcher.stopping else "FINISHED"
            if status == "FINISHED":
                for snapshot in sweep_dir.glob("trials/*/checkpoints/epoch-*"):
                    shutil.rmtree(snapshot, ignore_errors=True)
        finally:
            for trial in searcher.close():
                follower.ended(trial)
            clock.write()
            listener.sweep_ended(status)
            shutil.rmtree(sweep_dir / _TUNE_FOLDER, ignore_errors=True)
    trials = tuple(searcher.all_trials)
    why = searcher.stopped_by or searcher.enough
    return SweepResult(status, trials, best(trials, search.objectives), why)


def _taken_up(searcher: StudySearcher) -> list[str]:
    """What is told about a sweep that is resumed."""
    if not searcher.ended and not searcher.num_continued:
        return []
    ended, going_on = len(searcher.ended), searcher.num_continued
    return [f"Resumed: {ended} ended before, {going_on} to go on from their last checkpoint"]


def _repeat(
    template: ExperimentTemplate,
    searcher: StudySearcher,
    listener: SweepListener,
    clock: Clock,
    plan: Concurrency,
    train: TrainFunction | None,
    start_timeout_s: float,
) -> None:
    """Run `search.repeats` after the trials."""
    planned = planned_repeats(searcher.sweep_dir, searcher)
    runs = RepeatSearcher(searcher, planned)
    follower = Follower(runs, RepeatEvents(listener, planned), clock, start_timeout_s)
    try:
        _tune(template, runs, follower, plan, train)
    finally:
        for run in runs.close():
            follower.ended(run)


def _info(searcher: StudySearcher, plan: Concurrency, notes: list[str]) -> SweepInfo:
    return SweepInfo(
        searcher.sweep_dir.name,
        searcher.template,
        searcher.sweep_dir,
        searcher.data_root,
        searcher.limit,
        plan.trials,
        plan.threads,
        tuple((objective.metric, objective.mode) for objective in searcher.search.objectives),
        notes,
        tuple(searcher.ended),
    )


def _tune(
    template: ExperimentTemplate,
    searcher: StudySearcher | RepeatSearcher,
    follower: Follower,
    plan: Concurrency,
    train: TrainFunction | None,
) -> None:
    wanted = searcher.num_wanted
    if wanted <= 0:
        return
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
            scheduler=AskingScheduler(searcher.judge),
            num_samples=wanted * (1 + template.example.resources.max_restarts),  # the searcher ends it
            max_concurrent_trials=plan.trials,
            # starting a process and importing torch costs more than many a small trial
            reuse_actors=plan.workers == 1,
            trial_dirname_creator=lambda trial: trial.trial_id,
            trial_name_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=_TUNE_FOLDER,
            storage_path=str(searcher.sweep_dir),
            verbose=0,
            callbacks=[follower],
            log_to_file=False,
        ),
    )
    tuner.fit()
    if follower.problem is not None:
        raise follower.problem


def _most_epochs(template: ExperimentTemplate) -> int:
    from jetsweep.experiment.distributions import probes

    drawn = [probes(d) for name, d in template.space.items() if name == "training.epochs"]
    return int(max([template.example.training.epochs, *(value for values in drawn for value in values)]))


@contextlib.contextmanager
def _interrupt_once(searcher: StudySearcher, sweep_dir: Path) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: trials save and end, none starts; a second one ends the sweep at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        if searcher.stopping:
            raise KeyboardInterrupt
        searcher.stopping = True
        ask_to_stop(sweep_dir)

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
