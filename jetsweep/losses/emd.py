"""Energy mover's distance between jets (arXiv:1902.02346) by entropic transport (arXiv:1306.0895).

The potentials are found in the log domain; their plan, which meets the energies only roughly, is mended to one that
meets them exactly (arXiv:1705.09634).
"""

# Shapes: B jets, P and Q constituent slots, A angular coordinates.

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from jetsweep.errors import JetsweepError
from jetsweep.losses._precision import at_least_single


def sinkhorn_emd(
    angles_a: Tensor,
    energy_a: Tensor,
    angles_b: Tensor,
    energy_b: Tensor,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    radius: float = 1.0,
    smoothing: float = 0.01,
    iterations: int = 50,
) -> Tensor:
    """Cost of moving the energy of one jet into the other, both of total 1, differentiable in angles and energies.

    Parameters
    ----------
    angles_a, angles_b : Tensor, shapes (B, P, A) and (B, Q, A)
        Positions, e.g. (eta, phi) about the jet axis in radians.
    energy_a, energy_b : Tensor, shapes (B, P) and (B, Q)
        Energies or transverse momenta; a slot without a positive one is empty.
    mask_a, mask_b : Tensor, shapes (B, P) and (B, Q), bool, optional
        Slots with a constituent, all of them if not given. Empty slots may hold anything.
    radius : float
        Distance that costs 1.
    smoothing : float
        Entropic regularisation in units of the cost: the smaller, the nearer to the exact distance, the more
        iterations are worth their time.
    iterations : int
        Updates of both potentials. Memory for the gradient grows with the root of their number.

    Returns
    -------
    Tensor, shape (B,)
        Cost of a plan that moves all energy, so never below the exact distance (but for rounding), without the entropy
        of the plan; 0 where one of the jets has no energy.

    Raises
    ------
    JetsweepError
        If `radius`, `smoothing` or `iterations` is not positive.
    """
    for name, number in (("radius", radius), ("smoothing", smoothing), ("iterations", iterations)):
        if not number > 0:
            raise JetsweepError(f"energy mover's distance: {name} must be positive, found {number:g}")
    angles_a, energy_a, real_BP = _real_slots(angles_a, energy_a, mask_a)
    angles_b, energy_b, real_BQ = _real_slots(angles_b, energy_b, mask_b)
    both_B = real_BP.any(dim=1) & real_BQ.any(dim=1)
    log_a_BP, log_b_BQ = _log_shares(energy_a, real_BP, both_B), _log_shares(energy_b, real_BQ, both_B)
    square_BPQ = (angles_a[:, :, None] - angles_b[:, None]).square().sum(dim=-1)
    # the root of 0 has no slope
    cost_BPQ = torch.where(square_BPQ == 0, 0.0, square_BPQ.clamp(min=1e-24).sqrt()) / radius
    plan_BPQ = _plan(-cost_BPQ / smoothing, log_a_BP, log_b_BQ, iterations)
    return torch.where(both_B, (plan_BPQ * cost_BPQ).flatten(1).sum(dim=1), 0.0)


def _real_slots(angles: Tensor, energy: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Angles and energies with 0 in empty slots, and which slots are not empty."""
    real = ~(energy <= 0)  # so that NaN is not taken for an empty slot
    if mask is not None:
        real = real & mask
    return (
        torch.where(real[..., None], at_least_single(angles), 0.0),
        torch.where(real, at_least_single(energy), 0.0),
        real,
    )


def _log_shares(energy_BP: Tensor, real_BP: Tensor, both_B: Tensor) -> Tensor:
    """Logarithm of each slot's share, -inf for an empty one; equal shares where there is nothing to transport."""
    energy_BP = torch.where(both_B[:, None], energy_BP, 1.0)
    real_BP = real_BP | ~both_B[:, None]
    share_BP = energy_BP / energy_BP.sum(dim=1, keepdim=True)
    return torch.where(real_BP, share_BP.clamp(min=1e-30).log(), -math.inf)


def _plan(kernel_BPQ: Tensor, log_a_BP: Tensor, log_b_BQ: Tensor, iterations: int) -> Tensor:
    f_BP, g_BQ = torch.zeros_like(log_a_BP), torch.zeros_like(log_b_BQ)
    at_once = math.isqrt(iterations)
    for start in range(0, iterations, at_once):
        length = min(at_once, iterations - start)
        f_BP, g_BQ = checkpoint(
            _updated, kernel_BPQ, log_a_BP, log_b_BQ, g_BQ, length, use_reentrant=False, preserve_rng_state=False
        )
    plan_BPQ = torch.exp(kernel_BPQ + (f_BP + log_a_BP)[:, :, None] + (g_BQ + log_b_BQ)[:, None, :])
    return _mended(plan_BPQ, log_a_BP.exp(), log_b_BQ.exp())


def _mended(plan_BPQ: Tensor, a_BP: Tensor, b_BQ: Tensor) -> Tensor:
    """The plan with rows and columns of exactly these sums: what is too much is cut, what lacks is added anywhere."""
    plan_BPQ = plan_BPQ * (a_BP / plan_BPQ.sum(dim=2).clamp(min=1e-30)).clamp(max=1.0)[:, :, None]
    plan_BPQ = plan_BPQ * (b_BQ / plan_BPQ.sum(dim=1).clamp(min=1e-30)).clamp(max=1.0)[:, None, :]
    lack_BP = (a_BP - plan_BPQ.sum(dim=2)).clamp(min=0.0)
    lack_BQ = (b_BQ - plan_BPQ.sum(dim=1)).clamp(min=0.0)
    total_B = lack_BP.sum(dim=1).clamp(min=1e-12)
    return plan_BPQ + lack_BP[:, :, None] * (lack_BQ / total_B[:, None])[:, None, :]


def _updated(
    kernel_BPQ: Tensor, log_a_BP: Tensor, log_b_BQ: Tensor, g_BQ: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Both potentials after so many updates."""
    for _ in range(iterations):
        f_BP = -torch.logsumexp(kernel_BPQ + (g_BQ + log_b_BQ)[:, None, :], dim=2)
        g_BQ = -torch.logsumexp(kernel_BPQ + (f_BP + log_a_BP)[:, :, None], dim=1)
    return f_BP, g_BQ
