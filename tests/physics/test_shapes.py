"""Angularities, pull, charge and thrust against closed forms."""

import numpy as np
import pytest

from jetsweep.physics.high_level import HIGH_LEVEL_NAMES, high_level_variables
from jetsweep.physics.shapes import ANGULARITIES, angularity, jet_axes, jet_charge, jet_pull, thrust


def p4_of(*constituents):
    """Massless (px, py, pz, E) of (pT, y, phi)."""
    pt, y, phi = np.array(constituents, np.float64).reshape(-1, 3).T
    return np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y), pt * np.cosh(y)])


def random_jets(*sizes, seed=1, width=0.2):
    rng = np.random.default_rng(seed)
    size = sum(sizes)
    table = np.column_stack([np.exp(rng.normal(2, 1, size)), rng.normal(0.4, width, (size, 2))])
    # the later jets lie across the border of the azimuth
    table[sizes[0] :, 2] += np.pi - 0.4
    return p4_of(*table), np.cumsum([0, *sizes])


PAIR, ONE = p4_of((70, 0.0, 0.0), (30, 0.3, 0.4)), np.array([0, 2])


@pytest.mark.parametrize("kappa", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_angularities_of_two_constituents(kappa, beta):
    # the winner takes the axis, the other is half a unit away
    expected = 0.3**kappa * (0.5 / 0.8) ** beta + (0.7**kappa if beta == 0 else 0)
    assert angularity(PAIR, ONE, kappa, beta, radius=0.8) == pytest.approx([expected])


def test_named_angularities_are_what_their_names_say():
    values, offsets = random_jets(30, 1, 12)
    pt = np.hypot(values[:, 0], values[:, 1])
    found = {name: angularity(values, offsets, *exponents) for name, exponents in ANGULARITIES.items()}
    assert found["multiplicity"].tolist() == [30, 1, 12]
    spread = [np.sqrt((p**2).sum()) / p.sum() for p in np.split(pt, offsets[1:-1])]
    np.testing.assert_allclose(np.sqrt(found["ptd_squared"]), spread)
    assert found["lha"][1] == found["width"][1] == 0
    # near its axis a jet of massless constituents has m^2 = pT^2 lambda^1_2
    values, offsets = random_jets(30, 20, width=0.004)
    px, py, pz, energy = np.add.reduceat(values, offsets[:-1]).T
    ratio = (energy**2 - px**2 - py**2 - pz**2) / (px**2 + py**2)
    np.testing.assert_allclose(angularity(values, offsets, *ANGULARITIES["thrust"], axis="sum"), ratio, rtol=1e-3)


def test_axes_are_the_momentum_or_the_winner_also_across_the_border_of_the_azimuth():
    values = p4_of((60, 0.1, 3.1), (50, -0.1, -3.1), (40, -0.1, -3.1))
    y, phi = jet_axes(values, np.array([0, 3]), "winner")
    assert (y[0], phi[0]) == pytest.approx((-0.1, -3.1))
    y, phi = jet_axes(values, np.array([0, 3]), "sum")
    px, py, pz, energy = values.sum(axis=0)
    assert (y[0], phi[0]) == pytest.approx((0.5 * np.log((energy + pz) / (energy - pz)), np.arctan2(py, px)))
    turn = 2 * np.pi - 6.2
    distance = np.hypot(0.2, turn)
    assert angularity(values, np.array([0, 3]), 1.0, 1.0) == pytest.approx([60 / 150 * distance])


def test_pull_of_two_constituents_leans_to_the_softer():
    axis_y, axis_phi = (float(x[0]) for x in jet_axes(PAIR, ONE, "sum"))
    total = np.hypot(*PAIR[:, :2].sum(axis=0))
    expected = sum(
        pt * np.hypot(y - axis_y, phi - axis_phi) * np.array([y - axis_y, phi - axis_phi]) / total
        for pt, y, phi in ((70, 0.0, 0.0), (30, 0.3, 0.4))
    )
    pull = jet_pull(PAIR, ONE)
    np.testing.assert_allclose(pull[0], expected, atol=1e-12)
    assert (pull > 0).all()
    # a jet with a mirror image of every constituent pulls nowhere
    mirror = p4_of(*((10, s * 0.2, t * 0.1) for s in (1, -1) for t in (1, -1)))
    np.testing.assert_allclose(jet_pull(mirror, np.array([0, 4])), 0, atol=1e-12)


def test_charge():
    charge = np.array([1, -1, 0, 1])
    values = p4_of((60, 0, 0), (30, 0, 0), (10, 0, 0), (5, 1, 1))
    found = jet_charge(values, np.array([0, 3, 3, 4]), charge, kappa=0.5)
    assert found == pytest.approx([0.6**0.5 - 0.3**0.5, 0, 1])
    assert jet_charge(values, np.array([0, 3, 3, 4]), charge, kappa=0.0) == pytest.approx([0, 0, 1])


def test_thrust_of_a_cross_of_three_pairs():
    # at rest: pairs along three perpendicular directions with momenta 5, 3 and 1
    lengths = np.array([5.0, 3.0, 1.0])
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    p = np.concatenate([np.diag(lengths), -np.diag(lengths)]) @ turn
    cross = np.column_stack([p, np.linalg.norm(p, axis=1)])
    gamma = 3.0
    along = gamma * (cross[:, 0] + np.sqrt(1 - gamma**-2) * cross[:, 3])
    energy = gamma * (cross[:, 3] + np.sqrt(1 - gamma**-2) * cross[:, 0])
    boosted = np.column_stack([along, cross[:, 1:3], energy])
    out = thrust(np.concatenate([cross, boosted]), np.array([0, 6, 12]))
    total = lengths.sum()
    # sum_i |p_i n| = 2 (5 |n_1| + 3 |n_2| + |n_3|) is largest along (5, 3, 1)
    assert out[:, 0] == pytest.approx(np.linalg.norm(lengths) / total)
    np.testing.assert_allclose(out[0], out[1], atol=1e-9)
    flat = cross[[0, 1, 3, 4]]
    thrusts = thrust(flat, np.array([0, 4]))[0]
    assert thrusts == pytest.approx([np.hypot(5, 3) / 8, 2 * 15 / np.hypot(5, 3) / 8, 0], abs=1e-9)


def test_thrust_major_is_the_high_level_variable_and_the_minor_is_smaller():
    values, offsets = random_jets(30, 2, 1, 12)
    found = thrust(values, offsets)
    stored = high_level_variables(values, offsets)[:, HIGH_LEVEL_NAMES.index("thrust_maj")]
    np.testing.assert_allclose(found[:, 1], stored, rtol=1e-6, atol=1e-7)
    assert (found[[0, 3], 0] > found[[0, 3], 1]).all()
    assert (found[[0, 3], 1] > found[[0, 3], 2]).all()
    assert found[1] == pytest.approx([1, 0, 0], abs=1e-6)
    assert found[2].tolist() == [0, 0, 0]


def test_jets_without_constituents_are_zero():
    values, offsets = np.zeros((0, 4)), np.array([0, 0])
    assert angularity(values, offsets, 1.0, 1.0).tolist() == [0]
    assert jet_pull(values, offsets).tolist() == [[0, 0]]
    assert jet_charge(values, offsets, np.zeros(0)).tolist() == [0]
    assert thrust(values, offsets).tolist() == [[0, 0, 0]]


def test_mistakes():
    with pytest.raises(ValueError, match="expected kappa of 0 or more, found -1"):
        angularity(PAIR, ONE, -1, 1)
    with pytest.raises(ValueError, match="expected a positive radius, found 0"):
        angularity(PAIR, ONE, 1, 1, radius=0)
    with pytest.raises(ValueError, match="expected the axis winner or sum, found 'wta'"):
        angularity(PAIR, ONE, 1, 1, axis="wta")
    with pytest.raises(ValueError, match="expected 2 charges"):
        jet_charge(PAIR, ONE, np.ones(3))
