"""`jetsweep evaluate`: metrics, plots and per-jet arrays of a trained model on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jetsweep.training.checkpoint import LoadedModel

app = typer.Typer(add_completion=False)

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Checkpoint folder, trial folder, or a sweep's folder, whose best trial is taken."
    ),
]
Models = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="Checkpoint folder, trial folder, or a sweep's folder, whose best trial counts; several with --ensemble.",
    ),
]
Ensemble = Annotated[
    str | None,
    typer.Option(
        metavar="mean|median|std",
        help="Combine several models: mean or median of probabilities; mean, median or standard deviation of anomaly "
        "scores, each standardised on the background first.",
    ),
]
Device = Annotated[str | None, typer.Option(help="Device of torch, e.g. cpu or cuda:1; the GPU where there is one.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Jets per batch; as in training by default.")]


@app.command()
def evaluate(
    models: Models,
    data: Annotated[
        str | None, typer.Option(help="Dataset folder or URI; by default the one the model was trained on.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "test",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write; default: evaluation-SPLIT here.")
    ] = None,
    ensemble: Ensemble = None,
    device: Device = None,
    batch_size: BatchSize = None,
    time: Annotated[
        bool,
        typer.Option("--time", help="Also measure the time per jet, on the CPU and on the GPU where there is one."),
    ] = False,
    systematics: Annotated[
        bool, typer.Option("--systematics", help="Measure the rejection's systematic uncertainty per jet-pT bin too.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=2, help="Bootstrap replicas of --systematics.")] = 100,
    data_root: Annotated[Path, typer.Option(envvar="JETSWEEP_DATA", help="Folder of made datasets.")] = Path(
        "jetsweep-data"
    ),
) -> None:
    """Evaluate a trained model, or several as one, and write metrics.json, SPLIT.npz and plots."""
    from rich.console import Console

    from jetsweep.data.config import prepare
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.verify import check_shards
    from jetsweep.errors import JetsweepError
    from jetsweep.tracking.report import metrics_table, timing_table, write_evaluation
    from jetsweep.tracking.systematics import systematics_table, write_systematics
    from jetsweep.training.ensembles import evaluate_ensemble, require_one_dataset
    from jetsweep.training.inference import evaluate_model, pick_device, time_model
    from jetsweep.training.systematics import measure_systematics, scheme_of, varied_splits

    members, about = load_models(models, ensemble)
    if ensemble and (time or systematics):
        raise JetsweepError(f"expected one model beside --time and --systematics, found {len(members)}")
    loaded = next(iter(members.values()))
    if data is None:
        require_one_dataset(members)
    dataset = open_dataset(data) if data is not None else prepare(loaded.spec.data.without_outliers(), data_root)
    scheme = scheme_of(dataset) if systematics else None
    splits = [split, *(varied_splits(dataset, scheme, split).values() if scheme is not None else ())]
    check_shards(dataset, splits)
    chosen = pick_device(device)
    metrics, arrays, task = (
        evaluate_ensemble(members, dataset, ensemble, split, device=chosen, batch_size=batch_size)
        if ensemble
        else evaluate_model(loaded, dataset, split, device=chosen, batch_size=batch_size)
    )
    found = None
    if scheme is not None:
        found = measure_systematics(
            loaded, dataset, scheme, split, device=chosen, batch_size=batch_size, replicas=replicas
        )
    folder = out or Path(f"evaluation-{split}")
    about |= {"dataset": dataset.path, "dataset_digest": dataset.digest}
    timings = time_model(loaded, dataset, split) if time else []
    write_evaluation(folder, split, metrics, arrays, task, about, timings)
    console = Console()
    title = f"{about['model']} on {split} ({dataset.num_rows(split):,} jets) of {dataset.path}"
    console.print(title, highlight=False, soft_wrap=True)
    console.print(metrics_table(metrics))
    if timings:
        console.print(timing_table(timings))
    if found is not None:
        write_systematics(folder, found, about)
        at = f"Rejection at signal efficiency {found.scheme.efficiency:g} and its relative uncertainties"
        console.print(f"{at} ({found.scheme.name})", highlight=False, soft_wrap=True)
        console.print(systematics_table(found))
        for name, reason in found.left_out.items():
            console.print(f"Not in the total: {name} ({reason})", highlight=False, soft_wrap=True)
        for warning in found.warnings:
            console.print(f"Warning: {warning}", highlight=False, soft_wrap=True)
    console.print(f"Written: {folder}/ (metrics.json, {split}.npz, plots)", soft_wrap=True)


def load_models(paths: list[Path], ensemble: str | None) -> tuple[dict[str, LoadedModel], dict[str, str]]:
    """Models by the checkpoint they are read from, and what to write about them beside a result.

    Raises
    ------
    JetsweepError
        If there are several that `ensemble` does not combine, or one twice.
    """
    from jetsweep.errors import JetsweepError
    from jetsweep.tracking import best_checkpoint
    from jetsweep.training.checkpoint import load_checkpoint
    from jetsweep.training.ensembles import check_members

    if len(paths) > 1 and ensemble is None:
        raise JetsweepError(f"{len(paths)} models: expected --ensemble mean, median or std, which combines them")
    members: dict[str, LoadedModel] = {}
    for path in paths:
        checkpoint = str(best_checkpoint(path))
        if checkpoint in members:
            raise JetsweepError(f"{checkpoint}: expected different models, found it twice")
        members[checkpoint] = load_checkpoint(checkpoint)
    names = list(dict.fromkeys(loaded.spec.model.name for loaded in members.values()))
    about = {"checkpoint": ", ".join(members), "model": ", ".join(names)}
    if ensemble is not None:
        check_members(members, ensemble)
        about |= {"ensemble": ensemble, "model": f"{ensemble} of {len(members)} models ({about['model']})"}
    return members, about
