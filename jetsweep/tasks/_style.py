"""Plots in the style of the field, without touching matplotlib's global state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#92dadb", "#b9ac70", "#717581", "#94a4a2",
)  # fmt: skip
"""Ten that most eyes tell apart (arXiv:2107.02270), where six are too few; grey ones last."""

POINTS = 2000
"""Of a curve, along each axis: more than a page can show, so few that a file does not grow with the test set."""


@contextmanager
def hep_figure(width: float = 8.0, height: float = 7.0) -> Iterator[tuple[Figure, Axes]]:
    """Make one empty plot in mplhep's CMS style; draw inside the `with` block.

    Parameters
    ----------
    width, height : float
        Inches.
    """
    with hep_panels(1, 1, width, height) as (figure, (axes,)):
        yield figure, axes


@contextmanager
def hep_panels(rows: int, columns: int, width: float, height: float) -> Iterator[tuple[Figure, list[Axes]]]:
    """Make empty plots on a grid, row by row, in mplhep's CMS style; draw inside the `with` block.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Inches, of the whole figure.
    """
    import matplotlib as mpl
    import mplhep
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # the style's own fonts are not on every machine; DejaVu ships with matplotlib
    fonts: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        "font.size": 16,
        "legend.fontsize": 14,
    }
    with mpl.rc_context({**mplhep.style.CMS, **fonts}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, [figure.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]


def told_apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points of a rising curve that differ on a linear x-axis or on a logarithmic y-axis."""
    if len(x) <= 2 * POINTS:
        return np.arange(len(x))
    along_x = np.searchsorted(x, np.linspace(x[0], x[-1], POINTS))
    along_y = np.searchsorted(y, np.geomspace(y[0], y[-1], POINTS))
    return np.unique(np.concatenate([along_x, along_y]).clip(0, len(x) - 1))
