"""Runs of `search.repeats` as Tune sees them; the study does not know them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from jetsweep.search.constraints import read_result
from jetsweep.search.repeats import FOLDER, REPEAT_FILE, Repeat, repeats, write_repeat
from jetsweep.search.trials import ENDED_AS, Trial

if TYPE_CHECKING:
    from jetsweep.experiment.schema import Experiment
    from jetsweep.search.listener import SweepInfo, SweepListener, SweepStatus, TrialStatus
    from jetsweep.search.searcher import StudySearcher


def planned_repeats(sweep_dir: Path, searcher: StudySearcher) -> list[tuple[Repeat, Path]]:
    """Runs that are still to be made or to be ended, with their folders; a folder that was begun keeps its run."""
    known: dict[tuple[int, int, int], Path] = {}
    for path in (sweep_dir / FOLDER).glob(f"*/{REPEAT_FILE}"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(path.read_text())
            known[said["origin"], said["index"], said["seed"]] = path.parent
    number = max((int(folder.name) for folder in known.values()), default=-1)
    planned = []
    for repeat in repeats(searcher.all_trials, searcher.search):
        folder = known.get((repeat.origin, repeat.index, repeat.seed))
        if folder is None:
            number += 1
            folder = sweep_dir / FOLDER / f"{number:05d}"
        result = read_result(folder) or {}
        if result.get("stopped_because") not in ("budget", "patience", "diverged"):
            planned.append((repeat, folder))
    return planned


class RepeatSearcher(Searcher):  # type: ignore[misc]
    """Hands out planned runs one after the other.

    Parameters
    ----------
    sweep : StudySearcher
        That of the sweep, whose trials are repeated.
    planned : sequence of (Repeat, Path)
    """

    def __init__(self, sweep: StudySearcher, planned: Sequence[tuple[Repeat, Path]]) -> None:
        super().__init__(metric=sweep.metric, mode=sweep.mode)
        self.sweep, self.search, self.sweep_dir = sweep, sweep.search, sweep.sweep_dir
        self.planned, self.trials, self.lost = list(planned), {}, list[Trial]()
        self.limit = len(planned)

    trials: dict[str, Trial]

    @property
    def num_wanted(self) -> int:
        """Runs to be made."""
        return self.limit

    @property
    def stopping(self) -> bool:
        """Whether the sweep was told to stop."""
        return self.sweep.stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self.sweep.stopping = value

    @property
    def stopped_by(self) -> str:
        """Why it stops, if not by the user."""
        return self.sweep.stopped_by

    @stopped_by.setter
    def stopped_by(self, value: str) -> None:
        self.sweep.stopped_by = value

    @property
    def all_trials(self) -> list[Trial]:
        """The runs."""
        return list(self.trials.values())

    enough = "not asked: every planned run is made"

    def suggest(self, trial_id: str) -> Any:
        if self.stopping:
            return Searcher.FINISHED
        if self.lost:
            self.trials[trial_id] = self.lost.pop()
            return self.sweep.config_of(self.trials[trial_id])
        number = len({trial.number for trial in self.trials.values()})
        if number >= self.limit:
            return None if any(trial.status is None for trial in self.trials.values()) else Searcher.FINISHED
        repeat, folder = self.planned[number]
        write_repeat(folder, repeat)
        trial = Trial(number, {}, repeat.experiment, folder, None, repeat_of=repeat.origin)
        self.trials[trial_id] = trial
        return self.sweep.config_of(trial)

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No run is stopped early."""
        return False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.trials[trial_id]
        if trial.status is None:
            trial.take_end(None if error else result, self.stopping)
            if trial.may_restart:
                trial.restart()
                self.lost.append(trial)
                return
            trial.status = ENDED_AS.get(trial.stopped_because, "STOPPED")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> list[Trial]:
        """Mark runs that did not end as stopped; returns them."""
        open_runs = list({trial.number: trial for trial in self.trials.values() if trial.status is None}.values())
        for trial in open_runs:
            trial.stopped_because, trial.status = "interrupted", "STOPPED"
        return open_runs

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the folders are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""


class RepeatEvents:
    """Turns events of runs, which are numbered as Tune's trials are, into those of repeats.

    Parameters
    ----------
    listener : SweepListener
    planned : sequence of (Repeat, Path)
    """

    def __init__(self, listener: SweepListener, planned: Sequence[tuple[Repeat, Path]]) -> None:
        self.listener, self.planned = listener, planned

    def sweep_started(self, info: SweepInfo) -> None:
        """Nothing, the sweep goes on."""

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        """Nothing, see `trial_ended`."""

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        """Nothing, see `trial_ended`."""

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        """Tell the listener."""
        self.listener.repeat_ended(self.planned[number][0], status, trial_dir, error)

    def repeat_ended(self, repeat: Repeat, status: TrialStatus, folder: Path, error: str | None) -> None:
        """Nothing repeats a repeat."""

    def sweep_ended(self, status: SweepStatus) -> None:
        """Nothing, the sweep tells."""
