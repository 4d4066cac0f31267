"""`jetsweep predict`: the scores of a trained model beside the rows of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jetsweep.cli.evaluate import BatchSize, Device, Model

app = typer.Typer(add_completion=False)


@app.command()
def predict(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="INPUT", help="Dataset folder (with dataset.json) or URI.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: NAME.parquet, NAME.h5 or NAME.root.")],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeatable. Default: all.")] = None,
    device: Device = None,
    batch_size: BatchSize = None,
) -> None:
    """Write split, row, label, jet scalars and the model's scores of every jet of INPUT."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from jetsweep import __version__
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.verify import check_shards
    from jetsweep.tracking import best_checkpoint
    from jetsweep.training.checkpoint import load_checkpoint
    from jetsweep.training.inference import pick_device
    from jetsweep.training.predict import predict_to_file

    checkpoint = best_checkpoint(model)
    loaded, dataset = load_checkpoint(checkpoint), open_dataset(data)
    check_shards(dataset, split or None)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("jets", total=None)
        count = predict_to_file(
            loaded,
            dataset,
            out,
            split or None,
            device=pick_device(device),
            batch_size=batch_size,
            about={"checkpoint": str(checkpoint), "version": __version__},
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    Console().print(f"{out}: {count:,} jets", highlight=False, soft_wrap=True)
