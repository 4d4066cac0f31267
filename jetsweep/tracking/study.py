"""The study of a sweep's folder, only to look at: its trials, how each ended, and which of them count."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.experiment.schema import Objective, SearchConfig
from jetsweep.tracking.results import ENDS, read_json

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

COMPLETE = "complete"
"""The end of a trial that trained to its budget or patience; only such trials count."""

_WITHOUT_REASON = {"COMPLETE": COMPLETE, "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "unfinished"}
"""Ends of trials that nobody gave a reason."""


@dataclass(frozen=True)
class StudyView:
    """A study as it stood when it was read.

    Parameters
    ----------
    sweep : str
    objectives : tuple of Objective
    trials : tuple of optuna.trial.FrozenTrial
        All of them; their places are their numbers.
    """

    sweep: str
    objectives: tuple[Objective, ...]
    trials: tuple[FrozenTrial, ...]

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials that count."""
        return [trial for trial in self.trials if end_of(trial) == COMPLETE]

    def ends(self) -> dict[str, int]:
        """How many trials ended how, the complete ones first."""
        found: dict[str, int] = {COMPLETE: 0}
        for trial in self.trials:
            found[end_of(trial)] = found.get(end_of(trial), 0) + 1
        return found

    def counted(self, keep: Callable[[FrozenTrial], bool] = lambda trial: True) -> Study:
        """Study in memory whose COMPLETE trials are exactly those that count and that `keep` wants.

        The others are there as FAIL, so that numbers stay what they are. Imputed values, which samplers need and
        evaluators of importance would take for results, are gone.
        """
        import optuna
        from optuna.trial import TrialState, create_trial

        quiet_optuna()
        study = optuna.create_study(
            directions=["maximize" if objective.mode == "max" else "minimize" for objective in self.objectives],
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        for trial in self.trials:
            counts = end_of(trial) == COMPLETE and keep(trial)
            study.add_trial(trial if counts else create_trial(state=TrialState.FAIL))
        return study


def end_of(trial: FrozenTrial) -> str:
    """How a trial ended, in the words of the comparison table.

    "complete" is a trial with finite objectives that trained to its end. A study also holds COMPLETE trials with values
    that were made up for the sampler; those are "diverged" or "failed".
    """
    reason = trial.user_attrs.get("stopped_because")
    if reason is None and trial.state.name == "PRUNED" and "error" in trial.user_attrs:
        return "invalid"  # a combination of leaves that is no experiment
    end = ENDS.get(str(reason)) if reason is not None else None
    end = end or _WITHOUT_REASON.get(trial.state.name, "waiting")
    if end == COMPLETE and not (trial.state.name == "COMPLETE" and all(math.isfinite(x) for x in trial.values)):
        return "diverged"
    return end


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps the constraints of the search."""
    return all(value <= 0.0 for value in trial.constraints.values())


def study_path(sweep_dir: Path) -> Path:
    """Where the journal of a sweep's study is, or would be."""
    from jetsweep.search.study import STUDY_FILE

    return sweep_dir / STUDY_FILE


def has_study(sweep_dir: Path) -> bool:
    """Whether a folder holds a study; what was trained without a search has none."""
    return study_path(sweep_dir).is_file()


def read_storage(sweep_dir: Path) -> BaseStorage:
    """The journal of a sweep as a storage that refuses to be written: the sweep's driver is its only writer.

    Raises
    ------
    TrackingError
        If there is none, or it cannot be read.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class ReadOnlyJournal(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            raise TrackingError(f"{path}: only looked at; nothing is written to it from here")

    path = study_path(sweep_dir)
    if not path.is_file():  # Optuna would make one
        raise TrackingError(f"{sweep_dir}: expected a sweep with a study ({path.name}), found none")
    quiet_optuna()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return JournalStorage(ReadOnlyJournal(str(path)))
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise TrackingError(f"{path}: expected an Optuna journal, it cannot be read: {error!r}") from error


def read_study(sweep_dir: Path) -> StudyView:
    """Read a sweep's study; a sweep that runs is left alone.

    Parameters
    ----------
    sweep_dir : Path
        With ``study.log`` and ``experiment.json``.

    Raises
    ------
    TrackingError
        If there is no study, or it cannot be read.
    """
    storage = read_storage(sweep_dir)
    studies = storage.get_all_studies()
    if not studies:
        raise TrackingError(f"{study_path(sweep_dir)}: expected a study, the journal is empty")
    trials = storage.get_all_trials(studies[0]._study_id, deepcopy=False)
    objectives = _objectives(sweep_dir)
    if len(objectives) != len(studies[0].directions):
        raise TrackingError(
            f"{sweep_dir}: expected a study of {len(objectives)} objectives as in experiment.json, "
            f"found {len(studies[0].directions)}"
        )
    return StudyView(sweep_dir.absolute().name, objectives, tuple(trials))


def _objectives(sweep_dir: Path) -> tuple[Objective, ...]:
    search = read_json(sweep_dir / "experiment.json").get("search") or {}
    objectives = search.get("objectives")
    return SearchConfig.model_validate({} if objectives is None else {"objectives": objectives}).objectives


def short(value: Any) -> str:
    """A drawn value for a label."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def quiet_optuna() -> None:
    """Leave the terminal to jetsweep."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
