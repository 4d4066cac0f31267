"""`jetsweep compare`: the comparison table of sweeps, of MLflow runs, or of what an MLflow filter selects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False)

Sweeps = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SWEEP]...", help="Folders of sweeps, or names below --runs; all of --runs by default."),
]


@app.command()
def compare(
    sweeps: Sweeps = None,
    run: Annotated[
        list[str] | None, typer.Option(help="Id of an MLflow run: a trial, or a sweep with all its trials; repeatable.")
    ] = None,
    filter: Annotated[
        str | None, typer.Option(help="MLflow filter, e.g. \"metrics.`test/auc` > 0.98 and params.seed = '1'\".")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="Only the best trial of each model.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.{csv,json,html,tex,md}; default: the sweep's, else --runs.")
    ] = None,
    systematics: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder written by evaluate --systematics: also draw rejection against uncertainty; repeatable."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(envvar="JETSWEEP_RUNS", help="Folder of sweeps.")] = Path("jetsweep-runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow tracking URI; also MLFLOW_TRACKING_URI.")] = None,
) -> None:
    """Print the comparison table of trials, and write it as CSV, JSON, HTML, LaTeX and Markdown."""
    from rich.console import Console

    from jetsweep.errors import TrackingError
    from jetsweep.tracking import compare_runs, compare_sweeps
    from jetsweep.tracking.client import resolve_uri

    folders: list[Path] = []
    if run or filter is not None:
        if sweeps:
            raise TrackingError(f"expected either sweeps or --run and --filter, found both ({', '.join(sweeps)})")
        comparison, folder = compare_runs(resolve_uri(tracking_uri, None, runs), run or (), filter), runs
    else:
        folders = _folders(sweeps or [], runs)
        comparison, folder = compare_sweeps(folders), folders[0] if len(folders) == 1 else runs
    if best:
        comparison = comparison.best_only()
        if not comparison.records:
            raise TrackingError("expected a complete trial, found none")
    console = Console()
    comparison.print(console)
    paths = comparison.write(out or folder, "compare-best" if best else "compare")
    kinds = ",".join(path.suffix[1:] for path in paths)
    console.print(f"Written: {paths[0].with_suffix('')}.{{{kinds}}}", soft_wrap=True)
    _repeats(folders, out, console)
    if systematics:
        from jetsweep.tracking.systematics import compare_systematics

        figure = compare_systematics(systematics, out or folder)
        console.print(f"Written: {figure}.{{png,pdf}}", soft_wrap=True)


def _repeats(folders: list[Path], out: Path | None, console: Console) -> None:
    """Print what the sweeps repeated with other seeds; of a single sweep write it as well."""
    from jetsweep.tracking.repeats import read_repeats

    for repeated in filter(None, map(read_repeats, folders)):
        repeated.print(console)
        if len(folders) == 1:
            path, *_ = repeated.write(out or folders[0])
            console.print(f"Written: {path.with_suffix('')}.{{csv,json,md}}", soft_wrap=True)


def _folders(sweeps: list[str], runs: Path) -> list[Path]:
    """Folders of sweeps by path or by name."""
    from jetsweep.errors import TrackingError

    if not sweeps:
        found = sorted(path.parent for path in runs.glob("*/trials") if any(path.iterdir()))
        if not found:
            raise TrackingError(f"{runs}: expected sweeps with trials, found none; name one, or run one first")
        return found
    return [Path(name) if Path(name).is_dir() else runs / name for name in sweeps]
