"""The report of a sweep, finished or not: what was run, what came out of it, and what its task says about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.errors import JetsweepError, TrackingError
from jetsweep.experiment.schema import Objective, SearchConfig
from jetsweep.search.repeats import FOLDER, REPEAT_FILE
from jetsweep.tasks._report import Arrays, Cell, Part, Section, SplitResults, Table
from jetsweep.tracking import _report_figures as drawn
from jetsweep.tracking._report_page import write_page
from jetsweep.tracking.compare import FRONT, Comparison, ordered
from jetsweep.tracking.figures import load_arrays
from jetsweep.tracking.record import REPORT
from jetsweep.tracking.repeats import read_repeats
from jetsweep.tracking.report import trial_task
from jetsweep.tracking.results import TrialRecord, read_json, read_trial, trial_folder, trial_folders
from jetsweep.tracking.status import read_status
from jetsweep.tracking.study import short

if TYPE_CHECKING:
    from jetsweep.tasks._base import Task

SPLIT = "test"
_NONE_COMPLETE = "No trial is complete yet, so there is nothing to show here"
_MAX_ROWS, _MAX_COMPARED = 20, 20


@dataclass(frozen=True)
class Sweep:
    """What the folder of a sweep says.

    Parameters
    ----------
    folder : Path
    objectives : tuple of Objective
    comparison : Comparison
        Of all trials that began; there may be none.
    """

    folder: Path
    objectives: tuple[Objective, ...]
    comparison: Comparison

    def points(self) -> dict[int, tuple[float, ...]]:
        """Objectives of the trials that count, by number."""
        found = {r.number: _objectives_of(r, self.objectives) for r in self.comparison.records if r.counts}
        return {number: values for number, values in sorted(found.items()) if all(map(math.isfinite, values))}

    def chosen(self) -> list[TrialRecord]:
        """Of several objectives the trials of the front, in the order of the first; else the best ones."""
        if len(self.objectives) > 1:
            return sorted(self.comparison.front, key=lambda record: (record.losses, record.number))
        return [record for record in self.comparison.records if record.counts]


def write_sweep_report(sweep_dir: Path) -> Path:
    """Write ``report/report.html`` of a sweep, with its figures as PNG and its tables as CSV beside it.

    Parameters
    ----------
    sweep_dir : Path
        Of a sweep that ended, runs or was interrupted.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    JetsweepError
        If the sweep's files are not what jetsweep writes, or the report cannot be written.
    """
    search = SearchConfig.model_validate(read_json(sweep_dir / "experiment.json").get("search") or {})
    records = [record for record in map(read_trial, trial_folders(sweep_dir)) if record is not None]
    sweep = Sweep(sweep_dir, search.objectives, ordered(records))
    sections = [_trials_section(sweep), _search_section(sweep), _best_section(sweep)]
    sections += _repeats_sections(sweep_dir)
    sections += _task_sections(sweep)
    source = sweep_dir / "experiment.yaml"
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    return write_page(sweep_dir / REPORT, sweep_dir.name, _summary(sweep, search), sections, text)


def _summary(sweep: Sweep, search: SearchConfig) -> list[str]:
    """Sentences on top of the page."""
    state, records = read_status(sweep.folder), sweep.comparison.records
    words = {"max": "large", "min": "small"}
    sought = " and ".join(f"{o.metric} as {words[o.mode]} as possible" for o in sweep.objectives)
    ends = Counter(record.status for record in records)
    how = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    seconds = [record.seconds for record in records if math.isfinite(record.seconds)]
    time = f"; {_duration(sum(seconds))} of training" if seconds else ""
    lines = [
        f"Sweep {sweep.folder.name} ({state.who}). Sought: {sought}.",
        f"{len(records)} of {search.trials} trials began{f' ({how})' if how else ''}{time}.",
    ]
    winner = sweep.comparison.winner
    if winner is None:
        return [*lines, f"{_NONE_COMPLETE}."]
    values = ", ".join(
        f"{o.metric} = {x:.5g}" for o, x in zip(sweep.objectives, _objectives_of(winner, sweep.objectives))
    )
    return [*lines, f"Best by {winner.selected_by}: {_label(winner)}, {values}."]


def _trials_section(sweep: Sweep) -> Section:
    records = sorted(sweep.comparison.records, key=lambda record: record.number)
    if not records:
        return Section("Trials", (), "No trial has begun yet.")
    metrics = [o.metric for o in sweep.objectives]
    rows: list[tuple[Cell, ...]] = []
    for r in records:
        values = _objectives_of(r, sweep.objectives)
        rows.append((r.number, r.model, r.status, r.parameters or None, r.seconds, *values))
    table = Table(("trial", "model", "state", "parameters", "training, s", *metrics), tuple(rows))
    return Section("Trials", (Part("trials", "All trials that began.", table=table),))


def _search_section(sweep: Sweep) -> Section:
    several = len(sweep.objectives) > 1
    title, points = "Pareto front" if several else "Best so far", sweep.points()
    if not points:
        return Section(title, (), f"{_NONE_COMPLETE}.")
    if not several:
        figure = drawn.best_so_far_figure(points, sweep.objectives[0])
        return Section(title, (Part("best-so-far", "Only trials that trained to their end and count.", figure),))
    front = [record.number for record in sweep.chosen()]
    figure = drawn.pareto_figure(points, front, sweep.objectives)
    rows: list[tuple[Cell, ...]] = [(n, *values, FRONT if n in front else "") for n, values in points.items()]
    table = Table(("trial", *(o.metric for o in sweep.objectives), "front"), tuple(rows))
    caption = "Trials that no other trial beats in every objective, with their numbers; only trials that count."
    return Section(title, (Part("pareto-front", caption, figure, table),))


def _best_section(sweep: Sweep) -> Section:
    title, chosen = "Best configurations", sweep.chosen()
    if not chosen:
        return Section(title, (), f"{_NONE_COMPLETE}.")
    shown = chosen[:_MAX_ROWS]
    leaves = sorted({name for record in shown for name in record.params if name != "model"})
    metrics = sorted({name for record in shown for name in record.metrics if name.startswith(f"{SPLIT}/")})
    rows = tuple(
        (
            record.number,
            record.model,
            *_objectives_of(record, sweep.objectives),
            *(record.metrics.get(name) for name in metrics),
            *(_leaf(record, name) for name in leaves),
        )
        for record in shown
    )
    columns = ("trial", "model", *(o.metric for o in sweep.objectives), *metrics, *leaves)
    kind = "The trials of the front" if len(sweep.objectives) > 1 else "The best trials by the objective"
    cut = f"; {len(shown)} of {len(chosen)}" if len(shown) < len(chosen) else ""
    caption = f"{kind}: objectives, metrics of the test split, drawn leaves{cut}."
    return Section(title, (Part("best", caption, table=Table(columns, rows)),))


def _repeats_sections(sweep_dir: Path) -> list[Section]:
    repeated = read_repeats(sweep_dir)
    if repeated is None:
        return []
    table = Table(repeated.columns, tuple(tuple(row) for row in repeated.rows()))
    return [Section("Repeats", (Part("repeats", repeated.note, table=table),))]


def _task_sections(sweep: Sweep) -> list[Section]:
    """What the task adds; a sentence where the trials left too little for it."""
    winner = sweep.comparison.winner
    if winner is None:
        return [Section("Test split", (), f"{_NONE_COMPLETE}.")]
    best = _arrays(trial_folder(sweep.folder, winner.number))
    if best is None:
        return [Section("Test split", (), f"The best trial, {winner.number}, kept no scores of its {SPLIT} split.")]
    try:
        task = trial_task(trial_folder(sweep.folder, winner.number))
        return _sections_of(task, sweep, winner, best)
    except TrackingError:
        raise
    except JetsweepError as error:  # of the task or its metrics: the rest of the report stands
        return [Section("Test split", (Part("task", "", reason=str(error)),))]


def _sections_of(task: Task, sweep: Sweep, winner: TrialRecord, best: Arrays) -> list[Section]:
    is_front = len(sweep.objectives) > 1
    compared = _spread(sweep.chosen()) if is_front else list(sweep.comparison.best.values())
    found = {_label(r): _arrays(trial_folder(sweep.folder, r.number)) for r in compared}
    repeated, runs = _repeated_runs(sweep.folder, winner.number)
    return task.report_sections(
        SplitResults(
            SPLIT,
            _label(winner),
            best,
            {label: arrays for label, arrays in found.items() if arrays is not None},
            is_front,
            runs,
            f"trial {repeated}",
        )
    )


def _spread(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """At most `_MAX_COMPARED` of them, evenly along their order with both ends."""
    if len(records) <= _MAX_COMPARED:
        return list(records)
    step = (len(records) - 1) / (_MAX_COMPARED - 1)
    return [records[round(i * step)] for i in range(_MAX_COMPARED)]


def _repeated_runs(sweep_dir: Path, winner: int) -> tuple[int, list[Arrays]]:
    """Runs with other seeds of the winner's configuration, else of the first one that was repeated; its number."""
    found: dict[int, list[Arrays]] = {}
    for path in sorted((sweep_dir / FOLDER).glob(f"*/{REPEAT_FILE}")):
        record, arrays = read_trial(path.parent), _arrays(path.parent)
        if record is not None and record.status == "complete" and arrays is not None:
            found.setdefault(int(read_json(path)["origin"]), []).append(arrays)
    origin = winner if winner in found or not found else next(iter(found))
    return origin, found.get(origin, [])


def _arrays(folder: Path) -> Arrays | None:
    path = folder / "evaluation" / f"{SPLIT}.npz"
    if not path.exists():
        return None
    try:
        return load_arrays(path)
    except (OSError, ValueError, EOFError) as error:
        raise TrackingError(f"{path}: expected the scores of a trial, it cannot be read: {error}") from error


def _objectives_of(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Values of the objectives; NaN where the trial does not report one."""
    if len(record.losses) == len(objectives):
        return tuple(-loss if o.mode == "max" else loss for loss, o in zip(record.losses, objectives))
    return tuple(record.metrics.get(o.metric, math.nan) for o in objectives)


def _leaf(record: TrialRecord, name: str) -> Cell:
    if name not in record.params:
        return None
    value = record.params[name]
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else short(value)


def _label(record: TrialRecord) -> str:
    return f"trial {record.number} ({record.model})"


def _duration(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def log_report(sweep_dir: Path, uri: str | None = None) -> str:
    """Log the report of a sweep to its MLflow run, into the folder ``report``.

    Parameters
    ----------
    sweep_dir : Path
    uri : str, optional
        Of MLflow; by default where the sweep was tracked.

    Returns
    -------
    str
        One sentence: where it is now, or why it was not logged.

    Raises
    ------
    TrackingError
        If the store has the sweep's run but does not take the files.
    """
    from jetsweep.tracking.client import first_line, open_client, shown, sqlite_path
    from jetsweep.tracking.record import read_record, sweep_uri

    record = read_record(sweep_dir)
    if record is None:
        return "Not logged: the sweep was never tracked"
    target = sweep_uri(uri, None, sweep_dir)
    place = record.place(target)
    gone = target.startswith("sqlite:///") and not sqlite_path(target).exists()
    if place is None or gone:
        return (
            f"Not logged: {shown(target)} has no run of this sweep; jetsweep sync {sweep_dir.name} delivers all of it"
        )
    client = open_client(target)
    try:
        client.log_artifacts(place["run_id"], str(sweep_dir / REPORT), REPORT)
    except JetsweepError:
        raise
    except Exception as error:  # SQLAlchemy's, requests' and the operating system's errors are not MLflow's
        raise TrackingError(
            f"tracking URI {shown(target)}: the report is in {sweep_dir / REPORT} but could not be logged "
            f"({first_line(error)}); the same command again does"
        ) from error
    return f"Logged to the sweep's run: {shown(target)}"
