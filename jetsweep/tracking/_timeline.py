"""Interactive figure of when the trials of a search ran."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from jetsweep.tracking._search_figures import COLORS, GREY, NoPicture, finished
from jetsweep.tracking.study import StudyView, end_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure


def timeline(view: StudyView) -> Figure:
    """When each trial ran, coloured by how it ended; trials that did not overlap share a row."""
    import plotly.graph_objects as go

    begun = [trial for trial in view.trials if trial.datetime_start is not None]
    if not begun:
        raise NoPicture("no trial has begun")
    moments = [when for trial in begun for when in (trial.datetime_start, trial.datetime_complete) if when is not None]
    last = max(moments)
    rows = _rows(begun, last)
    figure = go.Figure()
    for end in [*COLORS, "invalid"]:
        trials = [trial for trial in begun if end_of(trial) == end]
        if trials:
            figure.add_bar(
                base=[_start(trial).isoformat() for trial in trials],
                x=[1000 * ((trial.datetime_complete or last) - _start(trial)).total_seconds() for trial in trials],
                y=[rows[trial.number] for trial in trials],
                orientation="h",
                width=0.8,
                marker={"color": COLORS.get(end, GREY), "line": {"width": 0}},
                name=f"{end} ({len(trials)})",
                text=[_span(trial, last) for trial in trials],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_xaxes(type="date")
    figure.update_yaxes(autorange="reversed", dtick=max(1, len(set(rows.values())) // 10))
    figure.update_layout(showlegend=True, barmode="overlay")
    return finished(figure, "Time", "Running at once", min(800, 170 + 24 * len(set(rows.values()))))


def _rows(trials: Sequence[FrozenTrial], last: datetime) -> dict[int, int]:
    """Row of each trial by number, from 1: the first one that is free when it starts."""
    free: list[datetime] = []
    rows = {}
    for trial in sorted(trials, key=lambda trial: (_start(trial), trial.number)):
        row = next((i for i, since in enumerate(free) if since <= _start(trial)), len(free))
        free[row : row + 1] = [trial.datetime_complete or last]
        rows[trial.number] = row + 1
    return rows


def _start(trial: FrozenTrial) -> datetime:
    assert trial.datetime_start is not None
    return trial.datetime_start


def _span(trial: FrozenTrial, last: datetime) -> str:
    seconds = ((trial.datetime_complete or last) - _start(trial)).total_seconds()
    epoch = trial.user_attrs.get("epoch")
    after = f" after epoch {epoch}" if epoch else ""
    return f"<b>trial {trial.number}</b>: {end_of(trial)}{after}<br>{_start(trial):%d %b %H:%M:%S}, {seconds:,.0f} s"
