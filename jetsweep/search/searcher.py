"""An Optuna study in a journal file beside the sweep, and Tune's view of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from ray.tune.search import Searcher

from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.search.constraints import Infeasible, OutcomeConstraints
from jetsweep.search.listener import TrialStatus
from jetsweep.search.samplers import LEARNS_FROM_PRUNED, build_sampler
from jetsweep.search.schedulers import TIME, VALUE
from jetsweep.search.space import grid_points, suggest
from jetsweep.search.trial import ENDED, ERROR, FINAL, STOP_FILE, read_error

if TYPE_CHECKING:
    from jetsweep.experiment.schema import Experiment, SearchConfig
    from jetsweep.experiment.template import ExperimentTemplate

STUDY_FILE = "study.log"

_MAX_INVALID = 200


@dataclass
class Trial:
    """One trial in the driver.

    Parameters
    ----------
    number : int
    params : mapping
        Drawn leaves; labels for choices.
    experiment : Experiment
    folder : Path
    asked : optuna.Trial
    """

    number: int
    params: Mapping[str, Any]
    experiment: Experiment
    folder: Path
    asked: optuna.Trial
    status: TrialStatus | None = None
    stopped_because: str = ""
    epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    violations: dict[str, float] = field(default_factory=dict)
    """Of outcome constraints; positive is violated."""
    repeat_of: int | None = None
    """Number of the trial whose configuration this one runs again with another seed."""


def open_study(folder: Path, search: SearchConfig) -> optuna.Study:
    """Make or load the study of a sweep's folder; the journal is the only truth about its trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = str(folder / STUDY_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # one writer, the driver; this lock works where `flock` does not, as on some network file systems
        storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        return optuna.create_study(
            storage=storage,
            sampler=build_sampler(search),
            study_name="sweep",
            directions=["maximize" if objective.mode == "max" else "minimize" for objective in search.objectives],
            load_if_exists=True,
        )


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the study for parameters and tells it how each trial ended.

    Ray's `OptunaSearch` counts stopped trials as complete, leaves NaN trials running for ever and ends the sweep when
    a metric is missing; and restoring it contradicts a storage that outlives the process (ray#30223).

    Parameters
    ----------
    study : optuna.Study
    template : ExperimentTemplate
    sweep_dir, data_root : Path
        Absolute.
    trials : int
        Trials to run at most.
    threads : int
        Of each worker.
    """

    def __init__(
        self,
        study: optuna.Study,
        template: ExperimentTemplate,
        sweep_dir: Path,
        data_root: Path,
        trials: int,
        threads: int,
    ) -> None:
        super().__init__(metric=VALUE, mode=template.search.objectives[0].mode)
        self.study, self.template, self.search = study, template, template.search
        self.sweep_dir, self.data_root, self.threads = sweep_dir, data_root, threads
        self.limit, self.trials = trials, {}
        self.stopping = False
        self.constraints = OutcomeConstraints(self.search, data_root)
        if self.search.sampler == "grid":
            points = grid_points(template, trials, self.search.seed)
            self.limit = len(points)
            for point in points:
                study.enqueue_trial(point)

    trials: dict[str, Trial]

    def suggest(self, trial_id: str) -> Any:
        if self.stopping or len(self.trials) >= self.limit:
            return Searcher.FINISHED
        trial = self._ask()
        if trial is None:
            return Searcher.FINISHED
        self.trials[trial_id] = trial
        return {
            "number": trial.number,
            "spec": trial.experiment.trial_spec().model_dump_json(),
            "workdir": str(trial.folder),
            "data_root": str(self.data_root),
            "stop_file": str(self.sweep_dir / STOP_FILE),
            "metric": self.search.objectives[0].metric,
            "threads": self.threads,
        }

    def _ask(self) -> Trial | None:
        """Next experiment that is valid as a whole; combinations that are not are told to the study as infeasible."""
        problem = ""
        for _ in range(_MAX_INVALID):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                asked = self.study.ask()
                params: dict[str, Any] = {}

                def ask(name: str, distribution: Any) -> Any:
                    params[name] = suggest(asked, name, distribution)  # noqa: B023
                    return params[name]  # noqa: B023

                try:
                    experiment = self.template.draw(ask)
                    self.constraints.check_before(experiment)
                except ExperimentError as error:
                    problem = str(error)
                    self._tell_unfit(asked, error)
                    if self.search.sampler == "grid":  # one point less; beyond the grid there is nothing to ask
                        self.limit -= 1
                        if len(self.trials) >= self.limit:
                            return None
                    continue
            return Trial(asked.number, params, experiment, self.sweep_dir / "trials" / f"{asked.number:05d}", asked)
        raise JetsweepError(f"{_MAX_INVALID} combinations in a row are no valid experiment, the last because {problem}")

    def _tell_unfit(self, asked: optuna.Trial, error: ExperimentError) -> None:
        """Tell the study about a draw that is not trained: an invalid one, or one that a constraint rules out."""
        violations = error.violations if isinstance(error, Infeasible) else {}
        asked.set_user_attr("error", str(error))
        asked.set_user_attr("stopped_because", "infeasible" if violations else "invalid")
        self.constraints.tell(asked, violations, None if violations else "invalid")
        self._tell_no_value(asked)

    def _tell_no_value(self, asked: optuna.Trial) -> None:
        """Close a trial without a result: PRUNED, or COMPLETE with the worst value for samplers blind to PRUNED."""
        worst = None if self.search.sampler in LEARNS_FROM_PRUNED else self._worst()
        self.study.tell(asked, worst, TrialState.PRUNED if worst is None else TrialState.COMPLETE)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        value = result.get(VALUE, math.nan)
        if len(self.search.objectives) == 1 and math.isfinite(value):
            trial = self.trials[trial_id].asked
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a step reported twice: the last report of a trial
                trial.report(value, int(result[TIME]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study; the table of outcomes is in `_tell`."""
        trial = self.trials[trial_id]
        if trial.status is not None:
            return
        if error or result is None or not result.get(FINAL):
            interrupted = self.stopping and not error
            trial.stopped_because = "interrupted" if interrupted else "error"
            trial.error = read_error(trial.folder) or (None if interrupted else "the trial's process died")
        else:
            trial.stopped_because, trial.error = result[ENDED], result.get(ERROR)
            trial.best = {key.removeprefix("best/"): value for key, value in result.items() if key.startswith("best/")}
        if result is not None:
            trial.epoch = int(result.get(TIME, 0))
            trial.metrics = {k.removeprefix("metrics/"): v for k, v in result.items() if k.startswith("metrics/")}
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        """Close the Optuna trial.

        ============  ============================================================================================
        budget,       COMPLETE with the objectives of the best epoch, which is the one whose weights are kept
        patience
        scheduler,    PRUNED; Optuna takes the last value reported
        interrupted
        diverged      infeasible, and PRUNED; or COMPLETE with the worst value seen, for samplers blind to PRUNED.
                      Told FAIL, samplers return to the region again and again (measured, reference/platform.md 5.1)
        error         FAIL, which samplers leave out
        ============  ============================================================================================
        """
        asked, because = trial.asked, trial.stopped_because
        asked.set_user_attr("stopped_because", because)
        asked.set_user_attr("epoch", trial.epoch)
        if trial.error:
            asked.set_user_attr("error", trial.error)
        values = [trial.best.get(o.metric, trial.metrics.get(o.metric, math.nan)) for o in self.search.objectives]
        finite = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        if because in ("budget", "patience") and not finite:
            because = "diverged"
            trial.error = trial.error or "the objective is not a finite number"
        if because == "diverged":
            self.constraints.tell(asked, {}, "diverged")
            self._tell_no_value(asked)
            trial.status, trial.stopped_because = "PRUNED", "diverged"
        elif because in ("budget", "patience"):
            trial.violations = self.constraints.judge(trial.best, trial.metrics, trial.folder)
            self.constraints.tell(asked, trial.violations)
            self.study.tell(asked, values)
            trial.status = "COMPLETE"
        elif because in ("scheduler", "interrupted"):
            self.study.tell(asked, state=TrialState.PRUNED)
            trial.status = "PRUNED"
        else:
            self.study.tell(asked, state=TrialState.FAIL)
            trial.status = "FAILED"

    def _worst(self) -> list[float] | None:
        """Worst value of each objective so far."""
        told = [t.values for t in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        if not told:
            return None
        worst = {"max": min, "min": max}
        return [worst[o.mode](values) for o, values in zip(self.search.objectives, zip(*told))]

    def close(self) -> list[Trial]:
        """Tell the study about trials that never ended, on the way out; returns them."""
        open_trials = [trial for trial in self.trials.values() if trial.status is None]
        for trial in open_trials:
            trial.stopped_because = "interrupted"
            trial.error = read_error(trial.folder)
            self._tell(trial)
        return open_trials

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""
