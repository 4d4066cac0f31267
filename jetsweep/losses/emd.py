"""Energy mover's distance between jets by entropic transport in the log domain (arXiv:1902.02346, 1306.0895)."""

# Shapes: B jets, P and Q constituent slots, A angular coordinates.

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinkhorn_emd(
    angles_a: Tensor,
    energy_a: Tensor,
    angles_b: Tensor,
    energy_b: Tensor,
    radius: float = 1.0,
    smoothing: float = 0.01,
    iterations: int = 100,
) -> Tensor:
    """Cost of moving the energy of one jet into the other, both of total 1, differentiable in all four tensors.

    Parameters
    ----------
    angles_a, angles_b : Tensor, shapes (B, P, A) and (B, Q, A)
        Positions, e.g. (eta, phi) about the jet axis in radians.
    energy_a, energy_b : Tensor, shapes (B, P) and (B, Q)
        Energies or transverse momenta, at least 0; 0 in slots without a constituent, whose angles do not matter.
    radius : float
        Distance that costs 1.
    smoothing : float
        Entropic regularisation in units of the cost: the smaller, the nearer to the exact distance, the more
        iterations are needed.
    iterations : int
        Updates of both potentials.

    Returns
    -------
    Tensor, shape (B,)
        Transport cost of the smoothed plan, without its entropy; 0 where one of the jets has no energy.
    """
    log_a_BP, log_b_BQ = _log_shares(energy_a), _log_shares(energy_b)
    angles_a = torch.where((energy_a > 0)[..., None], angles_a, 0.0)
    angles_b = torch.where((energy_b > 0)[..., None], angles_b, 0.0)
    square_BPQ = (angles_a[:, :, None] - angles_b[:, None]).square().sum(dim=-1)
    # the root of 0 has no slope
    cost_BPQ = torch.where(square_BPQ > 0, square_BPQ.clamp(min=1e-24).sqrt(), 0.0) / radius
    kernel_BPQ = -cost_BPQ / smoothing
    f_BP, g_BQ = torch.zeros_like(log_a_BP), torch.zeros_like(log_b_BQ)
    for _ in range(iterations):
        f_BP = -torch.logsumexp(kernel_BPQ + (g_BQ + log_b_BQ)[:, None, :], dim=2)
        g_BQ = -torch.logsumexp(kernel_BPQ + (f_BP + log_a_BP)[:, :, None], dim=1)
    plan_BPQ = torch.exp(kernel_BPQ + (f_BP + log_a_BP)[:, :, None] + (g_BQ + log_b_BQ)[:, None, :])
    cost_B = (plan_BPQ * cost_BPQ).flatten(1).sum(dim=1)
    both_B = (energy_a > 0).any(dim=1) & (energy_b > 0).any(dim=1)
    return torch.where(both_B, cost_B, 0.0)


def _log_shares(energy_BP: Tensor) -> Tensor:
    """Logarithm of each slot's share; a very negative number, not -inf, for an empty one."""
    total_B = energy_BP.sum(dim=1, keepdim=True)
    share_BP = energy_BP / torch.where(total_B > 0, total_B, 1.0)
    lowest = 0.25 * math.log(torch.finfo(energy_BP.dtype).tiny)
    return torch.where(share_BP > 0, share_BP.clamp(min=1e-30).log(), 100 * lowest)
