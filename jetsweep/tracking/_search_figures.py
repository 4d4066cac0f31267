"""Interactive figures of a search; each raises `NoPicture` with the reason where there is nothing to show."""

from __future__ import annotations

import html
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jetsweep.experiment.schema import Objective
from jetsweep.tracking.study import COMPLETE, StudyView, end_of, is_feasible, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

    from jetsweep.tracking.results import TrialRecord

COLORS = {
    COMPLETE: "#0072B2",
    "pruned": "#E69F00",
    "interrupted": "#56B4E9",
    "diverged": "#CC79A7",
    "failed": "#D55E00",
    "unfinished": "#009E73",
}
"""Of trials by how they ended, told apart by most eyes; what is not here is grey."""

GREY = "#999999"
OBJECTIVE_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")

MIN_FOR_IMPORTANCE = 8
"""Complete trials below which importance would be noise."""

_MAX_HOVER_LEAVES = 16


class NoPicture(Exception):
    """A figure cannot be made; the message is the reason, in one sentence."""


def history(view: StudyView, index: int, records: Mapping[int, TrialRecord]) -> Figure:
    """One objective against the number of the trial, with the best so far; early-stopped trials are hollow.

    Parameters
    ----------
    view : StudyView
    index : int
        Of the objective.
    records : mapping of int to TrialRecord
        By number; the last resort for the value of a trial that did not end.
    """
    import plotly.graph_objects as go

    objective = view.objectives[index]
    counted = [(trial, trial.values[index]) for trial in view.complete]
    stopped = [
        (t, _stopped_value(t, objective, records)) for t in view.trials if end_of(t) not in (COMPLETE, "waiting")
    ]
    stopped = [(trial, value) for trial, value in stopped if math.isfinite(value)]
    if not counted and not stopped:
        raise NoPicture(f"no trial has reported {objective.metric}")
    figure = go.Figure()
    feasible = [(trial, value) for trial, value in counted if is_feasible(trial)]
    if feasible:
        numbers, values = _best_so_far(feasible, objective, len(view.trials))
        line = {"color": "#333333", "width": 1.5, "shape": "hv"}
        figure.add_scatter(x=numbers, y=values, mode="lines", line=line, name="best so far", hoverinfo="skip")
    for name, points in _by_end(stopped).items():
        marker = {"symbol": "circle-open", "size": 7, "color": COLORS.get(name, GREY)}
        _add_points(figure, f"{name}, last value", points, objective, marker)
    broken = [(trial, value) for trial, value in counted if not is_feasible(trial)]
    _add_points(figure, "breaks a constraint", broken, objective, {"symbol": "x", "size": 7, "color": GREY})
    _add_points(figure, COMPLETE, feasible, objective, {"size": 8, "color": COLORS[COMPLETE]})
    return finished(figure, "Trial", objective.metric, 420)


def _stopped_value(trial: FrozenTrial, objective: Objective, records: Mapping[int, TrialRecord]) -> float:
    """Last value that a trial reported before it was stopped; NaN where it has none."""
    if trial.intermediate_values:
        return float(trial.intermediate_values[max(trial.intermediate_values)])
    record = records.get(trial.number)
    return float(record.metrics.get(objective.metric, math.nan)) if record is not None else math.nan


def _best_so_far(
    points: Sequence[tuple[FrozenTrial, float]], objective: Objective, trials: int
) -> tuple[list[int], list[float]]:
    choose = max if objective.mode == "max" else min
    numbers = [trial.number for trial, _ in points]
    values = list(itertools.accumulate((value for _, value in points), choose))
    return [*numbers, trials - 1], [*values, values[-1]]


def _by_end(points: Iterable[tuple[FrozenTrial, float]]) -> dict[str, list[tuple[FrozenTrial, float]]]:
    found: dict[str, list[tuple[FrozenTrial, float]]] = {}
    for trial, value in points:
        found.setdefault(end_of(trial), []).append((trial, value))
    return found


def _add_points(
    figure: Figure, name: str, points: Sequence[tuple[FrozenTrial, float]], objective: Objective, marker: dict[str, Any]
) -> None:
    if points:
        figure.add_scatter(
            x=[trial.number for trial, _ in points],
            y=[value for _, value in points],
            mode="markers",
            marker=marker,
            name=f"{name} ({len(points)})",
            text=[_hover(trial, {objective.metric: value}) for trial, value in points],
            hovertemplate="%{text}<extra></extra>",
        )


def parallel(view: StudyView, branch: Mapping[str, Any], params: Sequence[str]) -> Figure:
    """Complete trials as lines through their leaves, coloured by the objective, or by Pareto rank where there are more.

    Parameters
    ----------
    view : StudyView
    branch : mapping
        Leaves that a trial must have drawn to be shown; empty for all.
    params : sequence of str
        Leaves with an axis.
    """
    from optuna.visualization import plot_parallel_coordinate

    trials = _of_branch(view, branch)
    _need(trials, 2, "lines to compare")
    if not params:
        raise NoPicture("the space has no leaf that varies")
    study = view.counted(lambda trial: _drew(trial, branch))
    with _quiet():
        if len(view.objectives) > 1:
            study.set_metric_names([objective.metric for objective in view.objectives])
            figure = plot_parallel_coordinate(study, params=list(params))
        else:
            figure = plot_parallel_coordinate(study, params=list(params), target_name=view.objectives[0].metric)
    names = short_names(sorted(params), branch)
    labels = [*(objective.metric for objective in view.objectives), *(names[name] for name in sorted(params))]
    # on white, the lines of the worst trials would not be seen
    figure.update_layout(title=None, height=420, margin={"l": 70, "r": 20, "t": 30, "b": 70}, plot_bgcolor="#ececec")
    figure.update_traces(opacity=0.8)
    figure.update_annotations(bgcolor="rgba(236, 236, 236, 0.7)", font_color="#222")
    figure.update_xaxes(ticktext=[_wrapped(label) for label in labels], tickangle=0)
    return figure


def importance(view: StudyView, branch: Mapping[str, Any]) -> Figure:
    """Share of each leaf in what separates the best trials from the others (PED-ANOVA).

    Parameters
    ----------
    view : StudyView
    branch : mapping
        Leaves that a trial must have drawn to count, e.g. the architecture; empty for all.
    """
    import plotly.graph_objects as go

    trials = _of_branch(view, branch)
    params = [name for name in varying(trials) if name not in branch]
    if len(params) < 2:
        raise NoPicture("importance compares leaves, and fewer than two vary here")
    _need(trials, MIN_FOR_IMPORTANCE, "importance")
    study = view.counted(lambda trial: _drew(trial, branch))
    shares = {name: _shares(study, params, target) for name, target in _targets(view.objectives).items()}
    shares = {name: values for name, values in shares.items() if values}
    if not shares:
        raise NoPicture("all trials are equally good, so no leaf is more important than another")
    order = sorted(params, key=lambda name: sum(values[name] for values in shares.values()))
    names = short_names(order, branch)
    figure = go.Figure()
    for (name, values), color in zip(shares.items(), itertools.cycle(OBJECTIVE_COLORS)):
        figure.add_bar(
            x=[values[leaf] for leaf in order],
            y=[names[leaf] for leaf in order],
            orientation="h",
            name=name,
            marker_color=color,
            customdata=order,
            hovertemplate="%{customdata}: %{x:.2f}<extra>" + html.escape(name) + "</extra>",
        )
    figure.update_layout(barmode="group", showlegend=len(shares) > 1)
    figure.update_xaxes(range=[0, 1.02 * max(max(values.values()) for values in shares.values())])
    figure.update_yaxes(automargin=True, ticksuffix="  ")
    return finished(figure, "Importance", None, 130 + len(order) * (18 + 10 * len(shares)))


def _targets(objectives: Sequence[Objective]) -> dict[str, Callable[[FrozenTrial], float] | None]:
    """What PED-ANOVA shall explain: each objective, and with several how the front is reached.

    With a target it takes the small values for the good ones, whatever the direction of the study.
    """
    if len(objectives) == 1:
        return {objectives[0].metric: None}
    targets: dict[str, Callable[[FrozenTrial], float] | None] = {"Pareto front": None}
    for i, objective in enumerate(objectives):
        sign = -1.0 if objective.mode == "max" else 1.0
        targets[objective.metric] = lambda trial, i=i, sign=sign: sign * trial.values[i]  # type: ignore[misc]
    return targets


def top_share(trials: int) -> float:
    """Fraction of trials that count as the best ones: a tenth, but five trials where that is less than half."""
    return max(0.1, min(0.5, 5 / trials))


def _shares(study: Study, params: Sequence[str], target: Callable[[FrozenTrial], float] | None) -> dict[str, float]:
    """Importance by leaf, normalised to one; empty where it says nothing."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    number = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=top_share(number))
    with _quiet():
        raw = get_param_importances(study, evaluator=evaluator, params=list(params), target=target, normalize=False)
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


def pareto(view: StudyView) -> Figure:
    """Complete trials in the plane of each pair of objectives; those that no other beats in all of them stand out."""
    from plotly.subplots import make_subplots

    _need(view.complete, 1, "a Pareto front")
    front = {trial.number for trial in view.counted().best_trials}
    pairs = list(itertools.combinations(range(len(view.objectives)), 2))
    figure = make_subplots(rows=1, cols=len(pairs), horizontal_spacing=0.3 / len(pairs))
    for column, (i, j) in enumerate(pairs, start=1):
        if len(view.objectives) == 2:
            on_front = sorted((t.values[i], t.values[j]) for t in view.complete if t.number in front)
            shape = "vh" if view.objectives[i].mode == "max" else "hv"
            line = {"color": "#D55E00", "width": 1, "shape": shape}
            figure.add_scatter(
                x=[x for x, _ in on_front], y=[y for _, y in on_front], mode="lines", line=line, hoverinfo="skip",
                showlegend=False, row=1, col=column,
            )  # fmt: skip
        for name, color, size, wanted in _front_kinds(front):
            trials = [trial for trial in view.complete if wanted(trial)]
            if trials:
                figure.add_scatter(
                    x=[trial.values[i] for trial in trials],
                    y=[trial.values[j] for trial in trials],
                    mode="markers",
                    marker={"color": color, "size": size, "line": {"width": 0.5, "color": "white"}},
                    name=f"{name} ({len(trials)})",
                    legendgroup=name,
                    showlegend=column == 1,
                    text=[_hover(t, {o.metric: x for o, x in zip(view.objectives, t.values)}) for t in trials],
                    hovertemplate="%{text}<extra></extra>",
                    row=1,
                    col=column,
                )
        figure.update_xaxes(title_text=_directed(view.objectives[i]), row=1, col=column)
        figure.update_yaxes(title_text=_directed(view.objectives[j]), row=1, col=column)
    return finished(figure, None, None, 460)


def _front_kinds(front: set[int]) -> list[tuple[str, str, int, Callable[[FrozenTrial], bool]]]:
    return [
        ("breaks a constraint", GREY, 7, lambda trial: not is_feasible(trial)),
        ("beaten", "#9ecae1", 8, lambda trial: is_feasible(trial) and trial.number not in front),
        ("Pareto front", "#D55E00", 11, lambda trial: trial.number in front),
    ]


def varying(trials: Sequence[FrozenTrial]) -> list[str]:
    """Names of leaves of which some trial could have drawn another value."""
    found = {name for trial in trials for name, spread in trial.distributions.items() if not spread.single()}
    return sorted(found)


def short_names(names: Sequence[str], branch: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The shortest dotted endings that tell leaves apart: ``training.optimizer.lr`` is ``lr``.

    Parameters
    ----------
    names : sequence of str
    branch : mapping, optional
        Choices that the figure is about anyway; leaves of other branches say whose they are: ``num_layers (part)``.
    """
    found = {}
    for name in names:
        parts = name.split(".")
        endings = [".".join(parts[i:]) for i in reversed(range(len(parts)))]
        others = [other for other in names if other != name]
        ending = next((e for e in endings if not any(o == e or o.endswith(f".{e}") for o in others)), name)
        leaf, _, label = name.partition("]")[0].partition("[")
        found[name] = f"{ending} ({label})" if label and "[" not in ending and leaf not in (branch or {}) else ending
    return found


def _drew(trial: FrozenTrial, branch: Mapping[str, Any]) -> bool:
    return all(name in trial.params and trial.params[name] == value for name, value in branch.items())


def _of_branch(view: StudyView, branch: Mapping[str, Any]) -> list[FrozenTrial]:
    return [trial for trial in view.complete if _drew(trial, branch)]


def _need(trials: Sequence[FrozenTrial], number: int, what: str) -> None:
    if len(trials) < number:
        have = "none did" if not trials else "1 did" if len(trials) == 1 else f"{len(trials)} did"
        needed = "1 trial" if number == 1 else f"{number} trials"
        raise NoPicture(f"{what} needs at least {needed} that trained to the end, {have}")


def _hover(trial: FrozenTrial, values: Mapping[str, float]) -> str:
    epoch = trial.user_attrs.get("epoch")
    head = f"<b>trial {trial.number}</b>: {end_of(trial)}" + (f" after epoch {epoch}" if epoch else "")
    lines = [f"{name} = {value:.5g}" for name, value in values.items()]
    leaves = [f"{name} = {short(value)}" for name, value in trial.params.items()]
    if len(leaves) > _MAX_HOVER_LEAVES:
        leaves = [*leaves[:_MAX_HOVER_LEAVES], f"… and {len(leaves) - _MAX_HOVER_LEAVES} more"]
    return "<br>".join([head, *(html.escape(line) for line in [*lines, *leaves])])


def _directed(objective: Objective) -> str:
    return f"{objective.metric} ({'larger' if objective.mode == 'max' else 'smaller'} is better)"


def _wrapped(label: str) -> str:
    """An axis label in lines of about 16 letters, broken where a word ends."""
    lines = [""]
    for part in label.replace("_", "_\0").replace(".", ".\0").replace("[", "\0[").replace(" ", " \0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > 16:
            lines.append("")
        lines[-1] += part
    return "<br>".join(html.escape(line) for line in lines)


def finished(figure: Figure, x: str | None, y: str | None, height: int) -> Figure:
    """The figure with the look and the titles of axes that all have."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 20, "t": 40, "b": 55},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        hovermode="closest",
    )
    if x is not None:
        figure.update_xaxes(title_text=x)
    if y is not None:
        figure.update_yaxes(title_text=y)
    return figure


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna warns of what is meant here: targets that are small when good, small regimes, experimental arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
