"""Centres and widths of features over the jets of the training split."""

# Shapes: N constituents (or jets), P slots, F features.

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

FEWEST_JETS = 20
"""Fewer than this tell no quartiles."""


def mean_and_std(rows: Iterable[tuple[Tensor, Tensor]], num_features: int) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of each feature, float64, in one pass; 1 for the width of a constant.

    Sums are about the first mean, so that large offsets cost no precision.

    Parameters
    ----------
    rows : iterable of (Tensor, shape (N, F), float64; Tensor, shape (N,), float64)
        Features with their weights.
    num_features : int

    Raises
    ------
    ValueError
        If there is no row, or none of positive weight.
    """
    total, shift = torch.zeros((), dtype=torch.float64), None
    first = second = torch.zeros(num_features, dtype=torch.float64)
    for x_NF, weight_N in rows:
        if not len(x_NF):
            continue
        shift = x_NF.mean(dim=0) if shift is None else shift
        centred = x_NF - shift
        total = total + weight_N.sum()
        first = first + (weight_N[:, None] * centred).sum(dim=0)
        second = second + (weight_N[:, None] * centred**2).sum(dim=0)
    if shift is None or not total > 0:
        raise ValueError("feature statistics need at least one training jet with a positive weight")
    mean = first / total
    std = (second / total - mean**2).clamp(min=0.0).sqrt()
    # a constant feature carries nothing: leave it at 0 after centring
    return shift + mean, torch.where(std > 1e-12, std, 1.0)


def medians_and_spreads(
    padded: Iterable[tuple[Tensor, Tensor]], num_slots: int, num_features: int, most_jets: int
) -> tuple[Tensor, Tensor]:
    """Median, and third less first quartile, of every feature in every slot, over the jets that fill it.

    A slot that fewer than `FEWEST_JETS` fill takes those of the slot before it.

    Parameters
    ----------
    padded : iterable of (Tensor, shape (B, P, F); Tensor, shape (B, P), bool)
        Features and filled slots.
    num_slots, num_features : int
    most_jets : int
        About so many are kept, spread evenly over all: every other jet is left out as often as there are too many.

    Returns
    -------
    median, spread : Tensor, shape (P, F), float32
        A spread of 0 is 1; where not even the first slot is filled often enough, 0 and 1.

    Raises
    ------
    ValueError
        If there is no jet.
    """
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    num_jets, stride = 0, 1
    for x_BPF, mask_BP in padded:
        row_N, slot_N = mask_BP.nonzero().T.numpy()
        kept.append(_every(stride, x_BPF[mask_BP].float().numpy(), slot_N, num_jets + row_N))
        num_jets += len(mask_BP)
        while num_jets > most_jets * stride:
            stride *= 2
            kept = [_every(stride, *part) for part in kept]
    if not num_jets:
        raise ValueError("feature statistics need at least one training jet")
    values, slots = (np.concatenate([part[i] for part in kept]) for i in (0, 1))
    order = np.argsort(slots, kind="stable")
    starts = np.searchsorted(slots[order], np.arange(num_slots + 1))
    median, spread = np.zeros((num_slots, num_features)), np.ones((num_slots, num_features))
    for i in range(num_slots):
        if starts[i + 1] - starts[i] < FEWEST_JETS:
            median[i], spread[i] = median[max(i - 1, 0)], spread[max(i - 1, 0)]
            continue
        here = values[order[starts[i] : starts[i + 1]]]
        low, median[i], high = np.quantile(here, [0.25, 0.5, 0.75], axis=0)
        spread[i] = np.where(high - low > 1e-12, high - low, 1.0)
    return torch.from_numpy(median).float(), torch.from_numpy(spread).float()


def _every(
    stride: int, x_NF: np.ndarray, slot_N: np.ndarray, jet_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of the jets whose number the stride divides."""
    kept_N = jet_N % stride == 0
    return x_NF[kept_N], slot_N[kept_N], jet_N[kept_N]
