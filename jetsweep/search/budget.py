"""What a sweep has taken so far, and whether it has had enough."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.errors import JetsweepError
from jetsweep.search.best import counts, objective_values
from jetsweep.training.checkpoint import write_file

if TYPE_CHECKING:
    from jetsweep.experiment.schema import SearchConfig
    from jetsweep.search.trials import Trial

CLOCK_FILE = "clock.json"
_WRITE_S = 30.0


class Clock:
    """Hours of a sweep over all its drivers; a driver that is killed loses its last half minute.

    Parameters
    ----------
    sweep_dir : Path
    search : SearchConfig
    workers : int
        Of each trial.
    """

    def __init__(self, sweep_dir: Path, search: SearchConfig, workers: int) -> None:
        self.path, self.budget, self.workers = sweep_dir / CLOCK_FILE, search.budget, workers
        self.hours = self.worker_hours = 0.0
        with contextlib.suppress(OSError, ValueError, TypeError):
            said = json.loads(self.path.read_text())
            self.hours, self.worker_hours = float(said["hours"]), float(said["worker_hours"])
        self.now = self.written = time.monotonic()

    def tick(self, running: int) -> None:
        """Count the time since the last call, in which so many trials ran."""
        before, self.now = self.now, time.monotonic()
        passed = (self.now - before) / 3600
        self.hours += passed
        self.worker_hours += passed * running * self.workers
        if self.now - self.written > _WRITE_S:
            self.write()

    def write(self) -> None:
        """Keep what was counted; a full disk does not matter."""
        self.written = self.now
        with contextlib.suppress(JetsweepError):
            write_file(self.path, json.dumps({"hours": self.hours, "worker_hours": self.worker_hours}).encode())

    def spent(self) -> str | None:
        """One sentence if the budget is used up."""
        for name in ("hours", "worker_hours"):
            limit, taken = getattr(self.budget, name), getattr(self, name)
            if limit is not None and taken >= limit:
                return f"search.budget.{name}: {limit:g} are spent"
        return None


def found_enough(trials: Sequence[Trial], search: SearchConfig) -> str | None:
    """One sentence if the last `search.terminator.patience` complete trials brought nothing better.

    Optuna's own terminator is deprecated; this rule needs no model of the objective.
    """
    rule = search.terminator
    if rule is None:
        return None
    sign = 1.0 if search.objectives[0].mode == "max" else -1.0
    best, since = None, 0
    for trial in sorted((t for t in trials if t.status == "COMPLETE"), key=lambda trial: trial.number):
        value = sign * objective_values(trial, search.objectives)[0]
        if counts(trial, search.objectives) and (best is None or value > best + rule.min_gain):
            best, since = value, 0
        else:
            since += 1
    if since < rule.patience:
        return None
    return f"search.terminator: {since} complete trials in a row were no better, so no further one begins"
