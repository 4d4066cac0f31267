"""Background rejection with its bands, and where its uncertainty comes from, against the jet pT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jetsweep.metrics.systematics import Systematics
from jetsweep.tasks._style import hep_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def systematics_figures(found: Systematics, label: str) -> dict[str, Figure]:
    """Both figures, by file name.

    Parameters
    ----------
    found : Systematics
    label : str
        Of the tagger.
    """
    return {
        "systematics-rejection": _rejection_figure(found, label),
        "systematics-uncertainty": _uncertainty_figure(found, label),
    }


def resilience_figure(points: Mapping[str, tuple[float, float, float, float]], efficiency: float) -> Figure:
    """Rejection against its relative systematic uncertainty, one point per tagger.

    Parameters
    ----------
    points : mapping of str to tuple of float
        By label: rejection and its statistical error, total relative uncertainty and its statistical error.
    efficiency : float
        Signal efficiency.
    """
    with hep_figure(9.0) as (figure, axes):
        for i, (label, (rejection, error, total, total_error)) in enumerate(points.items()):
            axes.errorbar(
                rejection,
                100 * total,
                xerr=error,
                yerr=100 * total_error,
                fmt="osD^vP*X"[i // 10 % 8],
                ms=9,
                capsize=3,
                label=label,
            )
        axes.set(
            xlabel=f"Background rejection at $\\varepsilon_S = {efficiency:g}$",
            ylabel="Relative systematic uncertainty [%]",
            ylim=(0, None),
        )
        axes.legend(frameon=False)
    return figure


def _shown(found: Systematics) -> np.ndarray:
    """Indices of the bins up to the last with a rejection."""
    measured = np.flatnonzero(np.isfinite(found.rejection[1:]))
    return np.arange(measured[-1] + 1 if len(measured) else 0)


def _steps(axes: Axes, edges: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """Fill between two step functions; bins without a number stay empty."""
    x = np.repeat(edges, 2)[1:-1]
    axes.fill_between(x, np.repeat(low, 2), np.repeat(high, 2), lw=0, **style)


def _rejection_figure(found: Systematics, label: str) -> Figure:
    """Statistical, experimental and theory uncertainty, each added in quadrature to those before it."""
    bins = _shown(found)
    edges = np.asarray(found.scheme.edges)[: len(bins) + 1]
    rejection = found.rejection[1:][bins]
    squares = [
        (found.rejection_error[1:][bins] / rejection) ** 2,
        found.of_kind("experimental")[1:][bins] ** 2,
        found.of_kind("theory")[1:][bins] ** 2,
    ]
    bands = np.sqrt(np.cumsum(squares, axis=0))
    names = ("Statistical", "+ experimental", "+ theory")
    with hep_figure(9.0) as (figure, axes):
        # opaque, the widest first: colours that shine through each other are in no legend
        for band, name, color in reversed(list(zip(bands, names, ("#a8c4f5", "#f9c784", "#d9d9d9")))):
            low, high = rejection * np.clip(1 - band, 0, None), rejection * (1 + band)
            _steps(axes, edges, low, high, color=color, label=name)
        if len(bins):
            axes.stairs(rejection, edges, color="black", lw=2, label=label, baseline=None)
        axes.set(
            xlabel="Jet $p_T$ [GeV]",
            ylabel=f"Background rejection at $\\varepsilon_S = {found.scheme.efficiency:g}$",
            ylim=(0, None),
        )
        axes.legend(frameon=False)
    return figure


def _uncertainty_figure(found: Systematics, label: str) -> Figure:
    """Shares of the variance stacked up to the total relative uncertainty."""
    bins = _shown(found)
    edges = np.asarray(found.scheme.edges)[: len(bins) + 1]
    total = found.uncertainty["total"][1:][bins]
    with hep_figure(9.0) as (figure, axes):
        floor = np.zeros(len(bins))
        for group in found.groups:
            part = found.uncertainty[group.name][1:][bins] ** 2
            # each group's share of the variance, so that the stack ends at the total
            top = floor + np.divide(part, total, out=np.zeros_like(part), where=total > 0)
            _steps(axes, edges, floor, top, alpha=0.7, label=group.name.replace("_", " "))
            floor = top
        if len(bins):
            axes.stairs(total, edges, color="black", lw=2, label=f"{label}, total", baseline=None)
        axes.set(xlabel="Jet $p_T$ [GeV]", ylabel="Relative uncertainty of the rejection", ylim=(0, None))
        axes.legend(frameon=False, ncols=2)
    return figure
