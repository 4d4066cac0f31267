"""Whole-split metrics, exact over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import nn

from jetsweep.data.batch import Batch
from jetsweep.errors import DataError
from jetsweep.tasks._base import Task
from jetsweep.training.memory import IN_EVALUATION
from jetsweep.training.world import World

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Batches(Protocol):
    """What the loop needs of a loader: `jetsweep.data.loader.Loader`, or a test's own."""

    @property
    def num_steps(self) -> int:
        """Batches per epoch, equal on all ranks."""
        ...

    @property
    def num_rows(self) -> int:
        """Rows per epoch over all ranks."""
        ...

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Batches of this rank in an epoch."""
        ...


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context of mixed precision; nothing for fp32."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


@torch.no_grad()
def evaluate(
    model: nn.Module, task: Task, loader: Batches, world: World, precision: str = "fp32", split: str = "val"
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics of a split and the per-jet arrays behind them.

    Returns
    -------
    metrics : dict
        Named ``<split>/<metric>``.
    arrays : dict of ndarray
        Of all jets, in order of rows.

    Raises
    ------
    DataError
        If some rank has no jets at all.
    """
    was_training = model.training
    model.eval()
    evaluator, num_rows = task.evaluator(), 0
    try:
        for batch in loader.batches(0):
            if len(batch) == 0:  # the tail of the split may not reach every rank
                continue
            on_device = batch.to(world.device, non_blocking=True)
            with autocast(precision, world.device):
                outputs = model(on_device)
            evaluator.update(outputs, on_device)
            num_rows += len(batch)
    except torch.OutOfMemoryError as error:
        error.add_note(IN_EVALUATION)
        raise
    model.train(was_training)
    if min(world.gather_objects(num_rows)) == 0:
        raise DataError(
            f"split {split!r} has {loader.num_rows} jets: too few for {world.size} workers to have one each"
        )
    metrics = {f"{split}/{name}": value for name, value in evaluator.compute(world.gather).items()}
    return metrics, evaluator.arrays()
