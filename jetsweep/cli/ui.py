"""`jetsweep ui`: MLflow's web page on the local database of sweeps, or Optuna's dashboard on the study of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)

Sweep = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="With --optuna: folder of a sweep, or name below --runs; default: newest."),
]


@app.command()
def ui(
    sweep: Sweep = None,
    optuna: Annotated[
        bool, typer.Option("--optuna", help="Show the study of a sweep in Optuna's dashboard (extra `dashboard`).")
    ] = False,
    runs: Annotated[Path, typer.Option(envvar="JETSWEEP_RUNS", help="Folder of sweeps.")] = Path("jetsweep-runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Start MLflow's web page on the sweeps of a folder, or Optuna's on one sweep; Ctrl-C ends it."""
    from rich.console import Console

    from jetsweep.errors import TrackingError
    from jetsweep.tracking.ui import serve, serve_study

    console = Console()
    if optuna:
        folder = _folder(sweep, runs)

        def show_study(address: str) -> None:
            console.print(
                f"Optuna on {folder}: [bold]{address}[/bold] (Ctrl-C ends it)", highlight=False, soft_wrap=True
            )

        raise typer.Exit(serve_study(folder, port, show_study))
    if sweep is not None:
        raise TrackingError(f"expected a sweep together with --optuna, found {sweep!r} alone; MLflow shows all sweeps")

    def show(address: str, experiments: list[tuple[str, str]]) -> None:
        console.print(f"MLflow on {runs}: [bold]{address}[/bold] (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        for name, url in experiments:
            console.print(f"  {name}: {url}", highlight=False, soft_wrap=True)

    raise typer.Exit(serve(runs, port, show))


def _folder(sweep: str | None, runs: Path) -> Path:
    """Folder of a sweep by path or name; without either the newest that has a study."""
    from jetsweep.errors import TrackingError
    from jetsweep.tracking.study import has_study, study_path

    if sweep is not None:
        return Path(sweep) if Path(sweep).is_dir() else runs / sweep
    found = [path for path in runs.glob("*/") if has_study(path)]
    if not found:
        raise TrackingError(f"{runs}: expected sweeps with a study, found none; is --runs right?")
    return max(found, key=lambda path: study_path(path).stat().st_mtime)
