"""Systematic uncertainties of a tagger in its evaluation folder: JSON, CSV, figures, and a table for a terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.metrics.systematics import Systematics
from jetsweep.tasks._systematics_figures import resilience_figure, systematics_figures
from jetsweep.tracking import figures
from jetsweep.tracking.results import read_json
from jetsweep.training.checkpoint import write_file

if TYPE_CHECKING:
    from rich.table import Table


def write_systematics(folder: Path, found: Systematics, about: Mapping[str, str]) -> None:
    """Write ``systematics.json``, ``systematics.csv`` and two figures as PNG and PDF.

    Raises
    ------
    JetsweepError
        If it cannot be written.
    """
    rows = found.rows()
    bins = [{name: _finite(value) for name, value in row.items()} for row in rows]
    content = {
        **about,
        "scheme": found.scheme.name,
        "signal_efficiency": found.scheme.efficiency,
        "resilience": _finite(float(found.uncertainty["total"][0])),
        "left_out": found.left_out,
        "warnings": list(found.warnings),
        "shared_events": found.shared_events,
        "bins": bins,
    }
    write_file(folder / "systematics.json", json.dumps(content, indent=1).encode())
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(bins)
    write_file(folder / "systematics.csv", text.getvalue().encode())
    figures.save(systematics_figures(found, about["model"]), folder)


def systematics_table(found: Systematics) -> Table:
    """One row per bin with jets; uncertainties in per cent of the rejection."""
    from rich.table import Table

    table = Table("pT / GeV")
    for name in ("jets", "rejection", "stat.", *found.uncertainty):
        table.add_column(name.replace("_", " "), justify="right")
    for row in found.rows():
        if row["jets"]:
            rejection, error = float(row["rejection"]), float(row["rejection_error"])
            parts = [error / rejection, *(float(row[name]) for name in found.uncertainty)]
            shown = "—" if math.isnan(rejection) else f"{rejection:.4g}"
            table.add_row(str(row["pt"]), f"{row['jets']:,}", shown, *(_percent(x) for x in parts))
    return table


def compare_systematics(evaluations: Sequence[Path], out: Path) -> Path:
    """Draw rejection against its systematic uncertainty, a point for each evaluation, as PNG and PDF.

    Parameters
    ----------
    evaluations : sequence of Path
        Folders with ``systematics.json``; of one scheme, one signal efficiency and one dataset.
    out : Path
        Folder for ``systematics-comparison.{png,pdf}``.

    Returns
    -------
    Path
        The figure without its suffix.

    Raises
    ------
    TrackingError
        If a folder holds no such file, or two of them cannot be compared.
    """
    found = {folder: read_json(folder / "systematics.json") for folder in evaluations}
    points: dict[str, tuple[float, float, float, float]] = {}
    first: dict[str, Any] = {}
    for folder, content in found.items():
        try:
            about = {name: content[name] for name in ("scheme", "signal_efficiency", "dataset_digest")}
            row, model = content["bins"][0], content["model"]
            point = tuple(row[name] for name in ("rejection", "rejection_error", "total", "total_error"))
        except (KeyError, IndexError, TypeError) as error:
            raise TrackingError(f"{folder}/systematics.json: expected a result of evaluate --systematics") from error
        first = first or about
        for name, value in about.items():
            if value != first[name]:
                raise TrackingError(f"{folder}: expected the {name} {first[name]!r} as in the others, found {value!r}")
        if None in point:
            raise TrackingError(f"{folder}: its rejection or uncertainty could not be measured; take more jets")
        points[model if model not in points else f"{model} ({folder})"] = point
    out.mkdir(parents=True, exist_ok=True)
    name = "systematics-comparison"
    figures.save({name: resilience_figure(points, first["signal_efficiency"])}, out)
    return out / name


def _percent(value: float) -> str:
    if not math.isfinite(value):
        return "—"
    return f"{100 * value:,.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
