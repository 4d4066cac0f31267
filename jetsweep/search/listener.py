"""Who follows a sweep: a terminal table, a tracker, a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from jetsweep.experiment.schema import Experiment
    from jetsweep.experiment.template import ExperimentTemplate
    from jetsweep.search.repeats import Repeat
    from jetsweep.search.trials import Trial

TrialStatus = Literal["COMPLETE", "PRUNED", "FAILED", "STOPPED"]
"""COMPLETE: trained to its budget or patience; PRUNED: ended early by a scheduler or NaN; FAILED: crashed; STOPPED: not
at its end, goes on from its last checkpoint when the sweep is resumed."""

SweepStatus = Literal["FINISHED", "STOPPED", "FAILED"]
"""FINISHED: every trial ended; STOPPED: the user asked; FAILED: the sweep itself could not go on."""


@dataclass(frozen=True)
class SweepInfo:
    """What a listener is told about a sweep before its first trial.

    Parameters
    ----------
    name : str
        Name of the sweep's folder.
    template : ExperimentTemplate
    sweep_dir : Path
    data_root : Path
    trials : int
        Trials that will be run at most.
    concurrent : int
        Trials that run at once.
    threads : int
        Threads of each worker.
    objectives : sequence of (metric, mode)
    notes : sequence of str
        What a user should know before it begins.
    ended : sequence of Trial
        Trials that an earlier driver closed, by number.
    """

    name: str
    template: ExperimentTemplate
    sweep_dir: Path
    data_root: Path
    trials: int
    concurrent: int
    threads: int
    objectives: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    ended: Sequence[Trial] = ()


class SweepListener(Protocol):
    """Called in the driver's main thread, in order, so it must return quickly."""

    def sweep_started(self, info: SweepInfo) -> None:
        """Before the first trial."""

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        """When a trial's process runs.

        Parameters
        ----------
        number : int
            Of the Optuna trial, from 0.
        params : mapping of str to scalar
            Drawn leaves; labels for choices that are no scalars.
        experiment : Experiment
            Without distributions.
        trial_dir : Path
            Folder that the trial writes into.
        """

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        """After an epoch; `metrics` are those of the training loop (`jetsweep.training.reporter.Metrics`)."""

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        """When a trial's files are complete.

        Parameters
        ----------
        number : int
        status : "COMPLETE", "PRUNED", "FAILED" or "STOPPED"
        stopped_because : str
            "budget", "patience", "diverged", "scheduler", "interrupted" or "error".
        trial_dir : Path
        error : str or None
            One sentence where it failed or diverged; the traceback is in ``error.txt``.
        """

    def repeat_ended(self, repeat: Repeat, status: TrialStatus, folder: Path, error: str | None) -> None:
        """When a run of `search.repeats` is over; they follow after the trials.

        Parameters
        ----------
        repeat : Repeat
        status : "COMPLETE", "PRUNED", "FAILED" or "STOPPED"
        folder : Path
            Folder of the run, complete.
        error : str or None
        """

    def sweep_ended(self, status: SweepStatus) -> None:
        """On every way out, once; every started trial has been ended before."""


class Listeners:
    """Several listeners as one."""

    def __init__(self, *listeners: SweepListener) -> None:
        self.listeners = listeners

    def sweep_started(self, info: SweepInfo) -> None:
        for listener in self.listeners:
            listener.sweep_started(info)

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        for listener in self.listeners:
            listener.trial_started(number, params, experiment, trial_dir)

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        for listener in self.listeners:
            listener.trial_reported(number, metrics)

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        for listener in self.listeners:
            listener.trial_ended(number, status, stopped_because, trial_dir, error)

    def repeat_ended(self, repeat: Repeat, status: TrialStatus, folder: Path, error: str | None) -> None:
        for listener in self.listeners:
            listener.repeat_ended(repeat, status, folder, error)

    def sweep_ended(self, status: SweepStatus) -> None:
        """End all of them, also when one cannot."""
        errors = []
        for listener in self.listeners:
            try:
                listener.sweep_ended(status)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
