"""One trial in the driver, and how it is read back from the study after the driver's death."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import JetsweepError
from jetsweep.search.constraints import VIOLATIONS, read_result
from jetsweep.search.schedulers import TIME
from jetsweep.search.space import decode, parameter
from jetsweep.search.trial import ENDED, ERROR, FINAL, read_error
from jetsweep.training.history import read_history
from jetsweep.training.restarts import note_restart, restarts

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from jetsweep.experiment.schema import Experiment
    from jetsweep.experiment.template import ExperimentTemplate
    from jetsweep.search.listener import TrialStatus

ENDED_AS: dict[str, TrialStatus] = {
    "budget": "COMPLETE",
    "patience": "COMPLETE",
    "scheduler": "PRUNED",
    "diverged": "PRUNED",
    "error": "FAILED",
}
"""Status by the user attribute `stopped_because` of a trial that the study has closed."""


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
    asked : optuna.Trial or None
        None for a run that the study does not know: one that repeats another.
    """

    number: int
    params: Mapping[str, Any]
    experiment: Experiment
    folder: Path
    asked: optuna.Trial | None
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
    asked_by: str = ""
    """Who wants it to stop: "scheduler", or nobody."""
    restarts: int = 0
    lost: bool = False
    """Whether its process died, and nobody knows why."""

    @property
    def may_restart(self) -> bool:
        """Whether its process died, and not too often, those of earlier drivers and its workers included."""
        return self.lost and max(self.restarts, restarts(self.folder)) < self.experiment.resources.max_restarts

    def restart(self) -> None:
        """Forget an end that was no end of the trial's own: it goes on from its last checkpoint."""
        with contextlib.suppress(JetsweepError):  # a full disk; it is counted here too
            note_restart(self.folder, str(self.error))
        self.restarts = max(self.restarts + 1, restarts(self.folder))
        self.lost, self.error, self.stopped_because = False, None, ""

    def take_end(self, result: Mapping[str, Any] | None, stopping: bool) -> None:
        """Note how it ended.

        Parameters
        ----------
        result : mapping or None
            Tune's last, flat; None if the process died.
        stopping : bool
            Whether the sweep was told to stop.
        """
        if result is None or not result.get(FINAL):
            self.stopped_because = "interrupted" if stopping else "error"
            self.error = read_error(self.folder)
            if self.error is None and not stopping:
                times = f" {self.restarts + 1} times" if self.restarts else ""
                self.lost, self.error = True, f"the trial's process died{times}"
        else:
            self.stopped_because, self.error = result[ENDED], result.get(ERROR)
            self.best = {k.removeprefix("best/"): v for k, v in result.items() if k.startswith("best/")}
        if result is not None:
            self.epoch = int(result.get(TIME, 0))
            self.metrics = {k.removeprefix("metrics/"): v for k, v in result.items() if k.startswith("metrics/")}


def ended_trial(frozen: FrozenTrial, template: ExperimentTemplate, folder: Path) -> Trial:
    """A trial that the study closed in an earlier driver."""
    params: dict[str, Any] = {}

    def ask(name: str, distribution: Any) -> Any:
        params[name] = decode(distribution, frozen.params[parameter(name, distribution)[0]])
        return params[name]

    experiment = template.draw(ask)
    attributes = frozen.user_attrs
    result, rows = read_result(folder) or {}, read_history(folder / "history.jsonl")
    because = attributes["stopped_because"]
    return Trial(
        frozen.number,
        params,
        experiment,
        folder,
        None,
        ENDED_AS[because],
        because,
        int(attributes.get("epoch", 0)),
        dict(rows[-1]) if rows else {},
        dict(result.get("best", {})),
        attributes.get("error"),
        attributes.get(VIOLATIONS, {}),
    )


def catch_up(trial: Trial, metric: str, heard: Collection[int]) -> dict[str, Any] | None:
    """Tell the study about epochs that a trial wrote down and an earlier driver did not hear of.

    Parameters
    ----------
    trial : Trial
    metric : str
    heard : collection of int
        Epochs that the study has.

    Returns
    -------
    dict or None
        The last epoch that the trial wrote down.
    """
    assert trial.asked is not None
    rows = read_history(trial.folder / "history.jsonl")
    for row in rows:
        value = float(row.get(metric, math.nan))
        if math.isfinite(value) and row["epoch"] not in heard:
            trial.asked.report(value, int(row["epoch"]))
    return dict(rows[-1]) if rows else None
