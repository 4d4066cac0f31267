"""Numbers of the whole batch where each rank holds a part of it.

Where torch.distributed runs, these are collective: every rank has to call them as often. That holds in training, whose
steps all ranks take together, but not in evaluation, whose last batches may not reach every rank.
"""

# Shapes: B jets of this rank, G jets of all ranks, V numbers per jet.

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def num_ranks() -> int:
    """Number of ranks; 1 where torch.distributed does not run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(x: Tensor) -> Tensor:
    """Mean of a detached copy over all ranks; itself where there is one."""
    x = x.detach().float().clone()
    if num_ranks() > 1:
        dist.all_reduce(x)
        x = x / num_ranks()
    return x


def jets_of_all_ranks(values_VB: Tensor) -> tuple[Tensor, slice]:
    """Numbers of all jets in rank order, without gradient, and where this rank's own stand among them.

    Parameters
    ----------
    values_VB : Tensor, shape (V, B)
        B may differ between ranks; V and the type may not.

    Returns
    -------
    values_VG : Tensor, shape (V, G)
    own : slice
    """
    values_VB = values_VB.detach()
    if num_ranks() == 1:
        return values_VB, slice(0, values_VB.shape[1])
    num_own = values_VB.shape[1]
    count = torch.tensor([num_own], device=values_VB.device)
    counts = [torch.zeros_like(count) for _ in range(num_ranks())]
    dist.all_gather(counts, count)
    sizes = torch.cat(counts).tolist()
    padded = F.pad(values_VB, (0, max(sizes) - num_own))
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    start = sum(sizes[: dist.get_rank()])
    values_VG = torch.cat([part[:, :size] for part, size in zip(parts, sizes, strict=True)], dim=1)
    return values_VG, slice(start, start + num_own)
