"""Trained models on datasets: evaluation with the trainer's own metrics, and predictions row by row."""

# Shapes: B jets of a batch, K classes.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from jetsweep.data.batch import Batch
from jetsweep.data.dataset import Dataset
from jetsweep.data.loader import Loader
from jetsweep.errors import DataError, JetsweepError
from jetsweep.tasks._base import Task, build_task
from jetsweep.training.checkpoint import LoadedModel
from jetsweep.training.evaluate import Batches, autocast, evaluate
from jetsweep.training.timing import TIMED_BATCH, Timing, inference_time, timed_batches
from jetsweep.training.world import World, default_device


def pick_device(name: str | None) -> torch.device:
    """Device by torch's name; by default the GPU where there is one.

    Raises
    ------
    JetsweepError
        If torch knows no such device, or this machine has none.
    """
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise JetsweepError(f"device {name}: cannot be used: {str(error).splitlines()[0]}") from error
    return device


def evaluate_model(
    loaded: LoadedModel,
    dataset: Dataset,
    split: str = "test",
    *,
    device: torch.device | None = None,
    batch_size: int | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray], Task]:
    """Metrics of a split, as the training loop computes them.

    Parameters
    ----------
    loaded : LoadedModel
    dataset : Dataset
        Its classes may be in another order than at training, or fewer.
    split : str
    device : torch.device, optional
    batch_size : int, optional
        By default that of the trial's own evaluations.

    Returns
    -------
    metrics : dict
        Named ``<split>/<metric>``.
    arrays : dict of ndarray
        Per jet, in order of rows.
    task : Task
        For `Task.figures` of the arrays.

    Raises
    ------
    DataError
        If the split, a column or a class does not suit the model.
    """
    world = World.alone(device or default_device())
    task = build_task(loaded.spec.task, loaded.classes)
    of_split = _loader(loaded, task, dataset, split, batch_size, world, task.constituents)
    loader = _Relabelled(of_split, _label_map(loaded, dataset))
    metrics, arrays = evaluate(
        loaded.model.to(world.device), task, loader, world, loaded.spec.training.precision, split
    )
    return metrics, arrays, task


@torch.no_grad()
def predict_batches(
    loaded: LoadedModel,
    dataset: Dataset,
    split: str,
    *,
    device: torch.device | None = None,
    batch_size: int | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Predictions of a split, batch after batch in order of rows; labels are not looked at.

    Parameters
    ----------
    loaded : LoadedModel
    dataset : Dataset
    split : str
    device : torch.device, optional
    batch_size : int, optional

    Yields
    ------
    rows : ndarray, shape (B,), int64
    columns : dict of ndarray, each of shape (B,)
        As the task names them, e.g. ``score_top``.

    Raises
    ------
    DataError
        If the split is empty or lacks a column.
    """
    world = World.alone(device or default_device())
    task = build_task(loaded.spec.task, loaded.classes)
    model, precision = loaded.model.to(world.device).eval(), loaded.spec.training.precision
    for batch in _loader(loaded, task, dataset, split, batch_size, world).batches(0):
        with autocast(precision, world.device):
            outputs = model(batch.to(world.device, non_blocking=True))
        columns = {name: column.cpu().numpy() for name, column in task.predictions(outputs).items()}
        bad = sum(int((~np.isfinite(column)).sum()) for column in columns.values())
        if bad:
            raise DataError(f"{dataset.path}: split {split!r}: {bad} predictions are not finite numbers")
        yield batch.rows.numpy(), columns


def time_model(loaded: LoadedModel, dataset: Dataset, split: str = "test") -> list[Timing]:
    """Time of a jet in batches of 1,000 and alone, on the CPU and on the GPU where there is one.

    Parameters
    ----------
    loaded : LoadedModel
    dataset : Dataset
    split : str

    Returns
    -------
    list of dict
        One of `jetsweep.training.timing.inference_time` per device; the CPU's in float32, the GPU's as trained.
    """
    task = build_task(loaded.spec.task, loaded.classes)
    cpu, best = torch.device("cpu"), default_device()
    world = World.alone(cpu)
    num_jets = min(TIMED_BATCH, loaded.spec.training.eval_batch_size)  # what fits the memory
    batches = timed_batches(lambda size: _loader(loaded, task, dataset, split, size, world), num_jets)
    found = [inference_time(loaded.model.to(cpu), *batches, cpu)]
    if best.type != "cpu":
        found.append(inference_time(loaded.model.to(best), *batches, best, loaded.spec.training.precision))
    return found


def _loader(
    loaded: LoadedModel,
    task: Task,
    dataset: Dataset,
    split: str,
    batch_size: int | None,
    world: World,
    targets: tuple[str, ...] = (),
) -> Loader:
    preprocessing, spec = loaded.model.preprocessing, loaded.spec
    return dataset.loader(
        split,
        batch_size or spec.training.eval_batch_size,
        constituents=(*preprocessing.constituent_columns, *targets),
        scalars=tuple(dict.fromkeys((*preprocessing.scalar_columns, *task.scalars))),
        groups=preprocessing.group_columns,
        max_constituents=spec.data.max_constituents,
        pin_memory=world.device.type == "cuda",
    )


def _label_map(loaded: LoadedModel, dataset: Dataset) -> torch.Tensor | None:
    """Class index of the model for each of the dataset; None where they are the same."""
    if dataset.classes == loaded.classes:
        return None
    strange = [name for name in dataset.classes if name not in loaded.classes]
    if strange:
        raise DataError(
            f"{dataset.path}: expected jets of the model's classes {list(loaded.classes)}, found the classes {strange}"
        )
    return torch.tensor([loaded.classes.index(name) for name in dataset.classes])


class _Relabelled:
    """A loader whose labels are indices into the model's classes."""

    def __init__(self, loader: Batches, label_map: torch.Tensor | None) -> None:
        self.loader, self.label_map = loader, label_map
        self.num_steps, self.num_rows = loader.num_steps, loader.num_rows

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        for batch in self.loader.batches(epoch, start_step):
            if self.label_map is not None:
                batch = replace(batch, targets={**batch.targets, "label": self.label_map[batch.targets["label"]]})
            yield batch
