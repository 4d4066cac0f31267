"""Losses are computed in single precision at least, whatever autocast gave the network's outputs."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """The tensor in float32 if it came in half precision, else itself."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
