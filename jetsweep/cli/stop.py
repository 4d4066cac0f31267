"""`jetsweep stop`: a running sweep saves and ends, to be resumed later."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from jetsweep.cli.run import Runs

app = typer.Typer(add_completion=False)

_LOOK_S = 0.5


@app.command()
def stop(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep below --runs, or its folder.")],
    runs: Runs = Path("jetsweep-runs"),
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
) -> None:
    """Ask a sweep to save its trials and end; `jetsweep resume` goes on with it."""
    from rich.console import Console

    from jetsweep.errors import JetsweepError
    from jetsweep.search.lock import STOP_FILE, who_drives
    from jetsweep.search.resume import find_sweep

    folder, console = find_sweep(runs.resolve(), sweep), Console()
    driver = who_drives(folder)
    if driver is None:
        raise JetsweepError(f"{folder}: expected a sweep that runs, nobody runs this one")
    try:
        (folder / STOP_FILE).touch()
    except OSError as error:
        raise JetsweepError(f"{folder / STOP_FILE}: cannot be written: {error.strerror}") from error
    if not wait:
        console.print(f"{folder.name}: asked {driver} to end", highlight=False)
        return
    with console.status(f"{folder.name}: {driver} saves and ends"):
        while who_drives(folder) == driver:
            time.sleep(_LOOK_S)
    console.print(f"{folder.name} has ended; go on with: jetsweep resume {sweep}", highlight=False, soft_wrap=True)
