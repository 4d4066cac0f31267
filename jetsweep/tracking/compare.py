"""The comparison table: one row per trial, the best of each architecture marked, ready for a terminal and a paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.errors import TrackingError
from jetsweep.search.best import non_dominated
from jetsweep.tracking.columns import TableColumn, columns_of, notes_of
from jetsweep.tracking.results import TrialRecord, read_sweep, told_apart, trial_folder

if TYPE_CHECKING:
    from rich.console import Console

BEST, FRONT, VIOLATES = "★", "◆", "✗"
WIDTH = 120
"""Columns of a terminal that the table fits."""


@dataclass(frozen=True)
class Comparison:
    """Trials in order: complete ones by their sweep's first objective, then the others.

    Parameters
    ----------
    records : sequence of TrialRecord
    """

    records: Sequence[TrialRecord]

    @cached_property
    def best(self) -> dict[str, TrialRecord]:
        """Of each architecture the trial with the best first objective among those that count."""
        found: dict[str, TrialRecord] = {}
        for record in self.records:
            known = found.get(record.model)
            if record.counts and (known is None or record.selection > known.selection):
                found[record.model] = record
        return found

    @property
    def winner(self) -> TrialRecord | None:
        """The best trial of all that count: complete, and within the sweep's constraints; None where there is none."""
        return max(self.best.values(), key=lambda record: record.selection, default=None)

    @cached_property
    def front(self) -> list[TrialRecord]:
        """Members of the Pareto front of each sweep with several objectives."""
        found = []
        for sweep in dict.fromkeys(record.sweep for record in self.records):
            able = [
                r
                for r in self.records
                if r.sweep == sweep and r.counts and len(r.losses) > 1 and all(map(math.isfinite, r.losses))
            ]
            on_front = non_dominated([record.losses for record in able])
            found += [record for record, is_member in zip(able, on_front) if is_member]
        return found

    @cached_property
    def marks(self) -> list[str]:
        """One sign per record: on the front, best of its architecture, outside a constraint, or nothing."""
        front, best = {id(record) for record in self.front}, {id(record) for record in self.best.values()}
        return [
            FRONT if id(r) in front else BEST if id(r) in best and len(r.losses) < 2 else VIOLATES if r.violated else ""
            for r in self.records
        ]

    def best_only(self) -> Comparison:
        """The same with one row per architecture."""
        return ordered(self.best.values())

    @cached_property
    def metrics(self) -> tuple[TableColumn, ...]:
        """Metrics that are shown: those of the tasks of the trials."""
        return columns_of(self.records)

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns."""
        titles = (column.title for column in self.metrics)
        return ("model", "trial", "parameters", *titles, "training", "inference", "one jet")

    def rows(self) -> list[list[str]]:
        """Cells of every row, in the order of `columns`."""
        letters = self.sweep_letters
        return [_cells(r, mark, letters.get(r.sweep), self.metrics) for r, mark in zip(self.records, self.marks)]

    @cached_property
    def sweep_letters(self) -> dict[str, str]:
        """Short label of each sweep where there are several: their names would make the table too wide."""
        names = sorted({record.sweep for record in self.records})
        return {name: _letters(i) for i, name in enumerate(names)} if len(names) > 1 else {}

    @property
    def note(self) -> str:
        """What the numbers are, and where the times were measured."""
        devices = {f"{r.device}, batches of {r.inference_batch:,}" for r in self.records if r.device}
        sweeps = "".join(f"{letter}: {name}; " for name, letter in self.sweep_letters.items())
        front = f"{FRONT} on the front of its sweep's objectives; " if self.front else ""
        violates = f"{VIOLATES} outside a constraint; " if any(record.violated for record in self.records) else ""
        return (
            f"{sweeps}Test split; {BEST} best of its model by its sweep's first objective; {front}{violates}"
            f"in brackets: validation AUC of a trial that did not end; {notes_of(self.records)}"
            f"inference time per jet, and of one jet alone ({'; '.join(sorted(devices)) or 'not measured'})."
        )

    def print(self, console: Console) -> None:
        """Print the table; rows of trials that were stopped early are dim."""
        from rich import box
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table

        def empty() -> Table:
            table = Table(
                title="Comparison", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
            )
            for name in self.columns:
                table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
            return table

        table, rows = empty(), self.rows()
        for mark, record, cells in zip(self.marks, self.records, rows):
            style = "bold" if mark in (BEST, FRONT) else None if record.counts else "dim"
            table.add_row(*cells, style=style)
        # a log file or a narrow terminal gets the whole table, not an abridged one; rich is slow to measure many rows
        widest = empty()
        widest.add_row(*(max(column, key=cell_len) for column in zip(*rows)))
        needed = Console(width=1000).measure(widest).maximum
        wide = console if console.width >= needed else Console(file=console.file, width=max(WIDTH, needed))
        wide.print(table)
        wide.print(self.note, highlight=False)

    def write(self, folder: Path, stem: str = "compare") -> list[Path]:
        """Write ``<stem>.{csv,json,html,tex,md}`` into `folder` and return their paths.

        Raises
        ------
        TrackingError
            If the folder cannot be written.
        """
        from jetsweep.tracking._formats import FORMATS

        paths = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for suffix, text in FORMATS.items():
                path = folder / f"{stem}.{suffix}"
                path.write_text(text(self), encoding="utf-8")
                paths.append(path)
        except OSError as error:
            raise TrackingError(f"{folder}: the comparison cannot be written: {error.strerror}") from error
        return paths


def compare_sweeps(folders: Iterable[Path]) -> Comparison:
    """Comparison of all trials of one or more sweeps.

    Raises
    ------
    TrackingError
        If a folder is no sweep.
    """
    return ordered(record for folder in folders for record in read_sweep(folder))


def compare_runs(uri: str, run_ids: Sequence[str] = (), filter: str | None = None) -> Comparison:
    """Comparison of trials kept in MLflow.

    Parameters
    ----------
    uri : str
        Tracking URI.
    run_ids : sequence of str
        Of trials, or of sweeps, which stand for all their trials.
    filter : str, optional
        MLflow search expression over runs of all experiments, in addition to `run_ids`.

    Raises
    ------
    TrackingError
        If the store cannot be used, or holds no such runs.
    """
    from jetsweep.tracking.client import open_client
    from jetsweep.tracking.runs import records_of_filter, records_of_runs

    client = open_client(uri)
    records = records_of_runs(client, run_ids)
    if filter is not None:
        known = {(record.sweep, record.number) for record in records}
        records += [r for r in records_of_filter(client, filter) if (r.sweep, r.number) not in known]
    return ordered(records)


def ordered(records: Iterable[TrialRecord]) -> Comparison:
    """Comparison with the best complete trials first, those outside a constraint after those within."""
    told = told_apart(records)
    return Comparison(
        sorted(told, key=lambda r: (r.status != "complete", not r.counts, -r.selection, r.sweep, r.number))
    )


def best_checkpoint(path: Path) -> Path:
    """Folder of weights that `path` stands for: of a sweep the best trial's, of anything else itself.

    Raises
    ------
    TrackingError
        If a sweep has no complete trial.
    """
    if not (path / "trials").is_dir():
        return path
    winner = compare_sweeps([path]).winner
    if winner is None:
        raise TrackingError(f"{path}: expected a sweep with a complete trial, found none")
    return trial_folder(path, winner.number) / "checkpoints" / "best"


def _cells(record: TrialRecord, mark: str, letter: str | None, metrics: Sequence[TableColumn]) -> list[str]:
    star = f"{mark or ' '} "
    trial = f"{letter}:{record.number}" if letter else str(record.number)
    head = [f"{star}{record.model}", trial, _count(record.parameters)]
    if record.status != "complete":
        return [*head, *_unfinished(record, metrics), _duration(record.seconds), "", ""]
    return [
        *head,
        *(_measured(record, column) for column in metrics),
        _duration(record.seconds),
        _time_per_jet(record.inference_us),
        _time_alone(record.single_jet_us),
    ]


def _measured(record: TrialRecord, column: TableColumn) -> str:
    value = record.metrics.get(f"test/{column.metric}", math.nan)
    if not column.error:
        return _number(value, "{:.4f}")
    return with_uncertainty(value, record.metrics.get(f"test/{column.error}", math.nan))


def _unfinished(record: TrialRecord, metrics: Sequence[TableColumn]) -> list[str]:
    """The status in the first column that has no early metric to show, and that metric in its own."""
    cells = [""] * len(metrics)
    for i, column in enumerate(metrics):
        value = record.metrics.get(f"val/{column.metric}", math.nan)
        if column.is_early and not math.isnan(value):
            cells[i] = f"({value:.4f})"
    if "" in cells:
        cells[cells.index("")] = record.status
    return cells


def _letters(index: int) -> str:
    """A, B … Z, AA, AB …"""
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def with_uncertainty(value: float, error: float) -> str:
    """``386 ± 22``, rounded as the Particle Data Group does; a lower bound where no background jet was left.

    An uncertainty whose three leading digits are below 355 keeps two of them, others keep one.

    Parameters
    ----------
    value, error : float
    """
    if math.isnan(value):
        return "—"
    if not math.isfinite(error):
        return f"> {value:,.0f}"
    if error <= 0:
        return f"{value:,.1f}"
    exponent = math.floor(math.log10(error))
    leading = round(error / 10.0**exponent * 100)
    digits = (1 if leading < 355 else 0) - exponent
    if leading >= 950:  # 0.96 is 1.0
        digits = -exponent
    shown = max(0, digits)
    return f"{round(value, digits):,.{shown}f} ± {round(error, digits):,.{shown}f}"


def _number(value: float, pattern: str) -> str:
    return "—" if math.isnan(value) else pattern.format(value)


def _time_per_jet(microseconds: float) -> str:
    return _number(microseconds, "{:,.0f} µs" if microseconds >= 10 else "{:.1f} µs")


def _time_alone(microseconds: float) -> str:
    if microseconds < 1000:
        return _time_per_jet(microseconds)
    return _number(microseconds / 1000, "{:,.1f} ms" if microseconds < 99_950 else "{:,.0f} ms")


def _count(parameters: int) -> str:
    return f"{parameters:,}" if parameters else "—"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "—"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.{1 if seconds < 597 else 0}f} min"
    return f"{seconds / 3600:,.1f} h"
