"""The pictures of a search as one page that opens offline: ``plots/search.html``, one copy of plotly.js inside."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.tracking import _search_figures as figures
from jetsweep.tracking import _timeline
from jetsweep.tracking.results import TrialRecord
from jetsweep.tracking.study import StudyView, is_feasible, read_study, short
from jetsweep.training.checkpoint import write_file

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PAGE = "search.html"
BRANCH = "model"
"""The leaf whose choices are architectures with spaces of their own."""

_CONFIG = (
    '{"displaylogo": false, "responsive": true, "toImageButtonOptions": {"format": "svg"}, '
    '"showSendToCloud": false, "plotlyServerURL": ""}'
)
"""plotly.js has a button that uploads the figure; data stay where they are."""

_STYLE = (
    "body{font-family:sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}"
    "h2{margin-top:2em;border-bottom:1px solid #ccc}h3{margin-bottom:0}p{margin:.4em 0;max-width:60em}"
    ".left-out{color:#777;font-style:italic}"
)


@dataclass(frozen=True)
class Picture:
    """A figure, or why there is none.

    Parameters
    ----------
    title, caption : str
        The title starts a section, or with ``level`` 3 a part of one.
    figure : plotly.graph_objects.Figure or None
    reason : str
        Where there is no figure.
    level : int
    """

    title: str
    caption: str
    figure: Figure | None
    reason: str = ""
    level: int = 2


def write_pictures(sweep_dir: Path, records: Sequence[TrialRecord] = ()) -> Path:
    """Write ``plots/search.html`` of a sweep: history, parallel coordinates, importance, Pareto front, timeline.

    Parameters
    ----------
    sweep_dir : Path
        With a study.
    records : sequence of TrialRecord
        Of its trials; they give early-stopped trials of several objectives a place in the history.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    TrackingError
        If the sweep has no study, or it cannot be read.
    JetsweepError
        If the page cannot be written.
    """
    view = read_study(sweep_dir)
    path = sweep_dir / "plots" / PAGE
    write_file(path, page(view, list(pictures(view, records))).encode())
    return path


def pictures(view: StudyView, records: Sequence[TrialRecord] = ()) -> Iterator[Picture]:
    """Every picture of a search, in the order of the page."""
    by_number = {record.number: record for record in records}
    several = len(view.objectives) > 1
    caption = "Filled: trials that trained to the end. Hollow: trials that did not, which never count as best."
    for i, objective in enumerate(view.objectives):
        title = f"Optimisation history: {objective.metric}" if several else "Optimisation history"
        yield _picture(title, caption, lambda i=i: figures.history(view, i, by_number))  # type: ignore[misc]
    if several:
        caption = "Trials that no other trial beats in every objective; only trials that trained to the end."
        yield _picture("Pareto front", caption, lambda: figures.pareto(view))
    yield from _parallels(view)
    yield from _importances(view)
    caption = (
        "When each trial ran and how it ended; a row holds trials that followed one another, so gaps are times with "
        "fewer trials. A trial waits for its process before its first epoch."
    )
    yield _picture("Timeline", caption, lambda: _timeline.timeline(view))


def _parallels(view: StudyView) -> Iterator[Picture]:
    colored = "its Pareto rank" if len(view.objectives) > 1 else view.objectives[0].metric
    caption = f"A line is a trial that trained to the end, coloured by {colored}."
    names = figures.varying(view.complete)
    branches = _branches(view)
    common = [n for n in names if all(n in trial.params for trial in view.complete)] if branches else names
    title = "Parallel coordinates"
    yield _picture(title, caption, lambda: figures.parallel(view, {}, common))
    for label, own in branches.items():
        if set(own) - set(common):
            yield _picture(
                f"{title}: {label}",
                f"Trials of {label}, with the leaves of its own.",
                lambda label=label, own=own: figures.parallel(view, {BRANCH: label}, own),  # type: ignore[misc]
                level=3,
            )


def _importances(view: StudyView) -> Iterator[Picture]:
    number = len(view.complete)
    best = round(figures.top_share(number) * number) if number else 0
    caption = (
        f"How much each leaf tells the best {best} of {number} trials from the others (PED-ANOVA, in all 1); "
        "a leaf that matters equally everywhere shows little. Trials that did not train to the end are left out."
    )
    yield _picture("Parameter importance", caption, lambda: figures.importance(view, {}))
    for label in _branches(view):
        yield _picture(
            f"Parameter importance: {label}",
            f"Among trials of {label} alone.",
            lambda label=label: figures.importance(view, {BRANCH: label}),  # type: ignore[misc]
            level=3,
        )


def _branches(view: StudyView) -> dict[Any, list[str]]:
    """Varying leaves of each architecture that has complete trials, if there are several in the space."""
    labels = {trial.params[BRANCH]: None for trial in view.complete if BRANCH in trial.params}
    found = {}
    for label in labels:
        trials = [trial for trial in view.complete if trial.params.get(BRANCH) == label]
        found[label] = [name for name in figures.varying(trials) if name != BRANCH]
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def _picture(title: str, caption: str, make: Callable[[], Figure], level: int = 2) -> Picture:
    try:
        return Picture(title, caption, make(), level=level)
    except figures.NoPicture as error:
        return Picture(title, "", None, str(error), level)
    except Exception as error:  # no picture is worth the report of a night's sweep; the page tells
        return Picture(title, "", None, f"it could not be drawn ({type(error).__name__}: {error})", level)


def page(view: StudyView, made: Sequence[Picture]) -> str:
    """The page as HTML; it loads nothing."""
    from plotly.offline import get_plotlyjs

    name = html.escape(view.sweep)
    body = [f"<h1>Search of {name}</h1>", *(f"<p>{line}</p>" for line in _summary(view))]
    for number, picture in enumerate(made):
        body.append(f"<h{picture.level}>{html.escape(picture.title)}</h{picture.level}>")
        if picture.figure is None:
            body.append(f'<p class="left-out">Left out: {html.escape(picture.reason)}.</p>')
            continue
        drawn = picture.figure.to_json(engine="json")  # with <, > and / escaped
        body.append(f'<p>{html.escape(picture.caption)}</p><div id="picture-{number}"></div>')
        body.append(f"<script>draw({number}, {drawn})</script>")
    script = f'const draw = (n, f) => Plotly.newPlot("picture-" + n, f.data, f.layout, {_CONFIG})'
    library = get_plotlyjs() if any(picture.figure is not None for picture in made) else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Search of {name}</title>'
        f"<style>{_STYLE}</style><script>{library}</script><script>{script}</script></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _summary(view: StudyView) -> Iterator[str]:
    """Sentences on top: objectives, trials, the best of them."""
    words = {"max": "large", "min": "small"}
    sought = " and ".join(f"{html.escape(o.metric)} as {words[o.mode]} as possible" for o in view.objectives)
    ends = ", ".join(f"{count} {end}" for end, count in view.ends().items())
    yield f"Sought: {sought}. Trials: {len(view.trials)} ({ends})."
    counted = [trial for trial in view.complete if is_feasible(trial)]
    if len(view.objectives) == 1 and counted:
        objective = view.objectives[0]
        choose = max if objective.mode == "max" else min
        best = choose(counted, key=lambda trial: trial.values[0])
        leaves = ", ".join(f"{html.escape(n)} = {html.escape(short(x))}" for n, x in best.params.items())
        yield f"Best: trial {best.number}, {html.escape(objective.metric)} = {best.values[0]:.5g}; {leaves}."
