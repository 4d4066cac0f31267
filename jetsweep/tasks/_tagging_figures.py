"""ROC curve and score distribution in HEP style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jetsweep.metrics.classification import RocCurve
from jetsweep.tasks._style import hep_figure, told_apart

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def roc_figure(curves: Mapping[str, RocCurve]) -> Figure:
    """Background rejection against signal efficiency, one line per entry, on a logarithmic scale.

    Points with no background jet above the cut are left out; the band is the binomial uncertainty.
    """
    with hep_figure() as (figure, axes):
        for name, roc in curves.items():
            shown = np.flatnonzero((roc.background_above > 0) & (roc.signal_efficiency > 0.01))
            shown = shown[told_apart(roc.signal_efficiency[shown], roc.background_efficiency[shown])]
            x, eps_b = roc.signal_efficiency[shown], roc.background_efficiency[shown]
            relative = np.sqrt(np.clip(1.0 - eps_b, 0.0, None) / roc.background_above[shown])
            (line,) = axes.plot(x, 1.0 / eps_b, label=f"{name} (AUC {roc.area:.4f})")
            axes.fill_between(
                x,
                (1.0 - np.minimum(relative, 0.999)) / eps_b,
                (1.0 + relative) / eps_b,
                color=line.get_color(),
                alpha=0.2,
                lw=0,
            )
        axes.set(
            xlabel="Signal efficiency $\\varepsilon_S$",
            ylabel="Background rejection $1/\\varepsilon_B$",
            yscale="log",
            xlim=(0, 1),
            ylim=(1, None),
        )
        axes.grid(which="major", alpha=0.3)
        axes.legend(frameon=False)
    return figure


def score_figure(
    score: np.ndarray, label: np.ndarray, classes: Sequence[str], weight: np.ndarray | None, signal: str
) -> Figure:
    """Distribution of the discriminant for each class, normalised to unit area.

    Parameters
    ----------
    score : ndarray, shape (J,), in [0, 1]
    label : ndarray, shape (J,), int
    classes : sequence of str
    weight : ndarray, shape (J,), or None
    signal : str
        Class named on the axis.
    """
    with hep_figure() as (figure, axes):
        edges = np.linspace(0.0, 1.0, 51)
        options: dict[str, Any] = {"histtype": "step", "density": True, "linewidth": 2}
        for index, name in enumerate(classes):
            chosen = label == index
            if chosen.any():
                w = None if weight is None else weight[chosen]
                axes.hist(
                    score[chosen], bins=edges.tolist(), weights=w, label=f"{name} ({chosen.sum():,} jets)", **options
                )
        axes.set(xlabel=f"Score for {signal}", ylabel="Density", yscale="log", xlim=(0, 1))
        axes.legend(frameon=False)
    return figure
