"""`jetsweep run`: an experiment file becomes a sweep."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from jetsweep.experiment import ExperimentTemplate

app = typer.Typer(add_completion=False)

File = Annotated[str, typer.Argument(help="Experiment file, or the name of one that jetsweep ships.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Set a key, e.g. training.epochs=3; repeatable."),
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="Profile of the file; `full` takes the file as it stands.")
]
Runs = Annotated[Path, typer.Option(envvar="JETSWEEP_RUNS", help="Folder of sweeps.")]
Data = Annotated[Path, typer.Option(envvar="JETSWEEP_DATA", help="Folder of made datasets.")]


@app.command()
def run(
    file: File,
    override: Overrides = None,
    profile: Profile = None,
    runs: Runs = Path("jetsweep-runs"),
    data: Data = Path("jetsweep-data"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow tracking URI; also MLFLOW_TRACKING_URI.")] = None,
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--fresh", help="Go on with the newest sweep of this name, or begin another."),
    ] = None,
) -> None:
    """Run the sweep that FILE describes and print its comparison table."""
    from rich.console import Console

    from jetsweep.sweep import outcome_is_useful
    from jetsweep.sweep import run as run_sweep

    console = Console()
    template = load_for_this_machine(file, override or [], profile, console)
    earlier = earlier_to_resume(template, runs.resolve(), resume, console)
    outcome = run_sweep(
        template,
        runs_root=runs.resolve(),
        data_root=data.resolve(),
        console=console,
        tracking_uri=tracking_uri,
        resume=earlier,
    )
    raise typer.Exit(0 if outcome_is_useful(outcome.result) else 1)


def earlier_to_resume(
    template: ExperimentTemplate, runs_root: Path, resume: bool | None, console: Console
) -> Path | None:
    """Folder of the sweep that goes on, None for a new one; asks where somebody can answer.

    Raises
    ------
    JetsweepError
        If a sweep of this name did not finish, and nobody says what to do with it.
    """
    import sys

    from jetsweep.errors import JetsweepError
    from jetsweep.search.resume import load_to_resume, newest
    from jetsweep.tracking.status import read_status

    earlier = newest(runs_root, template.name)
    if earlier is None:
        if resume:
            raise JetsweepError(f"{runs_root}: --resume expects a sweep called {template.name!r}, found none")
        return None
    if resume is None:
        state = read_status(earlier)
        if state.is_over:
            return None
        console.print(state.sentence, markup=False, highlight=False, soft_wrap=True)
        if not (console.is_terminal and sys.stdin.isatty()):
            raise JetsweepError(f"{earlier}: this sweep is not finished; give --resume or --fresh")
        resume = typer.confirm("Go on with it? (no begins a new one)", default=True)
    if not resume:
        return None
    load_to_resume(earlier, wanted=template)
    return earlier


def load_for_this_machine(file: str, overrides: list[str], profile: str | None, console: Console) -> ExperimentTemplate:
    """Load a file; without a GPU and without a choice take its profile `laptop`, and say what that changes."""
    from jetsweep.experiment import load_experiment, profiles_of

    chosen = profile
    if profile is None and not has_gpu() and "laptop" in profiles_of(file):
        chosen = "laptop"
    template = load_experiment(file, overrides, chosen)
    if chosen not in (None, "full"):
        reason = "no GPU found: " if profile is None else ""
        override = "; override with --profile full or -o key=value" if profile is None else ""
        console.print(f"[bold]{reason}profile {chosen}[/bold] of {template.file} changes{override}", soft_wrap=True)
        for path, before, after in template.profile_changes:
            console.print(f"  {path}: {_short(before)} → [bold]{_short(after)}[/bold]", highlight=False, soft_wrap=True)
    return template


def has_gpu() -> bool:
    """Whether a GPU that torch could use is on this machine; a quick look that imports nothing heavy."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return False
    if version("torch").endswith("+cpu"):
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
        count: int = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:  # no driver
        return False
    pynvml.nvmlShutdown()
    return count > 0


def _short(value: object) -> str:
    import json

    if value is None:
        return "default"
    text = json.dumps(value)
    return text if len(text) <= 70 else f"{text[:67]}…"
