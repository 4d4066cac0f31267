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
) -> None:
    """Run the sweep that FILE describes and print its comparison table."""
    from rich.console import Console

    from jetsweep.sweep import outcome_is_useful
    from jetsweep.sweep import run as run_sweep

    console = Console()
    template = load_for_this_machine(file, override or [], profile, console)
    outcome = run_sweep(
        template, runs_root=runs.resolve(), data_root=data.resolve(), console=console, tracking_uri=tracking_uri
    )
    raise typer.Exit(0 if outcome_is_useful(outcome.result) else 1)


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
