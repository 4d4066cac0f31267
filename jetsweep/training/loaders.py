"""Loaders of a trial: the columns that model and task need, and reweighted training jets."""

from __future__ import annotations

import json

from jetsweep.data.dataset import Dataset
from jetsweep.data.reweight import Reweighting
from jetsweep.errors import DataError
from jetsweep.models._jet_model import JetModel
from jetsweep.tasks._base import Task
from jetsweep.training.config import TrialSpec
from jetsweep.training.evaluate import Batches
from jetsweep.training.world import World


def fit_reweighting(spec: TrialSpec, dataset: Dataset) -> Reweighting | None:
    """Reweighting of the training jets; None where the experiment asks for none.

    Raises
    ------
    DataError
        If the experiment or the dataset does not allow it.
    """
    config = spec.data.reweight
    if config is None:
        return None
    use_weights = getattr(spec.task, "use_weights", False)
    if config.method == "weight" and not use_weights:
        raise DataError(
            "data.reweight.method: weight expects task.use_weights: true, found "
            f"{json.dumps(getattr(spec.task, 'use_weights', 'a task without weights'))}; sample needs no weights"
        )
    return dataset.reweighting(config, fraction=spec.data.train_fraction, use_weights=use_weights)


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
) -> Batches:
    """A loader of one split with the columns that model and task need."""
    if dataset.num_rows(split) == 0:
        raise DataError(f"{dataset.path}: the split {split!r} is empty, expected at least one jet")
    loader: Batches = dataset.loader(
        split,
        batch_size or spec.training.eval_batch_size,
        constituents=(*model.preprocessing.constituent_columns, *task.constituents),
        scalars=tuple(dict.fromkeys((*model.preprocessing.scalar_columns, *task.scalars))),
        groups=model.preprocessing.group_columns,
        shuffle=training,
        seed=spec.seed,
        rank=world.rank,
        world_size=world.size,
        max_constituents=spec.data.max_constituents,
        fraction=spec.data.train_fraction if split == "train" else 1.0,
        drop_last=training,
        pin_memory=world.device.type == "cuda",
        reweighting=reweighting,
    )
    return loader


def training_loaders(
    spec: TrialSpec,
    task: Task,
    model: JetModel,
    dataset: Dataset,
    world: World,
    reweighting: Reweighting | None = None,
) -> dict[str, Batches]:
    """Loaders by stream: `main` reads the (reweighted) split `train`, any other the split of its own name."""
    loaders = {}
    for stream in task.streams:
        split = "train" if stream == "main" else stream
        if split not in dataset.splits:
            raise DataError(
                f"{dataset.path}: task {spec.task.name!r} needs the split {split!r}, found {sorted(dataset.splits)}"
            )
        micro = spec.training.batch_size // spec.training.accumulate
        loaders[stream] = make_loader(
            spec,
            task,
            model,
            dataset,
            world,
            split,
            micro,
            training=True,
            reweighting=reweighting if stream == "main" else None,
        )
    return loaders
