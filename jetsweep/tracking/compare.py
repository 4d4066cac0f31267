"""The comparison table: one row per trial, the best of each architecture marked, ready for a terminal and a paper."""

from __future__ import annotations

import csv
import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.tracking.results import TrialRecord, read_sweep

if TYPE_CHECKING:
    from rich.console import Console

EFFICIENCIES = (0.3, 0.5, 0.8)
WIDTH = 120
"""Columns of a terminal that the table needs."""

REJECTIONS = tuple(f"1/εB @ {efficiency:g}" for efficiency in EFFICIENCIES)
COLUMNS = ("model", "trial", "parameters", "accuracy", "AUC", *REJECTIONS, "training", "inference")


@dataclass(frozen=True)
class Comparison:
    """Trials in order: complete ones by their validation metric, then the others.

    Parameters
    ----------
    records : sequence of TrialRecord
    """

    records: Sequence[TrialRecord]

    @property
    def best(self) -> dict[str, TrialRecord]:
        """The complete trial of each architecture with the best validation metric."""
        found: dict[str, TrialRecord] = {}
        for record in self.records:
            known = found.get(record.model)
            if record.status == "complete" and (known is None or record.selection > known.selection):
                found[record.model] = record
        return found

    @property
    def winner(self) -> TrialRecord | None:
        """The best complete trial of all; None where no trial is complete."""
        return max(self.best.values(), key=lambda record: record.selection, default=None)

    def rows(self) -> list[list[str]]:
        """Cells of every row, in the order of `COLUMNS`."""
        best = {id(record) for record in self.best.values()}
        return [_cells(record, id(record) in best) for record in self.records]

    def print(self, console: Console) -> None:
        """Print the table; rows of trials that were stopped early are dim."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="Comparison on the test split (★ best of its model on validation)", title_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
        best = {id(record) for record in self.best.values()}
        for record, cells in zip(self.records, self.rows()):
            style = "bold" if id(record) in best else "dim" if record.status != "complete" else None
            table.add_row(*cells, style=style)
        # a log file or a narrow terminal gets the whole table, not an abridged one
        wide = console if console.width >= WIDTH else Console(file=console.file, width=WIDTH)
        wide.print(table)
        console.print(
            "Rejection 1/εB with binomial uncertainty; inference in µs per jet at batch 1000 "
            f"({', '.join(sorted({r.device for r in self.records if r.device})) or 'not measured'}).",
            highlight=False,
        )

    def write(self, folder: Path) -> list[Path]:
        """Write ``compare.{csv,json,html,tex,md}`` into `folder` and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        writers = {"csv": _csv, "json": _json, "html": _html, "tex": _tex, "md": _markdown}
        paths = []
        for suffix, write in writers.items():
            path = folder / f"compare.{suffix}"
            path.write_text(write(self), encoding="utf-8")
            paths.append(path)
        return paths


def compare_sweeps(folders: Iterable[Path]) -> Comparison:
    """Comparison of all trials of one or more sweeps.

    Raises
    ------
    TrackingError
        If a folder is no sweep.
    """
    return ordered([record for folder in folders for record in read_sweep(folder)])


def ordered(records: Iterable[TrialRecord]) -> Comparison:
    """Comparison with the best complete trials first."""
    return Comparison(sorted(records, key=lambda r: (r.status != "complete", -r.selection, r.sweep, r.number)))


def _cells(record: TrialRecord, is_best: bool) -> list[str]:
    star = "★ " if is_best else "  "
    head = [f"{star}{record.model}", str(record.number)]
    if record.status != "complete":
        auc = record.metrics.get("val/auc", math.nan)
        shown = "—" if math.isnan(auc) else f"({auc:.4f})"
        return [*head, _count(record.parameters), record.status, shown, "", "", "", _duration(record.seconds), ""]
    rejections = [
        with_uncertainty(
            record.metrics.get(f"test/rejection_at_{e:g}", math.nan),
            record.metrics.get(f"test/rejection_at_{e:g}_error", math.nan),
        )
        for e in EFFICIENCIES
    ]
    return [
        *head,
        _count(record.parameters),
        _number(record.metrics.get("test/accuracy", math.nan), "{:.4f}"),
        _number(record.metrics.get("test/auc", math.nan), "{:.4f}"),
        *rejections,
        _duration(record.seconds),
        _number(record.inference_us, "{:,.0f} µs"),
    ]


def with_uncertainty(value: float, error: float) -> str:
    """``386 ± 22``: as many digits as the uncertainty supports; a lower bound where there is none.

    Parameters
    ----------
    value, error : float
    """
    if math.isnan(value):
        return "—"
    if math.isinf(error) or math.isnan(error):
        return f"> {value:,.0f}"
    digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 1
    return f"{value:,.{min(digits, 3)}f} ± {error:,.{min(digits, 3)}f}"


def _number(value: float, pattern: str) -> str:
    return "—" if math.isnan(value) else pattern.format(value)


def _count(parameters: int) -> str:
    return f"{parameters:,}" if parameters else "—"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _csv(comparison: Comparison) -> str:
    import io

    names = sorted({name for record in comparison.records for name in record.metrics})
    params = sorted({name for record in comparison.records for name in record.params})
    head = ["sweep", "trial", "status", "model", "parameters", "seconds", "inference_us_per_jet", "device"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*head, *names, *(f"param:{name}" for name in params)])
    for r in comparison.records:
        row: list[Any] = [r.sweep, r.number, r.status, r.model, r.parameters, r.seconds, r.inference_us, r.device]
        row += [r.metrics.get(name, "") for name in names]
        writer.writerow([*row, *(r.params.get(name, "") for name in params)])
    return stream.getvalue()


def _json(comparison: Comparison) -> str:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        # JSON has no NaN and no infinity
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps([clean(asdict(record)) for record in comparison.records], indent=1) + "\n"


def _markdown(comparison: Comparison) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "|".join(["---", *["---:"] * (len(COLUMNS) - 1)]) + "|"]
    lines += ["| " + " | ".join(cell.strip().replace("|", "\\|") for cell in row) + " |" for row in comparison.rows()]
    return "\n".join(lines) + "\n"


def _html(comparison: Comparison) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
    body = []
    for record, row in zip(comparison.records, comparison.rows()):
        kind = "complete" if record.status == "complete" else "other"
        body.append(f'<tr class="{kind}">' + "".join(f"<td>{html.escape(cell.strip())}</td>" for cell in row) + "</tr>")
    style = (
        "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}th,td{padding:.4em .8em;text-align:right;"
        "border-bottom:1px solid #ccc}th:first-child,td:first-child{text-align:left}.other{color:#888}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Comparison</title>'
        f"<style>{style}</style></head><body><h1>Comparison on the test split</h1>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        "<p>Rejection 1/εB with binomial uncertainty; ★ the best of its model on validation.</p></body></html>\n"
    )


_TEX = {
    **{letter: f"\\{letter}" for letter in "&%_#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "ε": r"$\varepsilon$",
    "µ": r"$\mu$",
    "★": r"$\star$",
    "—": "--",
    "…": r"\ldots{}",
    ">": "$>$",
    "<": "$<$",
}


def _tex(comparison: Comparison) -> str:
    def escape(text: str) -> str:
        return (
            "".join(_TEX.get(letter, letter) for letter in text.replace("1/εB", "@R@").strip())
            .replace("@R@", r"$1/\varepsilon_B$")
            .replace(">", "$>$")
        )

    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{l" + "r" * (len(COLUMNS) - 1) + "}",
        r"\toprule",
        " & ".join(escape(name) for name in COLUMNS) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(escape(cell) for cell in row) + r" \\" for row in comparison.rows()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
