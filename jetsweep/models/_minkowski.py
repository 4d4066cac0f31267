"""Minkowski products of constituents, metric (+, -, -, -): the inputs of LorentzNet and PELICAN."""

# Shapes: B jets, N four-vectors of each (constituents and references), 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import torch
from torch import Tensor

from jetsweep.physics.fourvectors import TINY

SHELL = 4
"""Units of rounding of the energy within which a four-vector is massless."""


def gram_matrix(p4_BN4: Tensor) -> Tensor:
    """Minkowski products of all pairs, shape (B, N, N), GeV^2, at least float32.

    With d = E - |p| and unit vectors n, the product of a and b is d_a E_b + |p_a| d_b + |p_a| |p_b| |n_a - n_b|^2 / 2:
    nothing large cancels, so two massless particles at an angle t keep a relative error of rounding / t instead of
    rounding / t^2. A d that rounding alone may have made is 0: float32 cannot tell such a mass from none.

    Parameters
    ----------
    p4_BN4 : Tensor, shape (B, N, 4), GeV
        Space-like vectors are welcome; null ones give 0.
    """
    with torch.autocast(p4_BN4.device.type, enabled=False):
        p4_BN4 = p4_BN4.to(torch.promote_types(p4_BN4.dtype, torch.float32))
        energy_BN = p4_BN4[..., 3]
        # of the largest component: no squares of small or large numbers, and a finite gradient at 0
        scale_BN1 = p4_BN4[..., :3].abs().amax(dim=-1, keepdim=True).clamp(min=TINY)
        unit_BN3 = p4_BN4[..., :3] / scale_BN1
        length_BN1 = (unit_BN3**2).sum(dim=-1, keepdim=True).clamp(min=TINY).sqrt()
        p_BN = torch.where(p4_BN4[..., :3].any(dim=-1), (scale_BN1 * length_BN1)[..., 0], 0.0)
        unit_BN3 = unit_BN3 / length_BN1
        gap_BN = energy_BN - p_BN
        rounding_BN = SHELL * torch.finfo(p4_BN4.dtype).eps * energy_BN.abs()
        gap_BN = torch.where(gap_BN.abs() > rounding_BN, gap_BN, 0.0)
        opening_BNN = 0.5 * ((unit_BN3[:, :, None] - unit_BN3[:, None]) ** 2).sum(dim=-1)
        return (
            gap_BN[:, :, None] * energy_BN[:, None]
            + p_BN[:, :, None] * gap_BN[:, None]
            + p_BN[:, :, None] * p_BN[:, None] * opening_BNN
        )


def with_references(p4_BP4: Tensor, mask_BP: Tensor, reference_S4: Tensor) -> tuple[Tensor, Tensor]:
    """Put S reference vectors, those of the beam or of time, before every jet's constituents.

    Returns
    -------
    p4_BN4 : Tensor, shape (B, S + P, 4), 0 in empty slots
    mask_BN : Tensor, shape (B, S + P), bool
    """
    num_jets, num_references = len(p4_BP4), len(reference_S4)
    p4_BP4 = torch.where(mask_BP[..., None], p4_BP4, 0.0)
    reference_BS4 = reference_S4.to(p4_BP4.dtype).expand(num_jets, -1, -1)
    real_BS = mask_BP.new_ones(num_jets, num_references)
    return torch.cat([reference_BS4, p4_BP4], dim=1), torch.cat([real_BS, mask_BP], dim=1)
