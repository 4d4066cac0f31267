"""The report of a sweep as files: one page that loads nothing, and its figures and tables as PNG and CSV."""

from __future__ import annotations

import base64
import csv
import io
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jetsweep.tasks._report import Cell, Section, Table
from jetsweep.tracking.compare import with_uncertainty
from jetsweep.training.checkpoint import recover
from jetsweep.training.disk import write_error

PAGE = "report.html"
_DPI = 90

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Report of {{ name }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body{font-family:sans-serif;max-width:1150px;margin:2em auto;padding:0 1em;color:#222;line-height:1.45}
h1{margin-bottom:.2em}h2{margin-top:2em;border-bottom:1px solid #ccc;padding-bottom:.2em}
nav a{margin-right:1.2em;white-space:nowrap}a{color:#0b5cad}p{max-width:62em}
figure{margin:1.2em 0}figcaption{color:#444;max-width:62em;margin-bottom:.4em}
img{max-width:100%;height:auto}.left-out{color:#777;font-style:italic}.file{color:#888;font-size:.8em}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums}
th,td{padding:.3em .7em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th{background:#f4f4f4}.text{text-align:left}
pre{background:#f6f6f6;padding:1em;overflow-x:auto}
</style></head><body>
<h1>{{ name }}</h1>
{% for line in summary %}<p>{{ line }}</p>
{% endfor %}<nav>{% for section in sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a>{% endfor %}</nav>
{% for section in sections %}<h2 id="s{{ loop.index }}">{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% for part in section.parts %}<figure id="{{ part.name }}"><figcaption>{{ part.caption }}
{%- for file in part.files %} <span class="file">{{ file }}</span>{% endfor %}</figcaption>
{% if part.reason %}<p class="left-out">Left out: {{ part.reason }}.</p>
{% elif part.image %}<img alt="{{ part.caption }}" src="data:image/png;base64,{{ part.image }}">
{% else %}<div class="wide"><table><tr>
{%- for column, is_text in part.columns %}<th{% if is_text %} class="text"{% endif %}>{{ column }}</th>{% endfor %}</tr>
{% for row in part.rows %}<tr>{% for text, is_text in row %}<td{% if is_text %} class="text"{% endif %}>{{ text }}</td>
{%- endfor %}</tr>
{% endfor %}</table></div>
{% endif %}</figure>
{% endfor %}{% endfor %}
{% if source %}<h2>Experiment file</h2>
<details><summary>experiment.yaml</summary><pre>{{ source }}</pre></details>{% endif %}
</body></html>
"""


def write_page(folder: Path, name: str, summary: Sequence[str], sections: Sequence[Section], source: str = "") -> Path:
    """Write the page, its figures and its tables into a folder, which is replaced as a whole.

    Parameters
    ----------
    folder : Path
    name : str
        Title of the page.
    summary : sequence of str
        Sentences below it.
    sections : sequence of Section
    source : str
        Text of the experiment file.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    JetsweepError
        If the folder cannot be written; an earlier report is kept.
    """
    import jinja2

    files: dict[str, bytes] = {}
    shown = [_section(section, files) for section in sections]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_TEMPLATE).render(name=name, summary=summary, sections=shown, source=source)
    files[PAGE] = page.encode()
    _replace(folder, files)
    return folder / PAGE


def _section(section: Section, files: dict[str, bytes]) -> dict[str, Any]:
    """A section as the template wants it; what its parts write goes into `files`."""
    parts = []
    for part in section.parts:
        shown: dict[str, Any] = {"name": part.name, "caption": part.caption, "reason": part.reason.rstrip(".")}
        shown |= {"image": "", "files": [], "columns": (), "rows": ()}
        if part.figure is not None:
            stream = io.BytesIO()
            part.figure.savefig(stream, format="png", dpi=_DPI)
            files[f"{part.name}.png"] = stream.getvalue()
            shown["image"] = base64.b64encode(stream.getvalue()).decode()
            shown["files"].append(f"{part.name}.png")
        if part.table is not None:
            files[f"{part.name}.csv"] = _csv(part.table).encode()
            shown["files"].append(f"{part.name}.csv")
            shown["columns"], shown["rows"] = _cells(part.table)
        parts.append(shown)
    return {"title": section.title, "text": section.text, "parts": parts}


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in table.rows)
    return stream.getvalue()


_Aligned = list[tuple[str, bool]]
"""Texts to show, each with whether its column holds text."""


def _cells(table: Table) -> tuple[_Aligned, list[_Aligned]]:
    """Columns and rows as they are shown, an uncertainty beside its number."""
    by_name = [dict(zip(table.columns, row)) for row in table.rows]
    names = [name for name in table.columns if not name.endswith("_error")]
    is_text = [any(isinstance(row[name], str) for row in by_name) for name in names]
    rows = [list(zip([_shown(row, name) for name in names], is_text)) for row in by_name]
    return list(zip(names, is_text)), rows


def _shown(row: Mapping[str, Cell], name: str) -> str:
    value, error = row[name], row.get(f"{name}_error")
    if isinstance(value, float) and isinstance(error, float):
        return with_uncertainty(value, error)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "—"
    return f"{value:.5g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder of these files in the place of another; a kill between the two renames heals `recover`."""
    temporary, old = folder.with_name(f"{folder.name}.tmp-{os.getpid()}"), folder.with_name(f"{folder.name}.old")
    try:
        recover(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        recover(folder)
        raise write_error(f"{folder}: the report cannot be written: {error.strerror}", error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
