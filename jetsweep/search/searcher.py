"""The study of a sweep as Tune sees it: it asks for parameters and tells how each trial ended."""

from __future__ import annotations

import math
import warnings
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from ray.tune.search import Searcher

from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.search.abilities import LEARNS_FROM_PRUNED
from jetsweep.search.best import own_trials
from jetsweep.search.constraints import Infeasible, OutcomeConstraints
from jetsweep.search.lock import STOP_FILE
from jetsweep.search.pbt import EXPLOITS, Order, order_for, require_changeable
from jetsweep.search.schedulers import TIME, VALUE
from jetsweep.search.space import grid_points, suggest
from jetsweep.search.trials import ENDED_AS, Trial, catch_up, ended_trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from jetsweep.experiment.template import ExperimentTemplate

_MAX_INVALID = 200
_GRID, _GENERATION = "grid_points", "generation"
"""Attributes of the study: points queued; trials of a generation where the search is deterministic."""

_ASKED = "asked_to_stop"
"""Attribute of a trial that the scheduler stops."""


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
    concurrent : int
        Trials at once.
    """

    def __init__(
        self,
        study: optuna.Study,
        template: ExperimentTemplate,
        sweep_dir: Path,
        data_root: Path,
        trials: int,
        threads: int,
        concurrent: int = 1,
    ) -> None:
        super().__init__(metric=VALUE, mode=template.search.objectives[0].mode)
        self.study, self.template, self.search = study, template, template.search
        self.sweep_dir, self.data_root, self.threads = sweep_dir, data_root, threads
        self.limit, self.trials = trials, {}
        self.stopping, self.stopped_by, self.enough = False, "", ""
        self.constraints = OutcomeConstraints(self.search, data_root)
        self.ended: list[Trial] = []
        self.unfinished: deque[Trial] = deque()
        require_changeable(template)
        if self.search.sampler == "grid":
            self._queue_grid(trials)
        self._read_study()
        self.num_continued = len(self.unfinished)
        self.generation = self._generation_size(concurrent) if self.search.deterministic else 0
        if self.generation and self.num_asked % self.generation:
            self._complete_generation()

    trials: dict[str, Trial]
    """Trials of this driver by Tune's name."""
    ended: list[Trial]
    """Trials that an earlier driver closed."""
    unfinished: deque[Trial]
    """Trials that were asked for and are not running: of an earlier driver, or of the generation that begins."""

    def _queue_grid(self, trials: int) -> None:
        points = grid_points(self.template, trials, self.search.seed)
        for point in points[self.study.user_attrs.get(_GRID, 0) :]:
            self.study.enqueue_trial(point)
            self.study.set_user_attr(_GRID, self.study.user_attrs.get(_GRID, 0) + 1)
        self.limit = len(points)

    def _read_study(self) -> None:
        """Take over what earlier drivers left."""
        for frozen in own_trials(self.study):
            if frozen.state == TrialState.RUNNING:
                asked = optuna.trial.Trial(self.study, frozen._trial_id)
                trial = self._draw(asked)
                if trial is not None:
                    self._continue(trial, frozen)
                    self.unfinished.append(trial)
            elif frozen.user_attrs.get("stopped_because") in ENDED_AS:
                self.ended.append(ended_trial(frozen, self.template, self._folder(frozen.number)))
            elif frozen.state.is_finished() and self.search.sampler == "grid":
                self.limit -= 1  # a point that was not valid

    def _continue(self, trial: Trial, frozen: FrozenTrial) -> None:
        """Judge what a trial wrote down and nobody judged; an earlier verdict holds."""
        assert trial.asked is not None
        if len(self.search.objectives) > 1:
            return
        if frozen.user_attrs.get(EXPLOITS):
            trial.remember(frozen.user_attrs[EXPLOITS][-1], self.template, self.sweep_dir)
        last = catch_up(trial, self.search.objectives[0].metric, frozen.intermediate_values)
        if last is None or last.get("stopped_because"):
            return
        if self.search.scheduler == "pbt":
            if trial.exploit is None or trial.exploit.epoch < last["epoch"]:
                self._exploits(trial, int(last["epoch"]))
        else:
            verdict = frozen.user_attrs.get(_ASKED) or (self.search.scheduler != "none" and self._prunes(trial))
            trial.asked_by = "scheduler" if verdict else ""

    def _generation_size(self, concurrent: int) -> int:
        if _GENERATION not in self.study.user_attrs:
            self.study.set_user_attr(_GENERATION, concurrent)
        return int(self.study.user_attrs[_GENERATION])

    @property
    def num_asked(self) -> int:
        """Trials of the sweep so far, ended or not."""
        return len(self.all_trials)

    @property
    def num_wanted(self) -> int:
        """Trials that are still to be run or to be ended."""
        return max(self.limit - len(self.ended), len(self.unfinished))

    @property
    def all_trials(self) -> list[Trial]:
        """Trials of the sweep, those of earlier drivers included, by number."""
        known = {trial.number: trial for trial in (*self.ended, *self.trials.values(), *self.unfinished)}
        return [known[number] for number in sorted(known)]

    def suggest(self, trial_id: str) -> Any:
        if self.stopping:
            return Searcher.FINISHED
        trial = self._next()
        if not isinstance(trial, Trial):
            return trial
        self.trials[trial_id] = trial
        return self.config_of(trial)

    def config_of(self, trial: Trial) -> dict[str, Any]:
        """What a trial's process is told."""
        return {
            "number": trial.number,
            "spec": trial.experiment.trial_spec().model_dump_json(),
            "workdir": str(trial.folder),
            "data_root": str(self.data_root),
            "stop_file": str(self.sweep_dir / STOP_FILE),
            "metric": self.search.objectives[0].metric,
            "threads": self.threads,
            "asked_by": trial.asked_by,
            # else the moment at which the driver answers would decide how far a stopped trial gets
            "patient": self.search.deterministic or self.search.scheduler == "pbt",
            "exploit": asdict(trial.exploit) if trial.exploit is not None else None,
        }

    def _next(self) -> Trial | str | None:
        """Next trial to run; None while it must not be asked for yet, FINISHED when there is none left."""
        running = any(trial.status is None for trial in self.trials.values())
        if self.generation and not self.unfinished and not running and not self.enough:
            self._complete_generation()
        if self.unfinished:
            return self.unfinished.popleft()
        if self.num_asked < self.limit and not self.generation and not self.enough:
            trial = self._ask()
            if trial is not None:
                return trial
        return None if running else str(Searcher.FINISHED)  # a trial that runs may die, and start again

    def _complete_generation(self) -> None:
        """Ask for the rest of a generation at once, so that no proposal depends on which trial ends first."""
        while self.num_asked < self.limit:
            trial = self._ask()
            if trial is None:
                return
            self.unfinished.append(trial)
            if self.num_asked % self.generation == 0:
                return

    def _ask(self) -> Trial | None:
        """Next experiment that is valid as a whole; None where a grid has no point left."""
        for _ in range(_MAX_INVALID):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                trial = self._draw(self.study.ask())
            if trial is not None:
                return trial
            if self.search.sampler == "grid":  # one point less; beyond the grid there is nothing to ask
                self.limit -= 1
                if self.num_asked >= self.limit:
                    return None
        raise JetsweepError(
            f"{_MAX_INVALID} combinations in a row are no valid experiment, the last because {self._problem}"
        )

    def _draw(self, asked: optuna.Trial) -> Trial | None:
        """Trial of an Optuna trial; a combination that is not valid is told to the study as infeasible, and None.

        Leaves that were drawn before, by this driver or an earlier one, come out as they were.
        """
        params: dict[str, Any] = {}

        def ask(name: str, distribution: Any) -> Any:
            params[name] = suggest(asked, name, distribution)
            return params[name]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            try:
                experiment = self.template.draw(ask)
                self.constraints.check_before(experiment)
            except ExperimentError as error:
                self._problem = str(error)
                self._tell_unfit(asked, error)
                return None
        if self.search.scheduler == "pbt":
            training = experiment.training.model_copy(update={"snapshot_every": self.search.pbt.interval})
            experiment = experiment.model_copy(update={"training": training})
        return Trial(asked.number, params, experiment, self._folder(asked.number), asked)

    def _folder(self, number: int) -> Path:
        return self.sweep_dir / "trials" / f"{number:05d}"

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

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool | Order:
        """Tell the study an epoch; returns whether the scheduler wants the trial to stop, or to go on from another."""
        trial, value = self.trials[trial_id], result.get(VALUE, math.nan)
        if len(self.search.objectives) > 1 or trial.asked is None or not math.isfinite(value):
            return False
        self._report(trial.asked, value, int(result[TIME]))
        if self.search.scheduler == "pbt":
            return self._exploits(trial, int(result[TIME])) or False
        if self.search.scheduler == "none" or trial.asked_by or not self._prunes(trial):
            return False
        trial.asked_by = "scheduler"
        return True

    def _exploits(self, trial: Trial, epoch: int) -> Order | None:
        """What a trial takes from another one now; the study learns it before the trial does."""
        assert trial.asked is not None
        if epoch >= trial.experiment.training.epochs:
            return None
        order = order_for(trial.number, epoch, own_trials(self.study), self.template, self.sweep_dir)
        if order is not None:
            trial.follow(order)
            before = trial.asked.user_attrs.get(EXPLOITS, [])
            trial.asked.set_user_attr(EXPLOITS, [*before, order.record()])
        return order

    def _prunes(self, trial: Trial) -> bool:
        assert trial.asked is not None
        verdict = bool(trial.asked.should_prune())
        if verdict:
            trial.asked.set_user_attr(_ASKED, True)  # it holds for the next driver too
        return verdict

    def _report(self, asked: optuna.Trial, value: float, epoch: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an epoch that was trained again
            asked.report(value, epoch)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler, which Tune asks first, has told the study."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study; the table of outcomes is in `_tell`."""
        trial = self.trials[trial_id]
        if trial.status is not None:
            return
        trial.take_end(None if error else result, self.stopping)
        if trial.may_restart:
            trial.restart()
            assert trial.asked is not None
            self._continue(trial, self.study._storage.get_trial(trial.asked._trial_id))
            self.unfinished.append(trial)
            return
        value = (result or {}).get(VALUE, math.nan)
        if trial.asked is not None and len(self.search.objectives) == 1 and math.isfinite(value):
            self._report(trial.asked, value, trial.epoch)
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        """Close the Optuna trial.

        ============  ============================================================================================
        budget,       COMPLETE with the objectives of the best epoch, which is the one whose weights are kept
        patience
        scheduler     PRUNED; Optuna takes the last value reported
        interrupted   nothing: it stays RUNNING, and goes on when the sweep is resumed
        diverged      infeasible, and PRUNED; or COMPLETE with the worst value seen, for samplers blind to PRUNED.
                      Told FAIL, samplers return to the region again and again (measured, reference/platform.md 5.1)
        error         as diverged: out of memory or a crash tell about the region too; but FAIL, which samplers leave
                      out, where the process died: that may be the machine's fault
        ============  ============================================================================================
        """
        asked, because = trial.asked, trial.stopped_because
        if because == "interrupted":
            trial.status = "STOPPED"
            return
        assert asked is not None
        values = [trial.best.get(o.metric, trial.metrics.get(o.metric, math.nan)) for o in self.search.objectives]
        finite = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        if because in ("budget", "patience") and not finite:
            because = "diverged"
            trial.stopped_because, trial.error = because, trial.error or "the objective is not a finite number"
        asked.set_user_attr("stopped_because", because)
        asked.set_user_attr("epoch", trial.epoch)
        if trial.restarts:
            asked.set_user_attr("restarts", trial.restarts)
        if trial.error:
            asked.set_user_attr("error", trial.error)
        trial.status = ENDED_AS[because]
        if because == "diverged" or (because == "error" and not trial.lost):
            self.constraints.tell(asked, {}, "diverged" if because == "diverged" else "failed")
            self._tell_no_value(asked)
        elif because in ("budget", "patience"):
            trial.violations = self.constraints.judge(trial.best, trial.metrics, trial.folder)
            self.constraints.tell(asked, trial.violations)
            self.study.tell(asked, values)
        elif because == "scheduler":
            self.study.tell(asked, state=TrialState.PRUNED)
        else:
            self.study.tell(asked, state=TrialState.FAIL)

    def _worst(self) -> list[float] | None:
        """Worst value of each objective so far."""
        told = [t.values for t in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        if not told:
            return None
        worst = {"max": min, "min": max}
        return [worst[o.mode](values) for o, values in zip(self.search.objectives, zip(*told))]

    def close(self) -> list[Trial]:
        """Mark trials that did not end as stopped, on the way out; returns them."""
        for trial in [*self.trials.values(), *self.unfinished]:
            if trial.status is None:
                trial.stopped_because, trial.status = "interrupted", "STOPPED"
        return [trial for trial in self.all_trials if trial.status == "STOPPED"]

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""
