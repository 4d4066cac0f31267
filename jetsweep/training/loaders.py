"""Loaders of a trial: the columns that model and task need, and reweighted training jets."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from typing import Any

from jetsweep.data.columns import ScalarColumns, resolve
from jetsweep.data.dataset import Dataset
from jetsweep.data.loader import Loader
from jetsweep.data.pairing import PairedLoader
from jetsweep.data.reweight import REWEIGHTING, Reweighting
from jetsweep.data.selection import STREAMS, Selection
from jetsweep.errors import DataError
from jetsweep.models._jet_model import JetModel
from jetsweep.tasks._base import Task
from jetsweep.training.config import TrialSpec
from jetsweep.training.evaluate import Batches
from jetsweep.training.world import World

_log = logging.getLogger("jetsweep")


def fit_reweightings(spec: TrialSpec, task: Task, dataset: Dataset) -> dict[str, Reweighting]:
    """Reweighting of the training jets of each stream that has one: `data.reweight` is that of `main`.

    Raises
    ------
    DataError
        If the experiment or the dataset does not allow it.
    """
    use_weights = getattr(spec.task, "use_weights", False)
    fitted = {}
    for name in task.streams:
        stream = task.stream(name)
        key = "data.reweight" if name == "main" else f"reweight of stream {name!r}"
        if name == "main" and spec.data.reweight is not None and stream.reweight is not None:
            raise DataError(f"{key}: the task reweights its training jets already, expected no other reweighting")
        config = spec.data.reweight if name == "main" and spec.data.reweight is not None else stream.reweight
        if config is None:
            continue
        if config.method == "weight" and not use_weights:
            raise DataError(
                f"{key}.method: weight expects task.use_weights: true, found "
                f"{json.dumps(getattr(spec.task, 'use_weights', 'a task without weights'))}; sample needs no weights"
            )
        fitted[name] = dataset.reweighting(
            config,
            stream.split,
            fraction=_fraction(spec, stream.split),
            use_weights=use_weights,
            selection=stream.selection,
        )
    return fitted


def _fraction(spec: TrialSpec, split: str) -> float:
    return spec.data.train_fraction if split == "train" else 1.0


def make_loader(
    spec: TrialSpec,
    task: Task,
    model: JetModel,
    dataset: Dataset,
    world: World,
    split: str,
    batch_size: int | None = None,
    training: bool = False,
    reweighting: Reweighting | None = None,
    selection: Selection | None = None,
    seed: int | None = None,
) -> Loader:
    """A loader of one split with the columns that model and task need."""
    if dataset.num_rows(split) == 0:
        raise DataError(f"{dataset.path}: the split {split!r} is empty, expected at least one jet")
    return dataset.loader(
        split,
        batch_size or spec.training.eval_batch_size,
        constituents=(*model.preprocessing.constituent_columns, *task.constituents),
        scalars=tuple(dict.fromkeys((*model.preprocessing.scalar_columns, *task.scalars))),
        groups=model.preprocessing.group_columns,
        shuffle=training,
        seed=spec.seed if seed is None else seed,
        rank=world.rank,
        world_size=world.size,
        max_constituents=spec.data.max_constituents,
        fraction=_fraction(spec, split),
        drop_last=training,
        pin_memory=world.device.type == "cuda",
        reweighting=reweighting,
        selection=selection,
    )


def statistics_loader(spec: TrialSpec, task: Task, model: JetModel, dataset: Dataset) -> Batches:
    """The jets that features are scaled by: those of the main stream alone, each once."""
    main = task.stream("main")
    return make_loader(spec, task, model, dataset, World.alone("cpu"), main.split, selection=main.selection)


def training_loaders(
    spec: TrialSpec,
    task: Task,
    model: JetModel,
    dataset: Dataset,
    world: World,
    reweightings: Mapping[str, Reweighting] | None = None,
) -> dict[str, Loader | PairedLoader]:
    """Loaders by stream, as `Task.stream` describes them, each (perhaps) reweighted.

    Raises
    ------
    DataError
        If a split, a class or jets are missing, outliers have no partners, or a batch of a stream would be empty.
    """
    reweightings, loaders = reweightings or {}, dict[str, Loader | PairedLoader]()
    for name in sorted(task.streams, key=lambda name: name != "main"):
        stream = task.stream(name)
        if stream.split not in dataset.splits:
            raise DataError(
                f"{dataset.path}: task {spec.task.name!r} needs the split {stream.split!r}, found "
                f"{sorted(dataset.splits)}"
            )
        num_jets = round(stream.ratio * spec.training.batch_size) // spec.training.accumulate
        if name == "main" and (stream.ratio != 1 or stream.pairing is not None):
            raise DataError("stream 'main': expected a ratio of 1 and no pairing, others are measured by it")
        if name != "main" and num_jets < world.size:
            raise DataError(
                f"stream {name!r}: a ratio of {stream.ratio:g} to {spec.training.batch_size} jets gives {num_jets} in "
                f"each of {spec.training.accumulate} micro-batches, expected at least {world.size} (one per worker)"
            )
        loader = make_loader(
            spec,
            task,
            model,
            dataset,
            world,
            stream.split,
            num_jets,
            training=True,
            reweighting=reweightings.get(name),
            selection=stream.selection,
            seed=spec.seed if name == "main" else spec.seed + zlib.crc32(name.encode()),
        )
        if stream.pairing is None:
            loaders[name] = loader
        else:
            main = loaders["main"]
            assert isinstance(main, Loader)
            names = resolve(dataset, stream.pairing.by, "pairing.by")
            of_main, of_outliers = (
                ScalarColumns(dataset, split, names) for split in (task.stream("main").split, stream.split)
            )
            loaders[name] = PairedLoader(stream.pairing, main, loader, of_main, of_outliers, stream.ratio)
    return loaders


def records(task: Task, loaders: Mapping[str, Loader | PairedLoader]) -> dict[str, bytes]:
    """Files that say in a trial's folder what its jets are, by name; what a person should know of them is logged."""
    files, streams = {}, {}
    for name, loader in loaders.items():
        stream = task.stream(name)
        told: dict[str, Any] = {"split": stream.split, "batch_size": loader.batch_size, "jets": loader.num_rows}
        if isinstance(loader, PairedLoader):
            told["pairing"] = loader.record()
            _log.info("stream %s: %s", name, loader.sentence())
        source = loader.outliers if isinstance(loader, PairedLoader) else loader
        if source.selected is not None:
            told |= {"selection": str(stream.selection), "classes": source.selected.by_class}
        if source.reweighting is not None:
            _log.info("%s%s", "" if name == "main" else f"stream {name}: ", source.reweighting.sentence())
            told["reweighting"] = source.reweighting.record()
            if name == "main":
                files[REWEIGHTING] = json.dumps(told["reweighting"], indent=1).encode()
        streams[name] = told
    if len(streams) > 1 or "selection" in streams["main"]:
        files[STREAMS] = json.dumps(streams, indent=1).encode()
    return files
