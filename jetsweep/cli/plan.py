"""`jetsweep plan`: what an experiment would cost, before it is paid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jetsweep.cli.run import Data, File, Overrides, Profile, load_for_this_machine

if TYPE_CHECKING:
    from rich.console import Console

    from jetsweep.experiment import Experiment, ExperimentTemplate
    from jetsweep.experiment.costs import Cost
    from jetsweep.search.concurrency import Concurrency

SAMPLES = 50

app = typer.Typer(add_completion=False)


@app.command()
def plan(
    file: File,
    override: Overrides = None,
    profile: Profile = None,
    data: Data = Path("jetsweep-data"),
    cpus: Annotated[int | None, typer.Option(min=1, help="Plan for a machine of so many CPUs.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="Plan for a machine of so many GPUs.")] = None,
) -> None:
    """Check FILE, step the smallest and the largest network of every branch once, and estimate what the sweep costs."""
    import torch
    from rich.console import Console

    from jetsweep.search.concurrency import local_nodes, plan_concurrency

    console = Console()
    template = load_for_this_machine(file, override or [], profile, console)
    nodes = local_nodes()
    if cpus is not None:
        nodes[0]["CPU"] = float(cpus)
    if gpus is not None:
        nodes[0]["GPU"] = float(gpus)
    concurrency = plan_concurrency(nodes, template.example.resources, template.search.trials)
    threads = torch.get_num_threads()
    torch.set_num_threads(concurrency.threads)
    try:
        _report(template, concurrency, data, console)
    finally:
        torch.set_num_threads(threads)


def _report(template: ExperimentTemplate, concurrency: Concurrency, data_root: Path, console: Console) -> None:
    import torch
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from jetsweep.experiment.costs import measure
    from jetsweep.training.world import default_device

    jets, of_class, where = describe_data(template.example, data_root)
    classes = list(of_class)
    branches = find_branches(template, classes)
    device = default_device() if concurrency.worker.get("GPU", 0) else torch.device("cpu")
    table = Table(title=f"{template.name}: {SAMPLES} configurations drawn, all valid", box=SIMPLE_HEAD, padding=(0, 1))
    for column in ("network", "parameters", "MAC", "memory", "step", "epoch", "trial"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    trial_s: dict[str, list[float]] = {}
    for name, (_, smallest, largest) in branches.items():
        same = smallest == largest
        for label, experiment in (
            [(name, smallest)] if same else [(f"{name} small", smallest), (f"{name} large", largest)]
        ):
            cost = measure(experiment, classes, device)
            epoch_s = _epoch_s(cost, experiment, jets, of_class)
            shown = [label, f"{cost.parameters:,}", f"{_count(cost.macs)} @{cost.slots}"]
            shown += [_bytes(cost.memory_bytes), _duration(cost.step_s)]
            if epoch_s is not None:
                trial_s.setdefault(name, []).append(epoch_s * experiment.training.epochs)
                shown += [_duration(epoch_s), _duration(trial_s[name][-1])]
            table.add_row(*shown)
    console.print(table)
    console.print(
        "small, large: fewest and most parameters among the drawn networks. MAC: multiply-accumulates of one jet's "
        "forward pass with so many real constituents. memory: of one worker, without what torch itself takes."
        + (" An ensemble of epochs counts all of them." if template.example.training.ensemble_epochs > 1 else ""),
        style="dim",
    )
    example = template.example
    epochs = sorted({e.training.epochs for _, *pair in branches.values() for e in pair})
    _line(console, f"data: {where}")
    _line(console, f"space: {len(template.space)} searched leaves, sampler {template.search.sampler}")
    _line(console, f"budget: {template.search.trials} trials × {' or '.join(map(str, epochs))} epochs")
    _line(console, f"fits: {concurrency} (measured on {device.type})")
    if trial_s:
        rounds = template.search.trials / concurrency.trials / example.resources.workers
        low, high = (
            # no sweep is shorter than its longest trial
            max(rounds * sum(branches[name][0] / SAMPLES * pick(trial_s[name]) for name in trial_s), longest)
            for pick, longest in ((min, max(map(min, trial_s.values()))), (max, max(map(max, trial_s.values()))))
        )
        early = f"; {template.search.scheduler} stops weak ones earlier" if template.search.scheduler != "none" else ""
        what = "every trial with the smallest – largest network" if low != high else "the listed networks"
        span = _duration(low) if low == high else f"{_duration(low)} – {_duration(high)}"
        _line(console, f"estimated time of training: [bold]{span}[/bold] ({what}{early})")
    else:
        _line(console, "estimated time: unknown until the data is there")


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def find_branches(template: ExperimentTemplate, classes: list[str]) -> dict[str, tuple[int, Experiment, Experiment]]:
    """Architecture branches among random configurations: how many drew it, and its smallest and largest network."""
    from jetsweep.experiment.costs import count_parameters
    from jetsweep.experiment.sampling import sample

    found: dict[str, list[tuple[int, Experiment]]] = {}
    for drawn, experiment in sample(template, SAMPLES):
        branch = str(drawn.get("model", experiment.model.name))
        found.setdefault(branch, []).append((count_parameters(experiment, classes), experiment))
    sizes = {name: sorted(members, key=lambda member: member[0]) for name, members in found.items()}
    return {name: (len(members), members[0][1], members[-1][1]) for name, members in sorted(sizes.items())}


def describe_data(experiment: Experiment, data_root: Path) -> tuple[dict[str, int] | None, dict[str, int], str]:
    """Jets of each split (None when not known yet), training jets of each class, and a sentence, without making data.

    Of data that is not there yet the classes' jets are by the shares that the source is given, else alike.
    """
    from jetsweep.data.config import made_folder
    from jetsweep.data.dataset import label_counts, open_dataset
    from jetsweep.data.sources._base import SOURCES
    from jetsweep.data.sources._files import FileSource
    from jetsweep.data.sources._jets import SPLITS

    config = experiment.data
    folder = Path(config.path) if config.path else made_folder(config.source, data_root) if config.source else None
    assert folder is not None
    if config.path or folder.exists():
        dataset = open_dataset(str(config.path or folder))
        for split in ("train", "val"):
            dataset.num_rows(split)
        jets = {split: dataset.num_rows(split) for split in dataset.splits}
        return jets, label_counts(dataset, "train"), f"{dataset.path}, {_listing(jets)}"
    assert config.source is not None
    source = SOURCES.get(config.source.name)(config.source)
    to_download = isinstance(source, FileSource) and source.must_download
    if to_download or source.total is None:
        what = "to be downloaded" if to_download else "not made yet"
        unknown = dict.fromkeys(source.classes, 0)
        return None, unknown, f"{config.source.name}, {what}; the number of jets is not known"
    jets = {split: round(share * source.total) for split, share in SPLITS.items()}
    given = getattr(config.source, "classes", None)
    shares = given if isinstance(given, Mapping) else dict.fromkeys(source.classes, 1 / len(source.classes))
    of_class = {name: round(shares[name] * jets["train"]) for name in source.classes}
    return jets, of_class, f"{config.source.name}, not made yet; about {_listing(jets)}"


def _listing(jets: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in jets.items())


def _epoch_s(cost: Cost, experiment: Experiment, jets: dict[str, int] | None, of_class: dict[str, int]) -> float | None:
    from jetsweep.tasks._base import build_task

    config = experiment.training
    if jets is None:
        return None
    train, selection = jets["train"], build_task(experiment.task, list(of_class)).stream("main").selection
    if selection is not None:
        background = sum(of_class[name] for name in selection.classes)
        train = round(background * (1 + sum(share for _, share in selection.contamination)))
    train = int(train * experiment.data.train_fraction)
    return cost.epoch_s(train, jets.get("val", 0), config.batch_size, config.steps_per_epoch)


def _count(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.3g} MiB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
