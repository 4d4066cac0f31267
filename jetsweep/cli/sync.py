"""`jetsweep sync`: deliver sweeps to an MLflow store that was away, or that their machine cannot reach."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def sync(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SWEEP]...", help="Folders of sweeps, or names below --runs; all of --runs by default."
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow tracking URI; default: where each sweep was tracked.")
    ] = None,
    runs: Annotated[Path, typer.Option(envvar="JETSWEEP_RUNS", help="Folder of sweeps.")] = Path("jetsweep-runs"),
) -> None:
    """Bring an MLflow store up to date with the folders of sweeps; doing it twice changes nothing."""
    from rich.console import Console

    from jetsweep.errors import TrackingError
    from jetsweep.search.lock import who_drives
    from jetsweep.tracking.client import resolve_uri
    from jetsweep.tracking.sync import sync_sweep, tracked_sweeps

    def driver_of(folder: Path) -> str | None:
        driver = who_drives(folder)
        return None if driver is None else str(driver)

    uri = resolve_uri(tracking_uri, None, runs) if tracking_uri else None
    folders = [Path(name) if Path(name).is_dir() else runs / name for name in sweeps or []] or tracked_sweeps(runs)
    if not folders:
        raise TrackingError(f"{runs}: expected sweeps, found none; is --runs right?")
    console, failed = Console(), False
    for folder in folders:
        try:
            done = sync_sweep(folder, uri, who_drives=driver_of)
        except TrackingError as error:
            if len(folders) == 1:
                raise
            print(f"jetsweep: {error}", file=sys.stderr)  # the others may go
            failed = True
            continue
        console.print(
            f"{done.sweep_dir.name}: {done.runs} runs, {done.epochs} epochs delivered → {done.uri}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    raise typer.Exit(2 if failed else 0)
