"""Unit normal numbers that follow from a jet's row: the same whatever batch, micro-batch or rank the jet is in."""

# Shapes: B jets, L numbers per jet.

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (x - (1 << 64) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Constants of SplitMix64 (doi:10.1145/2714064.2660195) as signed integers."""


def normal_of_rows(rows: Tensor, width: int, key: Tensor, call: Tensor) -> Tensor:
    """Independent unit normal numbers, a pure function of the arguments.

    Parameters
    ----------
    rows : Tensor, shape (B,), int64
        Number of each jet.
    width : int
        Numbers L per jet.
    key, call : Tensor, shape (), int64
        Another pair gives other numbers.

    Returns
    -------
    Tensor, shape (B, L), float32
    """
    counter_BL = rows[:, None] * width + torch.arange(width, device=rows.device)
    first_BL = _mixed(counter_BL * _GOLDEN + _mixed(key + call * _GOLDEN))
    radius_BL = (-2 * torch.log1p(-_uniform(first_BL))).sqrt()
    return (radius_BL * torch.cos(2 * math.pi * _uniform(_mixed(first_BL + _GOLDEN)))).float()


def _mixed(x: Tensor) -> Tensor:
    """Finaliser of SplitMix64; products wrap around."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Right shift that fills up with zeros."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _uniform(x: Tensor) -> Tensor:
    """Numbers in [0, 1), float64, from the upper 53 bits."""
    return _shifted(x, 11).double() * 2.0**-53
