"""A comparison as text: CSV and JSON with every number, HTML, LaTeX and Markdown as the table reads."""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Callable
from typing import Any

from jetsweep.tracking.compare import BEST, FRONT, VIOLATES, Comparison


def _csv(comparison: Comparison) -> str:
    names = sorted({name for record in comparison.records for name in record.metrics})
    params = sorted({name for record in comparison.records for name in record.params})
    head = ["sweep", "trial", "status", "model", "parameters", "seconds", "inference_us_per_jet", "single_jet_us"]
    head += ["device", "mark"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*head, *names, *(f"param:{name}" for name in params)])
    names_of_marks = {BEST: "best", FRONT: "front", VIOLATES: "violates"}
    for r, mark in zip(comparison.records, comparison.marks):
        row: list[Any] = [r.sweep, r.number, r.status, r.model, r.parameters, r.seconds, r.inference_us]
        row += [r.single_jet_us, r.device, names_of_marks.get(mark, "")]
        row += [r.metrics.get(name, "") for name in names]
        writer.writerow([*row, *(r.params.get(name, "") for name in params)])
    return stream.getvalue()


def _json(comparison: Comparison) -> str:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        # JSON has no NaN and no infinity
        return None if isinstance(value, float) and not math.isfinite(value) else value

    best = {id(record) for record in comparison.best.values()}
    front = {id(record) for record in comparison.front}
    records = [{**clean(vars(r)), "best": id(r) in best, "front": id(r) in front} for r in comparison.records]
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def _markdown(comparison: Comparison) -> str:
    columns = comparison.columns
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|"]
    lines += ["| " + " | ".join(cell.strip().replace("|", "\\|") for cell in row) + " |" for row in comparison.rows()]
    return "\n".join([*lines, "", comparison.note]) + "\n"


_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}th,td{padding:.4em .8em;text-align:right;"
    "border-bottom:1px solid #ccc;white-space:nowrap}th:first-child,td:first-child{text-align:left}"
    ".best{font-weight:bold}.other{color:#888}"
)


def _html(comparison: Comparison) -> str:
    body = []
    for mark, record, row in zip(comparison.marks, comparison.records, comparison.rows()):
        kind = "best" if mark in (BEST, FRONT) else "complete" if record.counts else "other"
        cells = "".join(f"<td>{html.escape(cell.strip())}</td>" for cell in row)
        body.append(f'<tr class="{kind}">{cells}</tr>')
    head = "".join(f"<th>{html.escape(name)}</th>" for name in comparison.columns)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Comparison</title>'
        f"<style>{_STYLE}</style></head><body><h1>Comparison</h1>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        f"<p>{html.escape(comparison.note)}</p></body></html>\n"
    )


_TEX = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "ε": r"$\varepsilon$",
        "µ": r"$\mu$",
        "★": r"$\star$",
        "◆": r"$\diamond$",
        "✗": r"$\times$",
        "—": "--",
        "…": r"\ldots{}",
        ">": "$>$",
        "<": "$<$",
        "|": "$|$",
    }
)


def tex_escape(text: str) -> str:
    """Text that LaTeX prints as it is, with T1 or OT1 fonts."""
    return text.translate(_TEX)


def _tex(comparison: Comparison) -> str:
    head = [tex_escape(name).replace(r"1/$\varepsilon$B", r"$1/\varepsilon_B$") for name in comparison.columns]
    lines = [
        r"% needs \usepackage{booktabs}",
        f"% {comparison.note}",
        r"\begin{tabular}{l" + "r" * (len(comparison.columns) - 1) + "}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(tex_escape(cell.strip()) for cell in row) + r" \\" for row in comparison.rows()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "csv": _csv,
    "json": _json,
    "html": _html,
    "tex": _tex,
    "md": _markdown,
}
"""Writers by file suffix."""
