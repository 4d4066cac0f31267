"""An ONNX model beside its PyTorch original: the same scores on real jets, and the time of both."""

# Shapes: B jets, K scores.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.export.graph import PaddedModel
from jetsweep.training.timing import call_seconds, hardware


@dataclass(frozen=True)
class Agreement:
    """How far scores of ONNX are from those of PyTorch.

    Parameters
    ----------
    jets : int
    maximum, mean : float
        Absolute differences of scores.
    """

    jets: int
    maximum: float
    mean: float


@dataclass(frozen=True)
class Times:
    """Medians of warm calls on the same CPU.

    Parameters
    ----------
    batch : int
        Jets of the large batch.
    onnx_us_per_jet, torch_us_per_jet : float
        Microseconds per jet in the large batch.
    onnx_single_us, torch_single_us : float
        Microseconds of a jet alone.
    hardware : str
    """

    batch: int
    onnx_us_per_jet: float
    torch_us_per_jet: float
    onnx_single_us: float
    torch_single_us: float
    hardware: str


class Session:
    """An ONNX model in onnxruntime, on the CPU with as many threads as PyTorch uses.

    Parameters
    ----------
    content : bytes

    Raises
    ------
    JetsweepError
        If onnxruntime lacks an operation.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a class of its own for every kind of failure
            raise JetsweepError(f"onnxruntime cannot run the exported model: {str(error).splitlines()[0]}") from error

    def __call__(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        """Scores, shape (B, K)."""
        scores: np.ndarray = self._session.run(None, feed)[0]
        return scores


@torch.no_grad()
def compare(graph: PaddedModel, session: Session, batches: Iterable[tuple[Tensor, ...]], tolerance: float) -> Agreement:
    """Scores of both on the same jets.

    The PyTorch side is the model as it is trained and evaluated, with its empty slots cut.

    Parameters
    ----------
    graph : PaddedModel
    session : Session
    batches : iterable of tuples of Tensor
        Inputs of `graph`.
    tolerance : float
        Largest difference of a score that is accepted; relative for scores above 1.

    Raises
    ------
    JetsweepError
        If a score differs by more, or is not finite on one side.
    """
    jets, maximum, total, entries = 0, 0.0, 0.0, 0
    for inputs in batches:
        expected, found = graph(*inputs).numpy(), session(graph.feed(inputs))
        # anomaly scores have no upper limit
        difference = np.abs(found.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
        if not np.isfinite(difference).all():
            raise JetsweepError(
                f"{graph.network_name}: scores of ONNX or PyTorch are not finite on real jets; not written"
            )
        jets += len(expected)
        maximum = max(maximum, float(difference.max(initial=0.0)))
        total, entries = total + float(difference.sum()), entries + difference.size
    if maximum > tolerance:
        raise JetsweepError(
            f"{graph.network_name}: scores of ONNX differ from PyTorch's by up to {maximum:.2g} on {jets:,} jets, "
            f"expected at most {tolerance:g} (--tolerance); not written"
        )
    return Agreement(jets, maximum, total / max(1, entries))


@torch.no_grad()
def time_both(
    graph: PaddedModel, session: Session, large: tuple[Tensor, ...], singles: Sequence[tuple[Tensor, ...]]
) -> Times:
    """Time of ONNX and of PyTorch for a large batch and for single jets, padded inputs in memory.

    Parameters
    ----------
    graph : PaddedModel
    session : Session
    large : tuple of Tensor
    singles : sequence of tuples of Tensor
        Inputs of one jet each, taken in turn.
    """
    batch = len(large[0])
    feeds, large_feed = [graph.feed(one) for one in singles], graph.feed(large)
    medians = [
        float(np.median(call_seconds(calls))) * 1e6
        for calls in (
            [lambda: session(large_feed)],
            [lambda: graph(*large)],
            [lambda feed=feed: session(feed) for feed in feeds],
            [lambda one=one: graph(*one) for one in singles],
        )
    ]
    return Times(batch, medians[0] / batch, medians[1] / batch, medians[2], medians[3], hardware(torch.device("cpu")))
