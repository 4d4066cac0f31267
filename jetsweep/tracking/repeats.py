"""The table of `search.repeats`: what the best configurations give with other seeds."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.search.repeats import COVERAGE, FOLDER, REPEAT_FILE, Spread, spread
from jetsweep.tracking.columns import TableColumn, columns_of
from jetsweep.tracking.compare import WIDTH, with_uncertainty
from jetsweep.tracking.results import TrialRecord, read_json, read_trial, told_apart

if TYPE_CHECKING:
    from rich.console import Console

LEFT = ("model", "")
TIMES = ("inference_us", "single_jet_us")


@dataclass(frozen=True)
class Repeated:
    """Runs of one configuration.

    Parameters
    ----------
    origin : int
        Number of the trial that was repeated.
    seeds : tuple of int
        Of every run that began.
    records : tuple of TrialRecord
        In the same order; the statistics are those of the complete ones.
    """

    origin: int
    seeds: tuple[int, ...]
    records: tuple[TrialRecord, ...]

    @property
    def complete(self) -> list[TrialRecord]:
        """Runs that trained to their end."""
        return [record for record in self.records if record.status == "complete"]

    def spreads(self) -> dict[str, Spread]:
        """Every metric that some run reports."""
        names = sorted({name for record in self.complete for name in record.metrics})
        found = {name: spread([r.metrics.get(name, math.nan) for r in self.complete]) for name in names}
        found["train_seconds"] = spread([record.seconds for record in self.complete])
        for name in TIMES:
            found[name] = spread([getattr(record, name) for record in self.complete])
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class RepeatTable:
    """All repeated configurations of a sweep, best first.

    Parameters
    ----------
    sweep : str
    configurations : sequence of Repeated
    chosen : bool
        Whether the configurations were chosen for what their trials had reached.
    """

    sweep: str
    configurations: Sequence[Repeated]
    chosen: bool = True

    @cached_property
    def shown(self) -> tuple[TableColumn, ...]:
        """Metrics that are shown: those of the sweep's task."""
        return columns_of(repeated.records[0] for repeated in self.configurations)

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns."""
        titles = (column.title for column in self.shown)
        return ("model", "trial", "parameters", "runs", "", *titles, "inference, µs", "one jet, µs")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what the last columns hold."""
        return (*(f"test/{column.metric}" for column in self.shown), *TIMES)

    def rows(self) -> list[list[str]]:
        """Two rows of cells per configuration, in the order of `columns`: median and interval, mean and deviation."""
        rows = []
        for repeated in self.configurations:
            spreads = [repeated.spreads().get(metric) for metric in self.metrics]
            runs = f"{len(repeated.complete)} of {len(repeated.records)}"
            first = repeated.records[0]
            head = [first.model, str(repeated.origin), f"{first.parameters:,}", runs]
            rows.append([*head, "median (interval)", *map(_median, spreads)])
            rows.append(["", "", "", "", "mean ± std", *map(_mean, spreads)])
        return rows

    @property
    def note(self) -> str:
        """What the numbers are, and how sure the intervals."""
        held = {
            f"{value.coverage:.0%}"
            for repeated in self.configurations
            for name, value in repeated.spreads().items()
            if name in self.metrics and value.coverage < COVERAGE
        }
        few = f" (fewer than six runs: their range, which holds it with {' or '.join(sorted(held))})" if held else ""
        first = (
            "the run that was chosen in the sweep is not among them"
            if self.chosen
            else "the sweep's own run is among them, since all were repeated and none was chosen"
        )
        return (
            "Test split; the same jets with other seeds for weights, order of jets and dropout; "
            f"{first}; the interval holds one more run with 68 %{few}; std of one run."
        )

    def print(self, console: Console) -> None:
        """Print the table and its note."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(title="Repeats", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name in self.columns:
            table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=True)
        for row in self.rows():
            table.add_row(*row)
        needed = Console(width=1000).measure(table).maximum
        wide = console if console.width >= needed else Console(file=console.file, width=max(WIDTH, needed))
        wide.print(table)
        wide.print(self.note, highlight=False)

    def write(self, folder: Path) -> list[Path]:
        """Write ``repeats.{csv,json,md}`` into `folder` and return their paths.

        Raises
        ------
        TrackingError
            If the folder cannot be written.
        """
        texts = {"csv": self._csv(), "json": self._json(), "md": self._markdown()}
        try:
            for suffix, text in texts.items():
                (folder / f"repeats.{suffix}").write_text(text, encoding="utf-8")
        except OSError as error:
            raise TrackingError(f"{folder}: the table of repeats cannot be written: {error.strerror}") from error
        return [folder / f"repeats.{suffix}" for suffix in texts]

    def _csv(self) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["sweep", "trial", "model", "metric", "runs", "median", "low", "high", "coverage", "mean", "std"]
        )
        for r in self.configurations:
            for name, s in r.spreads().items():
                row = [len(s.values), s.median, s.low, s.high, s.coverage, s.mean, s.std]
                writer.writerow([self.sweep, r.origin, r.records[0].model, name, *row])
        return stream.getvalue()

    def _json(self) -> str:
        rows = [
            {
                "sweep": self.sweep,
                "trial": r.origin,
                "model": r.records[0].model,
                "params": r.records[0].params,
                "runs": [
                    {"seed": seed, "status": record.status, "violated": list(record.violated)}
                    for seed, record in zip(r.seeds, r.records)
                ],
                "metrics": {name: _plain(vars(value)) for name, value in r.spreads().items()},
            }
            for r in self.configurations
        ]
        return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"

    def _markdown(self) -> str:
        rule = "".join("---|" if name in LEFT else "---:|" for name in self.columns)
        lines = ["| " + " | ".join(self.columns) + " |", f"|{rule}"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows()]
        return "\n".join([*lines, "", self.note]) + "\n"


def read_repeats(sweep_dir: Path) -> RepeatTable | None:
    """Table of a sweep's repeated configurations from their folders; None where there are none.

    Raises
    ------
    TrackingError
        If a file there is not what jetsweep writes.
    """
    found: dict[int, list[tuple[int, int, TrialRecord]]] = {}
    for path in sorted((sweep_dir / FOLDER).glob(f"*/{REPEAT_FILE}")):
        said, record = read_json(path), read_trial(path.parent)
        if record is not None:
            try:
                found.setdefault(said["origin"], []).append((said["index"], said["seed"], record))
            except KeyError as error:
                raise TrackingError(f"{path}: expected what a run repeats, the key {error} is not there") from error
    if not found:
        return None
    own = _own_runs(sweep_dir)
    chosen = not (own.keys() <= found.keys())
    configurations = []
    for origin, runs in found.items():  # folders are numbered in the order in which the best were chosen
        runs.sort(key=lambda run: run[0])
        if not chosen and origin in own:
            runs.insert(0, (-1, *own[origin]))
        configurations.append(
            Repeated(origin, tuple(seed for _, seed, _ in runs), tuple(record for *_, record in runs))
        )
    named = iter(told_apart(record for repeated in configurations for record in repeated.records))
    configurations = [
        replace(repeated, records=tuple(itertools.islice(named, len(repeated.records)))) for repeated in configurations
    ]
    return RepeatTable(sweep_dir.absolute().name, configurations, chosen)


def _own_runs(sweep_dir: Path) -> dict[int, tuple[int, TrialRecord]]:
    """Seed and record of every complete trial of the sweep itself, by number."""
    found = {}
    for folder in sorted((sweep_dir / "trials").glob("*/")):
        record = read_trial(folder)
        if record is not None and record.status == "complete":
            found[record.number] = (int(read_json(folder / "experiment.json").get("seed", 0)), record)
    return found


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _median(value: Spread | None) -> str:
    if value is None:
        return "—"
    width = value.high - value.low
    # two digits of the interval, or four of the number
    scale, shown = (width, 2) if math.isfinite(width) and width > 0 else (abs(value.median), 4)
    known = math.isfinite(scale) and scale > 0
    digits = min(max(shown - 1 - math.floor(math.log10(scale)), 0), 6) if known else 4
    return "{} ({}–{})".format(*(_shown(x, digits) for x in (value.median, value.low, value.high)))


def _shown(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"


def _mean(value: Spread | None) -> str:
    if value is None or not math.isfinite(value.mean):
        return "—"
    if value.std > 0:
        return with_uncertainty(value.mean, value.std)
    return f"{value.mean:,.4f} ± {'0' if value.std == 0 else '—'}"
