"""Where a sweep stands, read from its folder alone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.errors import TrackingError
from jetsweep.experiment.schema import SearchConfig
from jetsweep.search.best import FROM_SWEEP
from jetsweep.search.lock import Driver, who_drives
from jetsweep.tracking.results import OUTCOME, read_history, read_json, trial_folder
from jetsweep.tracking.study import COMPLETE, end_of, has_study, is_feasible, read_study

if TYPE_CHECKING:
    from rich.table import Table

_NO_TRIALS = ("invalid", "waiting")
"""Ends of entries of a study that are no trials."""


@dataclass(frozen=True)
class Unfinished:
    """A trial that runs, or waits to be resumed.

    Parameters
    ----------
    number : int
    epoch : int
        Epochs done.
    epochs : int
        Epochs it is to have.
    silent_s : float
        Seconds since it last wrote down an epoch; since its beginning where it has none.
    """

    number: int
    epoch: int
    epochs: int
    silent_s: float


@dataclass(frozen=True)
class SweepState:
    """A sweep as it stands.

    Parameters
    ----------
    name : str
    driver : Driver or None
        The process that runs it.
    ended_as : str
        What the last driver said at its end; "" if it died, or runs.
    trials : int
        Trials it is to have.
    ends : Counter
        How many trials ended how, in the words of the comparison table.
    unfinished : tuple of Unfinished
    best : str
        The best trial so far in words, "" without one.
    """

    name: str
    driver: Driver | None
    ended_as: str
    trials: int
    ends: Counter[str]
    unfinished: tuple[Unfinished, ...]
    best: str

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        total = sum(self.ends.values())
        how = ", ".join(f"{number} {end}" for end, number in self.ends.most_common())
        told = [f"{total} of {self.trials} trials ended" + (f" ({how})" if how else "")]
        if self.unfinished:
            told.append(f"{len(self.unfinished)} {'running' if self.driver else 'to go on'}")
        if self.best:
            told.append(self.best)
        if self.driver is None and not self.is_over:
            told.append(f"go on with: jetsweep resume {self.name}")
        return f"{self.name}: {self.who}; {'; '.join(told)}"

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.driver is None and self.ended_as == "FINISHED"

    @property
    def who(self) -> str:
        """Who runs it, or how it ended."""
        if self.driver is not None:
            return f"run by {self.driver}"
        return self.ended_as.lower() or "its driver died"

    def table(self) -> Table:
        """Unfinished trials, for a terminal."""
        from rich.table import Table

        table = Table("trial", "epoch", "last epoch written", box=None, pad_edge=False)
        for trial in self.unfinished:
            table.add_row(str(trial.number), f"{trial.epoch}/{trial.epochs}", f"{_ago(trial.silent_s)} ago")
        return table


def _ago(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def read_status(sweep_dir: Path) -> SweepState:
    """Read where a sweep stands; one that runs is left alone.

    Raises
    ------
    TrackingError
        If its files are not what jetsweep writes.
    """
    driver = who_drives(sweep_dir)
    outcome = read_json(sweep_dir / OUTCOME) if driver is None and (sweep_dir / OUTCOME).exists() else {}
    search = SearchConfig.model_validate(read_json(sweep_dir / "experiment.json").get("search") or {})
    state = str(outcome.get("status", ""))
    if not has_study(sweep_dir):
        return SweepState(sweep_dir.name, driver, state, search.trials, Counter(), (), "")
    try:
        view = read_study(sweep_dir)
    except TrackingError:
        if driver is None:
            raise
        return SweepState(sweep_dir.name, driver, state, search.trials, Counter(), (), "")  # it just begins
    own = [(trial, end_of(trial)) for trial in view.trials if FROM_SWEEP not in trial.user_attrs]
    own = [(trial, end) for trial, end in own if end not in _NO_TRIALS and _is_trial(trial.user_attrs)]
    ends = Counter(end for _, end in own if end != "unfinished")
    unfinished = tuple(_unfinished(sweep_dir, trial.number) for trial, end in own if end == "unfinished")
    objective = view.objectives[0]
    values = {t.number: t.values[0] for t, end in own if end == COMPLETE and is_feasible(t)}
    best = ""
    if values:
        number = (max if objective.mode == "max" else min)(values, key=lambda n: values[n])
        best = f"best: trial {number}, {objective.metric} = {values[number]:.5g}"
    return SweepState(sweep_dir.name, driver, state, search.trials, ends, unfinished, best)


def _is_trial(attributes: dict[str, object]) -> bool:
    """Not a draw that a constraint ruled out before it was trained."""
    return attributes.get("stopped_because") not in ("invalid", "infeasible")


def _unfinished(sweep_dir: Path, number: int) -> Unfinished:
    folder = trial_folder(sweep_dir, number)
    rows = read_history(folder)
    epochs = read_json(folder / "experiment.json")["training"]["epochs"] if (folder / "experiment.json").exists() else 0
    written = folder / ("history.jsonl" if rows else "experiment.json")
    silent_s = time.time() - written.stat().st_mtime if written.exists() else 0.0
    return Unfinished(number, int(rows[-1]["epoch"]) if rows else 0, int(epochs), silent_s)
