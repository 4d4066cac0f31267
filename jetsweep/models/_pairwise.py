"""Features of pairs of constituents, the interaction inputs of the Particle Transformer (arXiv:2202.03772)."""

# Shapes: any leading dimensions, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import torch
from torch import Tensor

from jetsweep.physics.fourvectors import delta_phi

FLOOR = 1e-8
"""Smallest argument of the logarithms."""

NUM_PAIR_FEATURES = 4


def pair_features(a: Tensor, b: Tensor) -> Tensor:
    """(ln kT, ln z, ln Δ, ln m²) of pairs, shape (..., 4), symmetric in a and b.

    kT = min(pT)·Δ, z = min(pT)/(pT_a + pT_b), Δ the distance in rapidity and phi, m² the pair's squared mass.

    Parameters
    ----------
    a, b : Tensor, shape (..., 4), GeV
        Both shapes must be the same.
    """
    pt_a, rapidity_a, phi_a = _coordinates(a)
    pt_b, rapidity_b, phi_b = _coordinates(b)
    delta = torch.sqrt((rapidity_a - rapidity_b) ** 2 + delta_phi(phi_a, phi_b) ** 2)
    softer = torch.minimum(pt_a, pt_b)
    total = a + b
    mass_squared = total[..., 3] ** 2 - (total[..., :3] ** 2).sum(dim=-1)
    fraction = softer / (pt_a + pt_b).clamp(min=FLOOR)
    return torch.stack([softer * delta, fraction, delta, mass_squared], dim=-1).clamp(min=FLOOR).log()


def _coordinates(p4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    px, py, pz, energy = p4.unbind(dim=-1)
    # the published form, kept so that published weights see the numbers they were trained on; the outer floor is ours
    # and keeps a particle along the beam finite
    rapidity = 0.5 * torch.log((1 + 2 * pz / (energy - pz).clamp(min=1e-20)).clamp(min=1e-20))
    return torch.hypot(px, py), rapidity, torch.atan2(py, px)
