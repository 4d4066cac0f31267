"""Who listens to a training loop: it reports, and learns whether to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

Metrics = dict[str, float | int | str]
"""Of one epoch: ``epoch`` (completed, from 1), ``step``, ``samples_seen``, ``train/loss``, ``val/<metric>`` …, ``lr``,
``time/epoch_s`` and ``stopped_because`` ("", "budget", "patience" or "diverged"; not empty in the last report)."""


class Reporter(Protocol):
    """Called by rank 0 after every epoch; it may be a terminal, Ray Tune, Ray Train or a test."""

    def __call__(self, metrics: Metrics, checkpoint: Path | None) -> bool:
        """Take one epoch's metrics.

        Parameters
        ----------
        metrics : dict
            See `Metrics`.
        checkpoint : Path or None
            Folder of the checkpoint that belongs to the metrics; the loop overwrites it after its next epoch.

        Returns
        -------
        bool
            True asks the loop to save `last` and return.
        """
        ...


def silent(metrics: Metrics, checkpoint: Path | None) -> bool:
    """Ignore everything and never stop."""
    return False
