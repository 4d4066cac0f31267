"""Out of memory on the device: what to tell, and what to try next."""

from __future__ import annotations

import gc
import os

import torch

from jetsweep.errors import JetsweepError
from jetsweep.training.config import TrainingConfig, TrialSpec
from jetsweep.training.world import World

IN_EVALUATION = "in evaluation"
"""Note on a `torch.OutOfMemoryError`: the batches of evaluation were too large, not those of training."""


class OutOfMemory(JetsweepError):
    """The device's memory does not hold the trial.

    Parameters
    ----------
    message : str
    smaller : TrainingConfig, optional
        What to go on with from the last checkpoint, if the trial wants that: the same batch in smaller pieces.
    """

    def __init__(self, message: str, smaller: TrainingConfig | None = None) -> None:
        super().__init__(message)
        self.smaller = smaller


def out_of_memory(spec: TrialSpec, world: World, error: torch.OutOfMemoryError) -> OutOfMemory:
    """The error to raise in place of torch's, which holds on to the memory through its traceback."""
    training, evaluating = spec.training, IN_EVALUATION in getattr(error, "__notes__", ())
    micro = training.batch_size // training.accumulate
    what = (
        f"evaluation batches of {training.eval_batch_size} jets"
        if evaluating
        else f"micro-batches of {micro} jets (batch_size={training.batch_size}, accumulate={training.accumulate})"
    )
    workers = f" over {world.size} workers" if world.size > 1 else ""
    smaller = halved(training, world.size, evaluating)
    if smaller is None:
        advice = "choose a smaller model or fewer constituents"
    elif training.on_out_of_memory == "halve":
        advice = "trying smaller ones"
    elif evaluating:
        advice = "lower training.eval_batch_size, or set training.on_out_of_memory: halve"
    else:
        advice = "raise training.accumulate, which keeps the batch, or set training.on_out_of_memory: halve"
    message = f"{spec.name}: out of memory on {_device(world.device)} with {what}{workers}; {advice}"
    return OutOfMemory(message, smaller if training.on_out_of_memory == "halve" else None)


def halved(training: TrainingConfig, ranks: int, evaluating: bool) -> TrainingConfig | None:
    """The same training with half as many jets on the device at a time, None if each rank has one jet already."""
    if evaluating:
        size = training.eval_batch_size // 2
        return training.model_copy(update={"eval_batch_size": size}) if size >= ranks else None
    # pieces have to be equal: half, or the nearest below; at the end whatever is smaller
    finer = range(training.accumulate + 1, training.batch_size // ranks + 1)
    possible = [n for n in finer if training.batch_size % n == 0]
    if not possible:
        return None
    accumulate = next((n for n in possible if n >= 2 * training.accumulate), possible[-1])
    return training.model_copy(update={"accumulate": accumulate})


def as_small_as(training: TrainingConfig, before: TrainingConfig) -> TrainingConfig:
    """`training` in pieces as small as those that an earlier attempt of the same trial had come to."""
    if training.on_out_of_memory != "halve" or training.batch_size != before.batch_size:
        return training
    return training.model_copy(
        update={
            "accumulate": max(training.accumulate, before.accumulate),
            "eval_batch_size": min(training.eval_batch_size, before.eval_batch_size),
        }
    )


def release(device: torch.device) -> None:
    """Give the memory of what nobody refers to any more back to the device."""
    gc.collect()  # modules, hooks and compiled code refer to each other
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)} ({total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of it free)"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{device.type} ({total / 2**30:.1f} GiB)"
