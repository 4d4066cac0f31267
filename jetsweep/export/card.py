"""The model card: what a model is, what it was trained on, how good it is, and what it is not for."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jetsweep.data.dataset import Dataset
from jetsweep.export.export import Exported
from jetsweep.training.checkpoint import LoadedModel

SOFTWARE = ("jetsweep", "torch", "numpy", "pyarrow", "onnx", "onnxruntime", "onnxscript")


def model_card(loaded: LoadedModel, dataset: Dataset, exported: Exported, out: Path, result: Mapping[str, Any]) -> str:
    """Markdown text of the card that goes with an ONNX file.

    Parameters
    ----------
    loaded : LoadedModel
    dataset : Dataset
        That the check was made on.
    exported : Exported
    out : Path
        The ONNX file.
    result : mapping
        ``result.json`` of the trial; empty where it is not known, and said so.
    """
    sections = [
        _head(loaded, exported, out),
        _interface(exported),
        _architecture(loaded),
        _data(loaded, dataset),
        _training(loaded, result),
        _metrics(loaded, result),
        _agreement(exported),
        _use(loaded),
        _software(),
    ]
    return "\n\n".join(sections) + "\n"


def read_result(trial: Path) -> dict[str, Any]:
    """``result.json`` of the trial that a checkpoint folder lies in; empty where there is none."""
    for folder in (trial, trial.parent.parent):
        try:
            result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return result
    return {}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _head(loaded: LoadedModel, exported: Exported, out: Path) -> str:
    classes = ", ".join(loaded.classes)
    return (
        f"# {loaded.spec.name}: {loaded.spec.model.name}\n\n"
        f"`{out.name}` ({exported.size / 2**20:.2f} MiB) gives scores of jets for the task {loaded.spec.task.name} "
        f"with the classes {classes}. Preprocessing is part of the file."
    )


def _interface(exported: Exported) -> str:
    graph, rows = exported.graph, []
    if graph.columns:
        rows.append(("`constituents`", "(jets, slots, " + f"{len(graph.columns)}) float32", ", ".join(graph.columns)))
        rows.append(
            ("`mask`", "(jets, slots) bool", "true where a constituent is real; what other slots hold is ignored")
        )
    if graph.scalars:
        what = "jet scalars as stored" if graph.columns else "computed from the constituents beforehand"
        rows.append(("`jet`", f"(jets, {len(graph.scalars)}) float32", f"{', '.join(graph.scalars)} ({what})"))
    rows.append(("`scores` (output)", f"(jets, {len(graph.scores)}) float32", ", ".join(graph.scores)))
    slots = (
        f" Constituents are the leading ones in pT, at most {graph.max_constituents}; the number of jets is free, "
        f"{'and that of slots too' if exported.slots_are_free else 'jets are padded to all of these slots'}."
        if graph.columns
        else ""
    )
    return f"## Inputs and output\n\nGeV and radians.{slots}\n\n" + _table(("tensor", "shape", "content"), rows)


def _architecture(loaded: LoadedModel) -> str:
    parameters = sum(p.numel() for p in loaded.model.network.parameters())
    settings = loaded.spec.model.model_dump(mode="json")
    rows = [(f"`{name}`", f"`{json.dumps(value)}`") for name, value in settings.items()]
    return f"## Architecture\n\n{parameters:,} parameters.\n\n" + _table(("setting", "value"), rows)


def _data(loaded: LoadedModel, dataset: Dataset) -> str:
    data = loaded.spec.data
    origin = json.dumps(data.source.model_dump(mode="json")) if data.source is not None else str(data.path)
    counts = ", ".join(f"{dataset.num_rows(split):,} {split}" for split in dataset.splits)
    return (
        f"## Data\n\nTrained on `{origin}`, the leading {data.max_constituents} constituents of each jet"
        f"{'' if data.train_fraction == 1 else f', {data.train_fraction:.0%} of the training split'}. "
        f"Checked on a dataset of {counts} jets with the digest `{dataset.digest}`."
    )


def _training(loaded: LoadedModel, result: Mapping[str, Any]) -> str:
    settings = loaded.spec.training.model_dump(mode="json", exclude_defaults=True)
    done = (
        f"{result['epoch']} epochs in {result['seconds']:.0f} s, ended by {result['stopped_because']}; "
        if {"epoch", "seconds", "stopped_because"} <= set(result)
        else ""
    )
    start = loaded.spec.training.init_from
    began = f"began with the weights of `{start.path}`; " if start is not None else ""
    return (
        f"## Training\n\n{done}{began}seed {loaded.spec.seed}. Settings other than the defaults:\n\n"
        f"```json\n{json.dumps(settings, indent=2)}\n```"
    )


def _metrics(loaded: LoadedModel, result: Mapping[str, Any]) -> str:
    test = {name: value for name, value in result.get("test", {}).items() if isinstance(value, int | float)}
    if not test:
        return "## Metrics\n\nThe trial's test metrics are not known here (no `result.json` beside the checkpoint)."
    rows = [(f"`{name}`", f"{value:.5g}" if math.isfinite(value) else "—") for name, value in test.items()]
    task = json.dumps(loaded.spec.task.model_dump(mode="json", exclude_none=True))
    return f"## Metrics\n\nBest checkpoint, test split, task `{task}`.\n\n" + _table(("metric", "value"), rows)


def _agreement(exported: Exported) -> str:
    found, times = exported.agreement, exported.times
    rows = [
        ("onnxruntime", f"{times.onnx_us_per_jet:,.1f}", f"{times.onnx_single_us:,.0f}"),
        ("PyTorch", f"{times.torch_us_per_jet:,.1f}", f"{times.torch_single_us:,.0f}"),
    ]
    head = ("", f"µs per jet, batches of {times.batch:,}", "µs for a jet alone")
    return (
        f"## Agreement and time\n\nOn {found.jets:,} jets of the split {exported.split}, scores differ from PyTorch's "
        f"by {found.maximum:.2g} at most and {found.mean:.2g} on average. Medians of warm calls on "
        f"{times.hardware}:\n\n" + _table(head, rows)
    )


def _use(loaded: LoadedModel) -> str:
    return (
        "## Intended use and limits\n\n"
        f"Research on jet physics, on jets like those of the training data ({', '.join(loaded.classes)}). Scores are "
        "outputs of a network trained on simulation: they are not calibrated probabilities on collision data, and say "
        "nothing sensible about jets of other algorithms, radii, momenta or detectors. No systematic uncertainty is "
        "included. Metrics come from one training with one seed; another seed gives others."
    )


def _software() -> str:
    rows = [(name, version(name)) for name in SOFTWARE]
    rows.append(("Python", platform.python_version()))
    return "## Software\n\n" + _table(("package", "version"), rows)
