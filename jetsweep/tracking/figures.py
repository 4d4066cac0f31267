"""Plots of a sweep: learning curves of its trials, and ROC curves of those that finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetsweep.tasks._style import hep_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Figure:
    """One metric against the epoch, one line per trial.

    Parameters
    ----------
    histories : mapping
        Label → metrics by epoch.
    metric : str
        E.g. ``val/auc``.
    """
    from matplotlib.ticker import MaxNLocator

    with hep_figure(9.0) as (figure, axes):
        for label, rows in histories.items():
            points = [(row["epoch"], row[metric]) for row in rows if isinstance(row.get(metric), int | float)]
            if points:
                epochs, values = zip(*points)
                axes.plot(epochs, values, marker="o", label=label)
        axes.set(xlabel="Epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if 0 < len(axes.get_lines()) <= 12:
            axes.legend(frameon=False)
    return figure


def loss_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Training and validation loss of one trial against the epoch."""
    from matplotlib.ticker import MaxNLocator

    with hep_figure(9.0) as (figure, axes):
        for name in ("train/loss", "val/loss"):
            axes.plot([row["epoch"] for row in history], [row[name] for row in history], marker="o", label=name)
        axes.set(xlabel="Epoch", ylabel="Loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Per-jet arrays that a trial kept of one split."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write every figure as PNG and PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for suffix in ("png", "pdf"):
            figure.savefig(folder / f"{name}.{suffix}", dpi=120)
            figure.set_layout_engine("none")  # the layout stands; making it again takes as long as drawing
