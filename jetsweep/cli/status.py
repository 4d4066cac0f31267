"""`jetsweep status`: where sweeps stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jetsweep.cli.run import Runs

app = typer.Typer(add_completion=False)


@app.command()
def status(
    sweep: Annotated[
        str | None, typer.Argument(help="Name of a sweep below --runs, or its folder; all of --runs by default.")
    ] = None,
    runs: Runs = Path("jetsweep-runs"),
) -> None:
    """Say who runs a sweep, how its trials ended, and where those stand that did not."""
    from rich.console import Console

    from jetsweep.errors import JetsweepError
    from jetsweep.search.resume import EXPERIMENT, find_sweep
    from jetsweep.tracking.status import read_status

    root, console = runs.resolve(), Console()
    folders = [find_sweep(root, sweep)] if sweep else sorted(path.parent for path in root.glob(f"*/{EXPERIMENT}"))
    if not folders:
        raise JetsweepError(f"{root}: expected sweeps, found none; is --runs right?")
    for folder in folders:
        state = read_status(folder)
        console.print(state.sentence, markup=False, highlight=False, soft_wrap=True)
        if sweep and state.unfinished:
            console.print(state.table())
