"""`jetsweep data`: list sources, make or convert datasets, and look at them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from jetsweep.errors import DataError

app = typer.Typer(name="data", help="Make, convert and look at datasets.", no_args_is_help=True)

Folder = Annotated[str, typer.Argument(metavar="DATASET", help="Dataset folder (with dataset.json) or URI.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to make; default: a name below $JETSWEEP_DATA.")]
Options = Annotated[list[str] | None, typer.Option("-o", "--option", help="Option of the source: key=value.")]


@app.command("list")
def list_sources() -> None:
    """List the sources of jets and their options."""
    from rich.table import Table

    from jetsweep.data.sources._base import SOURCES

    table = Table("source", "what it is", "options", title="Sources")
    for name in SOURCES.names():
        source = SOURCES.get(name)
        table.add_row(name, source.description, ", ".join(f for f in source.options.model_fields if f != "name"))
    _console().print(table)


@app.command()
def make(
    source: Annotated[str, typer.Argument(help="Name of a source: see `jetsweep data list`.")],
    out: Out = None,
    jets: Annotated[int | None, typer.Option(help="Number of jets in all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of generation, splitting and shuffling.")] = None,
    option: Options = None,
) -> None:
    """Make a dataset: generate it, or download and convert it."""
    given = {name: value for name, value in (("jets", jets), ("seed", seed)) if value is not None}
    _make(source, out, {**_parsed(option or []), **given})


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Name of the source whose layout the files have.")],
    paths: Annotated[list[str], typer.Argument(help="One folder with the published files, or files as split=FILE.")],
    out: Out = None,
    jets: Annotated[int | None, typer.Option(help="Number of jets in all.")] = None,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster", help="Read the files on all cores of this machine, or of the Ray cluster of RAY_ADDRESS."
        ),
    ] = False,
    option: Options = None,
) -> None:
    """Convert files that are on this machine already."""
    options = _parsed(option or []) | ({} if jets is None else {"jets": jets})
    options |= _place(paths)
    _make(source, out, options, cluster)


@app.command("import-weaver")
def import_weaver(
    config: Annotated[Path, typer.Argument(help="Data file of weaver-core (YAML).")],
    paths: Annotated[list[str], typer.Argument(help="One ROOT file or folder, or files as split=FILE.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; the terminal if not given.")] = None,
    model: Annotated[str, typer.Option(help="Network; weaver's are Python files, which are not read.")] = "part",
) -> None:
    """Turn a weaver-core data file into an experiment file; what jetsweep has no equal for is refused by name."""
    from jetsweep.experiment.weaver import import_weaver

    imported = import_weaver(config, _place(paths), model)
    text = imported.to_yaml(f"From {config.name} of weaver-core.")
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise DataError(f"{out}: expected a file to write, found one that exists; remove it or choose another")
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error
    for note in imported.notes:
        _console().print(note, highlight=False, markup=False, soft_wrap=True)
    _console().print(f"wrote {out}; check it with: jetsweep plan {out}", highlight=False, soft_wrap=True)


@app.command()
def inspect(dataset: Folder) -> None:
    """Show what a dataset holds: splits, columns, where it came from."""
    from rich.table import Table

    from jetsweep.data.dataset import open_dataset

    opened = open_dataset(dataset)
    manifest, console = opened.manifest, _console()
    splits = Table("split", "jets", "shards", "MiB", title=f"{dataset}: source {manifest.source}")
    for name, shards in manifest.splits.items():
        size = sum(s.bytes for s in shards) / 2**20
        splits.add_row(name, f"{sum(s.rows for s in shards):,}", str(len(shards)), f"{size:.1f}")
    console.print(splits)
    columns = Table("column", "unit", title="Columns")
    for group, content in manifest.groups.items():
        for name, unit in content.columns.items():
            columns.add_row(f"{group}.{name}", unit)
    for name, unit in manifest.scalars.items():
        columns.add_row(name, unit)
    console.print(columns)
    console.print(f"classes: {', '.join(manifest.classes)}", highlight=False)
    for reason, count in manifest.dropped.items():
        console.print(f"left out: {count:,} jets ({reason})", highlight=False)
    console.print(f"digest: {opened.digest}", highlight=False)
    console.print_json(json.dumps({"options": manifest.options, "provenance": manifest.provenance}))


@app.command()
def verify(dataset: Folder) -> None:
    """Compare every shard's size and sha256 with the manifest."""
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.verify import check_shards

    opened = open_dataset(dataset)
    number = check_shards(opened, at_origin=True)
    for split in opened.splits:
        opened.reader(split)  # rows and columns as in the manifest
    _console().print(f"{dataset}: all {number} shards are as made", highlight=False)


@app.command()
def stats(dataset: Folder) -> None:
    """Show multiplicity and kinematics of every class in every split."""
    import numpy as np
    from rich.table import Table

    from jetsweep.data.dataset import open_dataset

    opened = open_dataset(dataset)
    known, has_constituents = opened.manifest.scalars, "constituents" in opened.manifest.groups
    scalars = [name for name in ("jet_pt", "jet_mass") if name in known] if has_constituents else list(known)
    medians = [f"median {name}" + (f" [{known[name]}]" if known[name] else "") for name in scalars]
    lengths_shown = ("constituents", "most") if has_constituents else ()
    table = Table("split", "class", "jets", *lengths_shown, *medians, title=f"{dataset}: statistics")
    for split in opened.splits:
        lengths, labels = [], []
        values: dict[str, list[Any]] = {scalar: [] for scalar in scalars}
        for block in opened.reader(split).blocks:
            if has_constituents:
                lengths.append(np.diff(block.offsets("constituents")))
            labels.append(block.scalar("label"))
            for scalar in scalars:
                values[scalar].append(block.scalar(scalar))
        label_B = np.concatenate(labels)
        for index, name in enumerate(opened.classes):
            mine_B = label_B == index
            if not mine_B.any():
                table.add_row(split, name, "0", *["-"] * (len(lengths_shown) + len(scalars)))
                continue
            row = [f"{np.median(np.concatenate(values[scalar])[mine_B]):.1f}" for scalar in scalars]
            if has_constituents:
                counts = np.concatenate(lengths)[mine_B]
                row = [f"{counts.mean():.1f}", str(counts.max()), *row]
            table.add_row(split, name, f"{mine_B.sum():,}", *row)
    _console().print(table)


def _place(paths: list[str]) -> dict[str, Any]:
    """Options `path` or `files` of a source from what the command line names."""
    if len(paths) == 1 and "=" not in paths[0]:
        return {"path": paths[0]}
    files: dict[str, list[str]] = {}
    for item in paths:
        split, equals, name = item.partition("=")
        if not equals:
            raise DataError(f"{item}: expected one folder, or files as split=FILE, e.g. train={item}")
        files.setdefault(split, []).append(name)
    return {"files": files}


def _make(source: str, out: Path | None, options: dict[str, Any], cluster: bool = False) -> None:
    from rich.console import Console

    from jetsweep._progress import progress_of_jets
    from jetsweep.data.config import made_folder
    from jetsweep.data.make import make_dataset, source_options

    config = source_options(source, options)
    folder = out or made_folder(config, Path(os.environ.get("JETSWEEP_DATA", "jetsweep-data")))
    console = Console(stderr=True)
    if cluster:
        from jetsweep.conversion import convert_on_cluster

        try:
            dataset = convert_on_cluster(config, folder, lambda title: progress_of_jets(title, console))
        except KeyboardInterrupt:
            console.print("the files that were read are kept: the same command goes on from there", highlight=False)
            raise
    else:
        with progress_of_jets(f"Making {folder.name}", console) as progress:
            dataset = make_dataset(config, folder, progress)
    counts = ", ".join(f"{dataset.num_rows(split):,} {split}" for split in dataset.splits)
    _console().print(f"{folder}: {counts}", highlight=False)
    for reason, count in dataset.manifest.dropped.items():
        _console().print(f"left out: {count:,} jets ({reason})", highlight=False)


def _parsed(pairs: list[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value is JSON where it can be, else a string."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise DataError(f"-o {pair}: expected key=value")
        try:
            options[key] = json.loads(value.replace("_", "") if value.replace("_", "").isdigit() else value)
        except json.JSONDecodeError:
            options[key] = value
    return options


def _console() -> Any:
    from rich.console import Console

    return Console()
