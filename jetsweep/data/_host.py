"""Copies of ragged rows in the host's memory: jitted where numba is installed, by numpy and torch elsewhere."""

# Shapes: N entries, R or B rows, F columns, P padded slots.

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


def place_rows(
    children: Sequence[np.ndarray], low_R: np.ndarray, count_R: np.ndarray, target_R: np.ndarray, out_NF: np.ndarray
) -> None:
    """Copy stretches of several columns to where they belong, side by side.

    Parameters
    ----------
    children : sequence of array, shape (entries,)
        One of each of the F columns.
    low_R, count_R, target_R : array, shape (R,), int64
        Entries ``low … low + count`` of the columns become the rows ``target … target + count`` of `out_NF`.
    out_NF : array, shape (N, F), float32
    """
    jitted = _jitted()
    if jitted is None:
        place_N = np.arange(int(count_R.sum())) - np.repeat(np.cumsum(count_R) - count_R, count_R)
        source_N = place_N + np.repeat(low_R, count_R)
        out_NF[place_N + np.repeat(target_R, count_R)] = np.column_stack([child[source_N] for child in children])
        return
    jitted.place(tuple(map(_frozen, children)), low_R, count_R, target_R, out_NF)


def _frozen(x_N: np.ndarray) -> np.ndarray:
    """As float32 that is not written to: loops are compiled for one type, and each number of columns, alone."""
    x_N = x_N.astype(np.float32, copy=False).view()
    x_N.flags.writeable = False
    return x_N


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
