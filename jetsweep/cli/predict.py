"""`jetsweep predict`: the scores of a trained model beside the rows of a dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from jetsweep.cli.evaluate import BatchSize, Device, Ensemble, Models, load_models

app = typer.Typer(add_completion=False)


@app.command()
def predict(
    models: Models,
    data: Annotated[str, typer.Argument(metavar="INPUT", help="Dataset folder (with dataset.json) or URI.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: NAME.parquet, NAME.h5 or NAME.root.")],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeatable. Default: all.")] = None,
    ensemble: Ensemble = None,
    device: Device = None,
    batch_size: BatchSize = None,
) -> None:
    """Write split, row, label, jet scalars and the scores of a model, or of several as one, of every jet of INPUT."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from jetsweep import __version__
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.verify import check_shards
    from jetsweep.training.ensembles import ensemble_batches
    from jetsweep.training.inference import pick_device
    from jetsweep.training.predict import predict_to_file

    members, model = load_models(models, ensemble)
    dataset = open_dataset(data)
    check_shards(dataset, split or None)
    chosen, batches = pick_device(device), None
    if ensemble:
        batches = partial(ensemble_batches, members, dataset, ensemble, device=chosen, batch_size=batch_size)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("jets", total=None)
        count = predict_to_file(
            next(iter(members.values())),
            dataset,
            out,
            split or None,
            device=chosen,
            batch_size=batch_size,
            batches=batches,
            about={**model, "version": __version__},
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    Console().print(f"{out}: {count:,} jets", highlight=False, soft_wrap=True)
