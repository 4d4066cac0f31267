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
from jetsweep.data.pairing import PairedLoader, PairingConfig
from jetsweep.data.reweight import REWEIGHTING, Reweighting
from jetsweep.data.selection import STREAMS, Selection
from jetsweep.errors import DataError
from jetsweep.models._jet_model import JetModel
from jetsweep.tasks._base import Stream, Task
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
        fitted[name] = dataset_of(stream, dataset).reweighting(
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
        source = dataset_of(stream, dataset)
        check_stream(spec, name, stream, source)
        loader = make_loader(
            spec,
            task,
            model,
            source,
            world,
            stream.split,
            _jets_per_micro_batch(spec, name, stream, world),
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
            of_main = _values(stream.pairing, dataset, task.stream("main").split)
            of_outliers = _values(stream.pairing, source, stream.split)
            loaders[name] = PairedLoader(stream.pairing, main, loader, of_main, of_outliers, stream.ratio)
    return loaders


def dataset_of(stream: Stream, dataset: Dataset) -> Dataset:
    """The dataset that a stream reads: that of the experiment, or its `data.outliers`.

    Raises
    ------
    DataError
        If there are no such outliers.
    """
    if stream.dataset == "main":
        return dataset
    if dataset.outliers is None:
        raise DataError("data.outliers: the task reads outliers from a second dataset, found none in the experiment")
    return dataset.outliers


def check_stream(spec: TrialSpec, name: str, stream: Stream, dataset: Dataset) -> None:
    """Refuse a stream that cannot be made of this dataset, or must not be.

    Raises
    ------
    DataError
    """
    if stream.split not in dataset.splits:
        raise DataError(
            f"{dataset.path}: task {spec.task.name!r} needs the split {stream.split!r}, found {sorted(dataset.splits)}"
        )
    if stream.split in ("val", "test") or "/" in stream.split:  # varied samples are of one of these
        raise DataError(f"stream {name!r}: expected a split for training, found {stream.split!r}")
    if name == "main" and (stream.ratio != 1 or stream.pairing is not None or stream.dataset != "main"):
        raise DataError("stream 'main': expected no ratio, pairing or dataset of its own, others are measured by it")
    dataset.selected(stream.selection, stream.split, fraction=_fraction(spec, stream.split))


def _jets_per_micro_batch(spec: TrialSpec, name: str, stream: Stream, world: World) -> int:
    batch_size, accumulate = spec.training.batch_size, spec.training.accumulate
    jets = round(stream.ratio * batch_size) // accumulate
    if name != "main" and jets < world.size:
        raise DataError(
            f"stream {name!r}: a ratio of {stream.ratio:g} to {batch_size} jets gives {jets} in each of {accumulate} "
            f"micro-batches, expected at least {world.size} (one per worker)"
        )
    return jets


def _values(pairing: PairingConfig, dataset: Dataset, split: str) -> ScalarColumns:
    return ScalarColumns(dataset, split, resolve(dataset, pairing.by, "pairing.by"))


def records(task: Task, dataset: Dataset, loaders: Mapping[str, Loader | PairedLoader]) -> dict[str, bytes]:
    """Files that say in a trial's folder what its jets are, by name; what a person should know of them is logged."""
    files, streams = {}, {}
    for name, loader in loaders.items():
        stream = task.stream(name)
        source = loader.outliers if isinstance(loader, PairedLoader) else loader
        told: dict[str, Any] = {
            "dataset": dataset_of(stream, dataset).digest,
            "split": stream.split,
            "batch_size": loader.batch_size,
            "jets": loader.num_rows,
        }
        if isinstance(loader, PairedLoader):
            told["pairing"] = loader.record()
            _log.info("stream %s: %s", name, loader.sentence())
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
