"""One trial in the driver, and how it is read back from the study after the driver's death."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import JetsweepError
from jetsweep.search.constraints import VIOLATIONS, read_result
from jetsweep.search.pbt import Order, leaves_of
from jetsweep.search.schedulers import TIME
from jetsweep.search.trial import ENDED, ERROR, FINAL, read_error
from jetsweep.training.exploit import Exploit, snapshot_path
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
    exploit: Exploit | None = None
    """What it took from another trial last, or is to take."""
    stalled: str = ""
    """Why its process was ended from outside."""
    lost: bool = False
    """Whether its process died, and nobody knows why."""

    def follow(self, order: Order) -> None:
        """Take on the settings that population-based training gives it."""
        self.exploit, self.params, self.experiment = order.exploit, order.leaves, _snapshots(order.experiment, self)

    def remember(self, record: Mapping[str, Any], template: ExperimentTemplate, sweep_dir: Path) -> None:
        """Take on the settings that an earlier driver gave it."""
        donor = sweep_dir / "trials" / f"{record['donor']:05d}"
        checkpoint = str(snapshot_path(donor, record["epoch"]))
        leaves = dict(record["leaves"])
        self.follow(Order(Exploit(record["epoch"], record["donor"], checkpoint), leaves, template.concrete(leaves)))

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
                why = f" ({self.stalled})" if self.stalled else ""
                self.lost, self.error = True, f"the trial's process died{times}{why}"
        else:
            self.stopped_because, self.error = result[ENDED], result.get(ERROR)
            self.best = json.loads(result.get("best", "{}"))
        if result is not None:
            self.epoch = int(result.get(TIME, 0))
            self.metrics = json.loads(result.get("metrics", "{}"))


def _snapshots(experiment: Experiment, like: Trial) -> Experiment:
    """The experiment with snapshots as another one keeps them."""
    every = like.experiment.training.snapshot_every
    return experiment.model_copy(update={"training": experiment.training.model_copy(update={"snapshot_every": every})})


def ended_trial(frozen: FrozenTrial, template: ExperimentTemplate, folder: Path) -> Trial:
    """A trial that the study closed in an earlier driver."""
    params = leaves_of(frozen, template)
    experiment = template.concrete(params)
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
