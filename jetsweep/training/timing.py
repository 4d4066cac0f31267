"""The time a jet takes, measured the same way for every model: alone and in a large batch, warm, median."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jetsweep.data.batch import Batch
from jetsweep.training.evaluate import Batches, autocast

Timing = dict[str, float | int | str]

TIMED_BATCH = 1000
"""Jets of the large batch."""
SINGLE_JETS = 20
"""Jets that are timed one by one: their multiplicities differ, and so do their times."""
_REPEATS, _BUDGET_S = 20, 5.0


def timed_batches(loader: Callable[[int], Batches], num_jets: int = TIMED_BATCH) -> tuple[Batch, list[Batch]]:
    """A large batch, and the first jets one by one.

    Parameters
    ----------
    loader : callable
        Makes a loader of a split with the given jets per batch.
    num_jets : int
        Size of the large batch, or all there are.
    """
    large, one = loader(num_jets).batches(0), loader(1).batches(0)
    with closing(large) as many, closing(one) as single:  # type: ignore[type-var]
        return next(many), list(islice(single, SINGLE_JETS))


@torch.no_grad()
def inference_time(
    model: nn.Module, large: Batch, singles: Sequence[Batch], device: torch.device, precision: str = "fp32"
) -> Timing:
    """Time of preprocessing and forward pass, data already on the device.

    Parameters
    ----------
    model : nn.Module
        On `device`; put into evaluation mode.
    large : Batch
    singles : sequence of Batch
        Of one jet each, timed in turn.
    device : torch.device
    precision : str
        Of autocast.

    Returns
    -------
    dict
        ``inference_us_per_jet`` (microseconds, of the large batch), ``inference_batch`` (its jets),
        ``inference_repeats``, ``single_jet_us`` (microseconds of a jet alone) and ``device`` (the hardware).
    """
    model.eval()
    large, ones = large.to(device), [batch.to(device) for batch in singles]

    def forward(batch: Batch) -> None:
        with autocast(precision, device):
            model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    batched = call_seconds([lambda: forward(large)])
    single = call_seconds([lambda batch=batch: forward(batch) for batch in ones])  # type: ignore[misc]
    return {
        "inference_us_per_jet": float(np.median(batched)) / len(large) * 1e6,
        "inference_batch": len(large),
        "inference_repeats": len(batched),
        "single_jet_us": float(np.median(single)) * 1e6,
        "device": hardware(device),
    }


def call_seconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of calls, made in turn after a warm-up, twenty in all or until five seconds are over."""

    def once(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    end = time.perf_counter() + _BUDGET_S
    once(calls[0])
    seconds = [once(calls[0])]
    while len(seconds) < _REPEATS and time.perf_counter() < end:
        seconds.append(once(calls[len(seconds) % len(calls)]))
    return seconds


def hardware(device: torch.device) -> str:
    """Name of a device for a table: the GPU's, or the CPU's with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    num = torch.get_num_threads()
    return f"{_cpu_name()}, {num} thread{'s' if num > 1 else ''}"


def _cpu_name() -> str:
    """The processor's name where Linux tells it, else "cpu"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "cpu"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] not in ("", "unknown") else "cpu"
