"""Alignment of jets: axis at phi = 0 and pz = 0, principal direction along phi (section 2 of arXiv:2007.01850)."""

# Shapes: B jets, P slots, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import torch
from torch import Tensor

from jetsweep.physics import fourvectors as kinematics

_SOFTEST = 1e-10
"""Energy (GeV) below which a constituent does not pull the principal direction."""


def align(p4: Tensor, mask: Tensor, flip: bool = False) -> Tensor:
    """Rotate about the beam, boost along it, and rotate about the jet axis.

    Parameters
    ----------
    p4 : Tensor, shape (B, P, 4), GeV
        Constituents (px, py, pz, E).
    mask : Tensor, shape (B, P), bool
        Slots with a constituent; others may hold anything.
    flip : bool
        Also mirror pz, so that the half of the jet with pz > 0 has more energy.

    Returns
    -------
    Tensor, shape (B, P, 4), GeV
        With a sum whose py is 0 before the last rotation and whose pz is 0; then the mean direction of the
        constituents about the axis, each a unit vector times its energy, points to positive phi. Empty slots are 0.
    """
    p4 = torch.where(mask[..., None], p4, 0.0)
    jet_B14 = p4.sum(dim=1, keepdim=True)
    px, py = _rotated(p4[..., 0], p4[..., 1], kinematics.phi(jet_B14))
    # a boost scales E + pz and E - pz; particles along the beam stay there
    scale_B1 = torch.exp(kinematics.rapidity(jet_B14))
    forward, backward = (p4[..., 3] + p4[..., 2]) / scale_B1, (p4[..., 3] - p4[..., 2]) * scale_B1
    pz, energy = (forward - backward) / 2, (forward + backward) / 2
    py, pz = _rotated(py, pz, _principal_angle(px, py, pz, energy))
    if flip:
        side_B1 = (energy * torch.sign(pz)).sum(dim=1, keepdim=True)
        pz = torch.where(side_B1 < 0, -pz, pz)
    return torch.where(mask[..., None], torch.stack([px, py, pz, energy], dim=-1), 0.0)


def _principal_angle(px: Tensor, py: Tensor, pz: Tensor, energy: Tensor) -> Tensor:
    """Angle of the energy-weighted mean of unit vectors in the (phi, eta) plane, shape (B, 1)."""
    p4 = torch.stack([px, py, pz, energy], dim=-1)
    eta, phi = kinematics.eta(p4), kinematics.phi(p4)
    radius = torch.hypot(eta, phi)
    weight = torch.where((energy >= _SOFTEST) & (radius > 0), energy / radius.clamp(min=kinematics.TINY), 0.0)
    return torch.atan2((weight * eta).sum(dim=1, keepdim=True), (weight * phi).sum(dim=1, keepdim=True))


def _rotated(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates after a rotation that takes the direction `angle` onto the first axis."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return x * cos + y * sin, y * cos - x * sin
