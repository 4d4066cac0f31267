"""The best epoch of a training, or the best few, whose ensemble is then the trained model (arXiv:2109.00546)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.models._ensemble import join_weights, split_weights
from jetsweep.training.checkpoint import read_state, read_weights
from jetsweep.training.config import TrainingConfig
from jetsweep.training.progress import Progress
from jetsweep.training.reporter import Metrics

MEMBERS = "members"
"""In the state of the checkpoint `best`: the reported metrics of each epoch in it, the best one first."""


@dataclass(frozen=True)
class Member:
    """An epoch that is part of the best model.

    Parameters
    ----------
    row : dict
        Its metrics as reported.
    weights : mapping of str to Tensor
        On the CPU; empty on ranks other than the first, and where one epoch alone is kept.
    """

    row: Metrics
    weights: Mapping[str, Tensor]


class BestEpochs:
    """Which epochs make the best model, by the metric of ``training.monitor``; and their weights on rank 0.

    Of one epoch it is the best so far, where a gain of `min_delta` or less is none. Of several they are those of the
    best values whatever `min_delta` says, the earlier one of two equal values; fewer while fewer were trained.

    Parameters
    ----------
    config : TrainingConfig
    is_first : bool
        Whether this rank keeps weights.
    """

    def __init__(self, config: TrainingConfig, is_first: bool) -> None:
        self.monitor, self.number, self.is_first = config.monitor, config.ensemble_epochs, is_first
        self.members: list[Member] = []

    def improved(self, row: Metrics, progress: Progress) -> bool:
        """Whether this epoch is the best so far; counts epochs that are not.

        Raises
        ------
        JetsweepError
            If there is no metric of that name.
        """
        monitor = self.monitor
        if monitor.metric not in row:
            known = ", ".join(sorted(name for name in row if "/" in name))
            raise JetsweepError(f"training.monitor.metric: expected one of {known}, found {monitor.metric!r}")
        gain = self._loss(progress.best) - self._loss(row) if progress.best else math.inf
        improved = gain > monitor.min_delta
        progress.epochs_without_gain = 0 if improved else progress.epochs_without_gain + 1
        return improved

    def take(self, row: Metrics, improved: bool, weights: Callable[[], Mapping[str, Tensor]]) -> bool:
        """Let an epoch in where it belongs.

        Parameters
        ----------
        row : dict
            What is reported of it.
        improved : bool
            As `improved` has found.
        weights : callable
            Makes its weights, which may go on changing afterwards.

        Returns
        -------
        bool
            Whether the checkpoint `best` has to be written.
        """
        if self.number == 1:
            if improved:
                self.members = [Member(dict(row), {})]
            return improved
        ranked = sorted([*self.members, Member(dict(row), {})], key=self._order)[: self.number]
        place = next((i for i, member in enumerate(ranked) if member.row["epoch"] == row["epoch"]), None)
        if place is None:
            return False
        if self.is_first:
            kept = {name: tensor.detach().cpu().clone() for name, tensor in weights().items()}
            ranked[place] = Member(dict(row), kept)
        self.members = ranked
        return True

    def weights(self, newest: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """What the checkpoint `best` shall hold; `newest` makes the weights of the epoch that was let in."""
        return newest() if self.number == 1 else join_weights([member.weights for member in self.members])

    def state(self) -> dict[str, Any]:
        """For the state of the checkpoint `best`."""
        return {MEMBERS: [member.row for member in self.members]}

    def restore(self, best: Path, completed_epochs: int) -> None:
        """Continue with the members of a checkpoint.

        A kill between `best` and `last` leaves an epoch in `best` that will be trained again: it is left out, and
        comes back as the same on a CPU.

        Parameters
        ----------
        best : Path
            The checkpoint's folder, which need not be there.
        completed_epochs : int
            Of the checkpoint `last`.
        """
        if not best.exists():
            return
        rows = read_state(best).get(MEMBERS, ())  # checkpoints of before there were ensembles have none
        weights: Sequence[Mapping[str, Tensor]] = [{}] * len(rows)
        if rows and self.number > 1 and self.is_first:
            weights = split_weights(read_weights(best)[0])
        members = [Member(row, of_row) for row, of_row in zip(rows, weights, strict=True)]
        self.members = [member for member in members if int(member.row["epoch"]) <= completed_epochs]

    def _loss(self, row: Metrics) -> float:
        """The metric, the smaller the better."""
        value = float(row[self.monitor.metric])
        return -value if self.monitor.mode == "max" else value

    def _order(self, member: Member) -> tuple[float, int]:
        loss = self._loss(member.row)
        return (math.inf if math.isnan(loss) else loss, int(member.row["epoch"]))
