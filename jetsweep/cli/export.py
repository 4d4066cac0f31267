"""`jetsweep export`: a trained model as ONNX with its preprocessing inside, checked, timed, and with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetsweep.cli.evaluate import Model

if TYPE_CHECKING:
    from rich.table import Table

    from jetsweep.export.check import Times

app = typer.Typer(add_completion=False)


@app.command()
def export(
    model: Model,
    to: Annotated[Path, typer.Option("--to", help="File to write: NAME.onnx; NAME.md beside it is the model card.")],
    data: Annotated[
        str | None, typer.Option(help="Dataset folder or URI to check on; by default the one of training.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to check on; by default test, or val where there is none.")
    ] = None,
    jets: Annotated[int, typer.Option(min=2, help="Jets to check on, at most.")] = 2000,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest difference of a score from PyTorch's.")] = 1e-4,
    data_root: Annotated[Path, typer.Option(envvar="JETSWEEP_DATA", help="Folder of made datasets.")] = Path(
        "jetsweep-data"
    ),
) -> None:
    """Write a trained model as ONNX (raw four-vectors in, scores out) if it agrees with PyTorch on real jets."""
    from rich.console import Console

    from jetsweep import __version__
    from jetsweep.data.config import prepare
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.verify import check_shards
    from jetsweep.export.card import model_card, read_result
    from jetsweep.export.convert import require_packages
    from jetsweep.export.export import export_onnx
    from jetsweep.tracking import best_checkpoint
    from jetsweep.training.checkpoint import load_checkpoint, write_file

    require_packages()
    checkpoint = best_checkpoint(model)
    loaded = load_checkpoint(checkpoint)
    dataset = open_dataset(data) if data is not None else prepare(loaded.spec.data.without_outliers(), data_root)
    check_shards(dataset, [split] if split else None)
    exported = export_onnx(
        loaded, dataset, to, split=split, num_jets=jets, tolerance=tolerance, about={"version": __version__}
    )
    card = to.with_suffix(".md")
    write_file(card, model_card(loaded, dataset, exported, to, read_result(checkpoint)).encode())
    console, found = Console(), exported.agreement
    console.print(
        f"{loaded.spec.model.name}: scores differ by {found.maximum:.2g} at most on {found.jets:,} jets of "
        f"{exported.split} (expected at most {tolerance:g})",
        highlight=False,
        soft_wrap=True,
    )
    if not exported.graph.columns:
        console.print(
            f"Inputs are the variables, computed beforehand: {', '.join(exported.graph.scalars)}", soft_wrap=True
        )
    console.print(_times_table(exported.times))
    console.print(f"Written: {to}, {card}", highlight=False, soft_wrap=True)


def _times_table(times: Times) -> Table:
    from rich.table import Table

    table = Table(title=times.hardware, title_justify="left")
    table.add_column("median, warm")
    for name in (f"µs per jet, batches of {times.batch:,}", "µs for a jet alone"):
        table.add_column(name, justify="right")
    table.add_row("onnxruntime", f"{times.onnx_us_per_jet:,.1f}", f"{times.onnx_single_us:,.0f}")
    table.add_row("PyTorch", f"{times.torch_us_per_jet:,.1f}", f"{times.torch_single_us:,.0f}")
    return table
