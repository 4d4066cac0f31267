"""Copies of ragged rows in the host's memory: jitted where numba is installed, by numpy and torch elsewhere."""

# Shapes: N entries, B rows, F columns, P padded slots.

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor


@cache
def _jitted() -> ModuleType | None:
    """The jitted loops; None on a machine that has only torch, numpy and pyarrow."""
    try:
        from jetsweep.data import _numba_ragged
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        return None
    return _numba_ragged


def gather_rows(pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], num_columns: int) -> np.ndarray:
    """Rows of several matrices, one after the other.

    Parameters
    ----------
    pieces : sequence of (matrix_NF, low_B, count_B)
        Row `i` of a piece is ``matrix[low[i] : low[i] + count[i]]``; float32 and int64.
    num_columns : int

    Returns
    -------
    array, shape (sum of counts, F), float32
    """
    jitted = _jitted()
    if jitted is None:
        slices = [
            matrix_NF[low : low + count]
            for matrix_NF, low_B, count_B in pieces
            for low, count in zip(low_B.tolist(), count_B.tolist())
        ]
        return np.concatenate([np.zeros((0, num_columns), np.float32), *slices])
    out_NF = np.empty((sum(int(count_B.sum()) for _, _, count_B in pieces), num_columns), np.float32)
    end = 0
    for matrix_NF, low_B, count_B in pieces:
        jitted.gather(matrix_NF, low_B, count_B, out_NF[end:])
        end += int(count_B.sum())
    return out_NF


def pad(values_NF: Tensor, offsets: Tensor, length: int) -> tuple[Tensor, Tensor] | None:
    """Spread ragged rows into `length` slots; None where only torch's own operations do.

    That is: other devices than the CPU, other numbers than float32, gradients, a graph that is being compiled or
    traced, or no numba.
    """
    plain = values_NF.device.type == "cpu" and values_NF.dtype == torch.float32 and values_NF.is_contiguous()
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
    if traced or not plain or values_NF.requires_grad:
        return None
    jitted = _jitted()
    if jitted is None:
        return None
    x_BPF = torch.empty(len(offsets) - 1, length, values_NF.shape[1])
    mask_BP = torch.empty(len(offsets) - 1, length, dtype=torch.bool)
    jitted.pad(values_NF.numpy(), offsets.numpy(), x_BPF.numpy(), mask_BP.numpy())
    return x_BPF, mask_BP
