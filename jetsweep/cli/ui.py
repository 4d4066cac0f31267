"""`jetsweep ui`: MLflow's web page on the local database of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def ui(
    runs: Annotated[Path, typer.Option(envvar="JETSWEEP_RUNS", help="Folder of sweeps.")] = Path("jetsweep-runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Start MLflow's web page on the sweeps of a folder; Ctrl-C ends it."""
    from rich.console import Console

    from jetsweep.tracking.ui import serve

    console = Console()

    def show(address: str, experiments: list[tuple[str, str]]) -> None:
        console.print(f"MLflow on {runs}: [bold]{address}[/bold] (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        for name, url in experiments:
            console.print(f"  {name}: {url}", highlight=False, soft_wrap=True)

    raise typer.Exit(serve(runs, port, show))
