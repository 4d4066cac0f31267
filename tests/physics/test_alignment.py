"""Alignment of jets: what it makes zero, what it leaves alone, and an independent calculation jet by jet."""

import math

import numpy as np
import pytest
import torch

from jetsweep.physics import fourvectors as kinematics
from jetsweep.physics.alignment import align
from jetsweep.testing.toys import toy_four_vectors


def jets(num_jets=50, slots=12, dtype=torch.float64):
    p4, mask, _ = toy_four_vectors(num_jets, slots, seed=2, min_constituents=3)
    source = torch.Generator().manual_seed(1)
    masses = torch.rand(num_jets, slots, generator=source)
    p4[..., 3] = torch.where(mask, (p4[..., 3] ** 2 + masses**2).sqrt(), 0.0)
    return p4.to(dtype), mask


def by_hand(p4):
    """One jet's constituents (N, 4), textbook matrices."""
    total = p4.sum(axis=0)
    phi = math.atan2(total[1], total[0])
    px, py = p4[:, 0] * math.cos(phi) + p4[:, 1] * math.sin(phi), p4[:, 1] * math.cos(phi) - p4[:, 0] * math.sin(phi)
    beta = total[2] / total[3]
    gamma = 1 / math.sqrt(1 - beta**2)
    pz, energy = gamma * (p4[:, 2] - beta * p4[:, 3]), gamma * (p4[:, 3] - beta * p4[:, 2])
    across, along = 0.0, 0.0
    for x, y, z, e in zip(px, py, pz, energy):
        eta, angle = math.asinh(z / math.hypot(x, y)), math.atan2(y, x)
        across, along = across + e * eta / math.hypot(eta, angle), along + e * angle / math.hypot(eta, angle)
    alpha = math.atan2(across, along)
    return np.column_stack(
        [px, py * math.cos(alpha) + pz * math.sin(alpha), pz * math.cos(alpha) - py * math.sin(alpha), energy]
    )


def test_agrees_with_matrices_jet_by_jet():
    p4, mask = jets()
    found = align(p4, mask)
    for jet, real, expected in zip(p4, mask, found):
        np.testing.assert_allclose(expected[real].numpy(), by_hand(jet[real].numpy()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_axis_is_at_rest_along_the_beam_and_at_phi_zero(dtype):
    p4, mask = jets()
    found = align(p4.to(dtype), mask).sum(dim=1).double()
    is_single = dtype == torch.float32  # whose constituents of forward jets know the mass no better
    assert (found[:, 1:3].abs() / found[:, 3:]).max() < (1e-5 if is_single else 1e-12)
    rtol = 1e-3 if is_single else 1e-9
    torch.testing.assert_close(kinematics.mass(found), kinematics.mass(p4.sum(dim=1)), rtol=rtol, atol=0)


def test_rotations_about_the_beam_and_boosts_along_it_do_not_matter():
    p4, mask = jets()
    before = align(p4, mask)
    px, py, pz, energy = p4.unbind(dim=-1)
    cos, sin, cosh, sinh = math.cos(2), math.sin(2), math.cosh(0.7), math.sinh(0.7)
    moved = torch.stack(
        [cos * px - sin * py, sin * px + cos * py, cosh * pz + sinh * energy, cosh * energy + sinh * pz], dim=-1
    )
    torch.testing.assert_close(align(moved, mask), before, rtol=1e-7, atol=1e-7)


def test_a_second_pass_changes_little():
    """Not nothing: a rotation about the jet axis is none in the plane of eta and phi."""
    p4, mask = jets()
    narrow = p4.clone()
    axis = p4[..., :3].sum(dim=1, keepdim=True)
    narrow[..., :3] = 0.9 * p4[..., 3:] * axis / axis.norm(dim=-1, keepdim=True) + 0.05 * p4[..., :3]
    once = align(narrow, mask)
    assert (align(once, mask) - once).abs().max() < 0.02 * once.abs().max()


def test_the_principal_direction_is_positive_phi():
    p4, mask = jets()
    x, y, z, energy = align(p4, mask).unbind(dim=-1)
    eta, phi = torch.asinh(z / torch.hypot(x, y).clamp(min=1e-9)), torch.atan2(y, x)
    pull = torch.where(mask, energy / torch.hypot(eta, phi).clamp(min=1e-9), 0.0)
    assert ((pull * phi).sum(dim=1) > 0).all()


def test_flip_puts_more_energy_at_positive_pz():
    p4, mask = jets()
    found = align(p4, mask, flip=True)
    assert ((found[..., 3] * found[..., 2].sign()).sum(dim=1) >= 0).all()
    torch.testing.assert_close(found[..., 2].abs(), align(p4, mask)[..., 2].abs())


def test_empty_slots_stay_zero_and_hold_anything():
    p4, mask = jets()
    junk = torch.where(mask[..., None], p4, torch.nan)
    found = align(junk, mask)
    assert torch.equal(found, align(p4, mask))
    assert (found[~mask] == 0).all()


def test_two_constituents_by_hand():
    """Of equal energy at phi = ±0.1 about the axis: their pulls cancel, so only lengths are known."""
    px, py = 100 * math.cos(0.1), 100 * math.sin(0.1)
    p4 = torch.tensor([[[px, py, 0.0, 100.0], [px, -py, 0.0, 100.0]]], dtype=torch.float64)
    found = align(p4, torch.ones(1, 2, dtype=torch.bool))[0].numpy()
    np.testing.assert_allclose(found[:, 0], [px, px])
    np.testing.assert_allclose(found[:, 3], [100, 100])
    np.testing.assert_allclose(sorted(np.hypot(found[:, 1], found[:, 2])), [py, py])
    np.testing.assert_allclose(found[:, 1:3].sum(axis=0), [0, 0], atol=1e-9)


def test_constituents_along_the_beam_keep_their_energy():
    p4 = torch.tensor([[[300.0, 0.0, 100.0, 320.0], [0.0, 0.0, 50.0, 50.0], [0.0, 0.0, -20.0, 20.0]]]).double()
    mask = torch.ones(1, 3, dtype=torch.bool)
    before, after = (kinematics.mass(x.sum(dim=1)) for x in (p4, align(p4, mask)))
    torch.testing.assert_close(after, before)


def test_odd_jets_stay_finite():
    p4 = torch.zeros(4, 3, 4)
    p4[0, 0] = torch.tensor([3.0, 4.0, 1.0, 6.0])  # a single constituent
    p4[1, :2] = torch.tensor([0.0, 0.0, 5.0, 5.0])  # along the beam
    p4[2, 0] = torch.tensor([3.0, 4.0, 0.0, 5.0])  # massless
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    found = align(p4, mask)
    assert found.isfinite().all()
    torch.testing.assert_close(found[2, 0], torch.tensor([5.0, 0.0, 0.0, 5.0]))
