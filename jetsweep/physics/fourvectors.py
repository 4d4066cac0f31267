"""Kinematics of four-vectors (px, py, pz, E) in GeV, on tensors of any shape (..., 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-20
"""Smallest denominator (GeV): below every momentum, above the smallest float32."""


def pt(p4: Tensor) -> Tensor:
    """Transverse momentum, shape (...), GeV."""
    return torch.hypot(p4[..., 0], p4[..., 1])


def phi(p4: Tensor) -> Tensor:
    """Azimuth, shape (...), in [-pi, pi]."""
    return torch.atan2(p4[..., 1], p4[..., 0])


def eta(p4: Tensor) -> Tensor:
    """Pseudorapidity asinh(pz / pT), shape (...); 0 for a null vector, finite along the beam."""
    ratio = p4[..., 2] / pt(p4).clamp(min=TINY)
    # asinh of the absolute value: no cancellation for vectors that go backwards
    return torch.sign(ratio) * torch.asinh(ratio.abs().clamp(max=1e18))


def rapidity(p4: Tensor) -> Tensor:
    """Rapidity 1/2 ln((E + pz) / (E - pz)), shape (...), computed without cancellation from |pz|."""
    pz = p4[..., 2].abs()
    energy = p4[..., 3]
    transverse_mass = ((energy - pz) * (energy + pz)).clamp(min=TINY).sqrt()
    return torch.sign(p4[..., 2]) * torch.log((energy + pz).clamp(min=TINY) / transverse_mass)


def mass(p4: Tensor) -> Tensor:
    """Invariant mass, shape (...), GeV; 0 where rounding makes its square negative."""
    p: Tensor = torch.linalg.vector_norm(p4[..., :3], dim=-1)
    return ((p4[..., 3] - p) * (p4[..., 3] + p)).clamp(min=0.0).sqrt()


def delta_phi(phi_a: Tensor, phi_b: Tensor) -> Tensor:
    """Signed azimuthal difference phi_a - phi_b, wrapped into [-pi, pi)."""
    return torch.remainder(phi_a - phi_b + math.pi, 2 * math.pi) - math.pi


def delta_r(eta_a: Tensor, phi_a: Tensor, eta_b: Tensor, phi_b: Tensor) -> Tensor:
    """Angular distance hypot(eta_a - eta_b, delta_phi)."""
    return torch.hypot(eta_a - eta_b, delta_phi(phi_a, phi_b))
