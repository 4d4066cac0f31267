"""`jetsweep resume`: a sweep goes on where it was stopped, or where it died."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jetsweep.cli.run import Data, Overrides, Runs

app = typer.Typer(add_completion=False)

Sweep = Annotated[str, typer.Argument(help="Name of a sweep below --runs, or its folder.")]


@app.command()
def resume(
    sweep: Sweep,
    override: Overrides = None,
    add_trials: Annotated[int, typer.Option(min=0, help="Run so many trials more than it was to have.")] = 0,
    runs: Runs = Path("jetsweep-runs"),
    data: Data = Path("jetsweep-data"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow tracking URI; default: as before.")] = None,
) -> None:
    """Go on with a sweep: unfinished trials from their last checkpoint, finished ones are not repeated."""
    from rich.console import Console

    from jetsweep.search.resume import find_sweep, load_to_resume
    from jetsweep.sweep import outcome_is_useful
    from jetsweep.sweep import run as run_sweep

    folder = find_sweep(runs.resolve(), sweep)
    template = load_to_resume(folder, override or [], add_trials)
    outcome = run_sweep(
        template,
        runs_root=folder.parent,
        data_root=data.resolve(),
        console=Console(),
        tracking_uri=tracking_uri,
        resume=folder,
    )
    raise typer.Exit(0 if outcome_is_useful(outcome.result) else 1)
