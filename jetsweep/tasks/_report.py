"""What a task adds to the report of a sweep: sections of figures, tables and reasons, whoever draws the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from jetsweep.errors import MetricError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None
Arrays = Mapping[str, np.ndarray]
"""Per-jet arrays of one trial on one split, as `jetsweep.tasks._base.Evaluator.arrays` gives them."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns; a column ``<name>_error`` is the uncertainty of the column ``<name>``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Part:
    """A figure, a table, or why there is neither.

    Parameters
    ----------
    name : str
        Of the files, without extension; no other part of the report has it.
    caption : str
    figure : matplotlib.figure.Figure, optional
    table : Table, optional
        Beside a figure: its numbers, which go into a file only.
    reason : str
        Where there is neither.
    """

    name: str
    caption: str
    figure: Figure | None = None
    table: Table | None = None
    reason: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part of the report.

    Parameters
    ----------
    title : str
    parts : tuple of Part
    text : str
        Sentences below the title.
    """

    title: str
    parts: tuple[Part, ...]
    text: str = ""


@dataclass(frozen=True)
class SplitResults:
    """What the trials of a sweep left of one split.

    Parameters
    ----------
    split : str
    label : str
        Of the best trial, e.g. ``trial 3``.
    best : Arrays
    compared : mapping of str to Arrays
        By label: the trials of the Pareto front, or the best of each architecture.
    is_front : bool
        Whether `compared` are a front's.
    repeats : sequence of Arrays
        Runs of one configuration with other seeds.
    repeated : str
        Label of the trial whose configuration that is.
    """

    split: str
    label: str
    best: Arrays
    compared: Mapping[str, Arrays] = field(default_factory=dict)
    is_front: bool = False
    repeats: Sequence[Arrays] = ()
    repeated: str = ""


def make_part(
    name: str, caption: str, figure: Callable[[], Figure] | None = None, table: Callable[[], Table] | None = None
) -> Part:
    """A part whose reason says why, where there are too few jets to measure what it shows."""
    try:
        return Part(name, caption, figure() if figure else None, table() if table else None)
    except MetricError as error:
        return Part(name, caption, reason=str(error))
