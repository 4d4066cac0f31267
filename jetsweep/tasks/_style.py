"""Plots in the style of the field, without touching matplotlib's global state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@contextmanager
def hep_figure(width: float = 8.0, height: float = 7.0) -> Iterator[tuple[Figure, Axes]]:
    """Make one empty plot in mplhep's CMS style; draw inside the `with` block.

    Parameters
    ----------
    width, height : float
        Inches.
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
        yield figure, figure.add_subplot()
