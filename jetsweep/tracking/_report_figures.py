"""Pictures of a search for the report: the best so far, or the Pareto front."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jetsweep.tasks._style import COLORS, hep_figure, hep_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jetsweep.experiment.schema import Objective

Points = Mapping[int, Sequence[float]]
"""Objectives of trials by their number."""

_GREY, _FRONT = "#8a8a8a", COLORS[2]
_MAX_NUMBERED = 20


def best_so_far_figure(points: Points, objective: Objective) -> Figure:
    """One objective of every trial against its number, with the best so far as a line.

    Parameters
    ----------
    points : mapping of int to sequence of float
        Finite; of the trials that count, in any order.
    objective : Objective
    """
    from matplotlib.ticker import MaxNLocator

    numbers = sorted(points)
    values = [points[number][0] for number in numbers]
    best = list(itertools.accumulate(values, max if objective.mode == "max" else min))
    with hep_figure(9.0, 6.0) as (figure, axes):
        axes.step(numbers, best, where="post", color=_GREY, lw=2, label="best so far")
        axes.plot(numbers, values, "o", ms=7, color=COLORS[0], label="complete trial")
        axes.set(xlabel="Trial", ylabel=_directed(objective))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(0.05, 0.1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def pareto_figure(points: Points, front: Sequence[int], objectives: Sequence[Objective]) -> Figure:
    """Trials in the plane of each pair of objectives; those of the front stand out and have their numbers.

    Parameters
    ----------
    points : mapping of int to sequence of float
        Finite; of the trials that count.
    front : sequence of int
        Numbers of those that no other trial beats.
    objectives : sequence of Objective
        Two or more.
    """
    pairs = list(itertools.combinations(range(len(objectives)), 2))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    with hep_panels(rows, columns, 1 + 7.0 * columns, 6.5 * rows) as (figure, panels):
        for axes, (i, j) in zip(panels, pairs):
            _draw_pair(axes, points, front, objectives, i, j)
        for axes in panels[len(pairs) :]:
            axes.set_axis_off()
        panels[0].legend(frameon=False)
    return figure


def _draw_pair(
    axes: Axes, points: Points, front: Sequence[int], objectives: Sequence[Objective], i: int, j: int
) -> None:
    beaten = [number for number in points if number not in front]
    axes.plot(
        [points[n][i] for n in beaten],
        [points[n][j] for n in beaten],
        "o",
        ms=7,
        color="#9ecae1",
        label=f"beaten ({len(beaten)})",
    )
    members = sorted((points[n][i], points[n][j], n) for n in front)
    xs, ys = [x for x, _, _ in members], [y for _, y, _ in members]
    if len(objectives) == 2:
        # what a front of two objectives dominates ends at a staircase
        axes.step(xs, ys, where="pre" if objectives[0].mode == "max" else "post", color=_FRONT, lw=1.5)
    axes.plot(xs, ys, "D", ms=9, color=_FRONT, label=f"Pareto front ({len(front)})")
    if len(members) <= _MAX_NUMBERED:
        for x, y, number in members:
            axes.annotate(str(number), (x, y), xytext=(6, 6), textcoords="offset points", fontsize=12)
    # objectives that span decades, as divergences do
    values = [point[j] for point in points.values()]
    if min(values) > 0 and max(values) / min(values) > 30:
        axes.set_yscale("log")
    axes.set(xlabel=_directed(objectives[i]), ylabel=_directed(objectives[j]))
    axes.margins(0.08)
    axes.grid(alpha=0.3)


def _directed(objective: Objective) -> str:
    return f"{objective.metric} ({'larger' if objective.mode == 'max' else 'smaller'} is better)"
