"""`jetsweep report`: one page about a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jetsweep.cli.run import Runs

app = typer.Typer(add_completion=False)


@app.command()
def report(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep below --runs, or its folder.")],
    runs: Runs = Path("jetsweep-runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow tracking URI; default: where the sweep was tracked.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about a sweep, with its figures and tables, and log it to the sweep's run."""
    from rich.console import Console

    from jetsweep.search.resume import find_sweep
    from jetsweep.tracking.client import resolve_uri
    from jetsweep.tracking.sweep_report import log_report, write_sweep_report

    root, console = runs.resolve(), Console()
    folder = find_sweep(root, sweep)
    page = write_sweep_report(folder)
    console.print(f"Written: {page}", markup=False, highlight=False, soft_wrap=True)
    logged = log_report(folder, resolve_uri(tracking_uri, None, root) if tracking_uri else None)
    console.print(logged, markup=False, highlight=False, soft_wrap=True)
