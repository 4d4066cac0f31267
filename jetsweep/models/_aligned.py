"""Feature sets of jets that are turned about their axis."""

# Shapes: B jets, P padded slots, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from jetsweep.physics import fourvectors as kinematics
from jetsweep.physics.alignment import align


def aligned_momenta(p4_BP4: Tensor, mask_BP: Tensor, per_pt: bool, flip: bool = False) -> Tensor:
    """Aligned constituents as (E, px, py, pz), shape (B, P, 4), in GeV or (`per_pt`) over the jet's pT."""
    energy_first_BP4 = align(p4_BP4, mask_BP, flip).roll(1, dims=-1)
    if not per_pt:
        return energy_first_BP4
    jet_pt_B = kinematics.pt(torch.where(mask_BP[..., None], p4_BP4, 0.0).sum(dim=1))
    return energy_first_BP4 / jet_pt_B[:, None, None].clamp(min=kinematics.TINY)


def aligned_angles(p4_BP4: Tensor, mask_BP: Tensor, flip: bool = False) -> Tensor:
    """Centred, rotated and flipped angles (eta', phi'), shape (B, P, 2), radians, 0 in empty slots.

    Constituents must be in descending pT: the first sits at the origin, the second on the negative phi' axis, the
    third at eta' >= 0. Jets with fewer constituents skip the step that lacks one.

    Parameters
    ----------
    p4_BP4 : Tensor, shape (B, P, 4), GeV
    mask_BP : Tensor, shape (B, P), bool
    flip : bool
        The half of larger pT at eta' >= 0, not the third constituent.
    """
    eta_BP, phi_BP = kinematics.eta(p4_BP4), kinematics.phi(p4_BP4)
    eta_BP = eta_BP - eta_BP[:, :1]
    phi_BP = kinematics.delta_phi(phi_BP, phi_BP[:, :1])
    # three slots at least, so that a graph whose number of slots is free needs no branches
    real_BS = F.pad(mask_BP, (0, 3), value=False)
    second_B1, third_B1 = real_BS[:, 1:2], real_BS[:, 2:3]
    angle_B1 = torch.atan2(F.pad(phi_BP, (0, 3))[:, 1:2], F.pad(eta_BP, (0, 3))[:, 1:2]) + math.pi / 2
    angle_B1 = torch.where(second_B1, angle_B1, 0.0)
    cos, sin = torch.cos(angle_B1), torch.sin(angle_B1)
    eta_BP, phi_BP = eta_BP * cos + phi_BP * sin, phi_BP * cos - eta_BP * sin
    if flip:
        # the first two are on the axis but for rounding: they have no side
        has_side_BP = F.pad(mask_BP[:, 2:], (2, 0), value=False)[:, : mask_BP.shape[1]]
        side_BP = torch.where(has_side_BP, kinematics.pt(p4_BP4) * torch.sign(eta_BP), 0.0)
        is_mirrored_B1 = side_BP.sum(dim=1, keepdim=True) < 0
    else:
        is_mirrored_B1 = third_B1 & (F.pad(eta_BP, (0, 3))[:, 2:3] < 0)
    eta_BP = torch.where(is_mirrored_B1, -eta_BP, eta_BP)
    return torch.where(mask_BP[..., None], torch.stack([eta_BP, phi_BP], dim=-1), 0.0)


def atlas7(p4_BP4: Tensor, mask_BP: Tensor) -> Tensor:
    """Seven inputs (eta', phi', ln pT, ln E, ln pT/sum, ln E/sum, R), shape (B, P, 7), pT and E in MeV, unstandardised.

    Constituents must be in descending pT, see `aligned_angles`.
    """
    eta_BP, phi_BP = aligned_angles(p4_BP4, mask_BP).unbind(dim=-1)
    p4_BP4 = p4_BP4 * 1e3
    pt_BP, energy_BP = kinematics.pt(p4_BP4), p4_BP4[..., 3]
    columns = [
        eta_BP,
        phi_BP,
        clamped_log(pt_BP),
        clamped_log(energy_BP),
        clamped_log(pt_BP / pt_BP.sum(dim=1, keepdim=True).clamp(min=kinematics.TINY)),
        clamped_log(energy_BP / energy_BP.sum(dim=1, keepdim=True).clamp(min=kinematics.TINY)),
        torch.hypot(eta_BP, phi_BP),
    ]
    return torch.where(mask_BP[..., None], torch.stack(columns, dim=-1), 0.0)


def clamped_log(x: Tensor) -> Tensor:
    """Natural logarithm, finite for 0."""
    return torch.log(x.clamp(min=kinematics.TINY))
