import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.physics.high_level import HIGH_LEVEL_NAMES, high_level_variables


def p4_of(constituents):
    return np.array(
        [[pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(y), pt * math.cosh(y)] for pt, y, phi in constituents]
    ).reshape(-1, 4)


def variables(*jets):
    values = np.concatenate([p4_of(jet) for jet in jets])
    offsets = np.cumsum([0, *(len(jet) for jet in jets)])
    table = high_level_variables(values, offsets)
    rows = [dict(zip(HIGH_LEVEL_NAMES, map(float, row))) for row in table]
    return rows[0] if len(jets) == 1 else rows


def random_jet(seed, size):
    rng = np.random.default_rng(seed)
    pt = np.exp(rng.normal(2, 1.2, size))
    return [
        (float(a), float(b), float(c)) for a, b, c in zip(pt, rng.normal(0.4, 0.3, size), rng.normal(1.0, 0.3, size))
    ]


def test_two_constituents_have_closed_forms():
    z, r = 0.3, 0.5
    jet = variables([(70.0, 0.0, 0.0), (30.0, 0.3, 0.4)])
    assert jet["ecf1"] == pytest.approx(100)
    assert jet["ecf2"] == pytest.approx(2100 * r)
    assert jet["ecf3"] == jet["c2"] == jet["d2"] == jet["l2"] == jet["l3"] == 0
    assert jet["split12"] == pytest.approx(30 * r)
    assert jet["split23"] == 0
    # the winner takes the axis: only the softer one is away from it
    assert jet["tau1_wta"] == pytest.approx(z * r)
    assert jet["tau2_wta"] == jet["tau3_wta"] == 0
    mass = math.sqrt(2 * 70 * 30 * (math.cosh(0.3) - math.cos(0.4)))
    assert jet["qw"] == pytest.approx(mass, rel=1e-6)
    # back to back in the rest frame: nothing is perpendicular to the thrust axis
    assert jet["thrust_maj"] == pytest.approx(0, abs=1e-6)


def test_three_constituents_have_closed_forms():
    side = 0.2
    corners = [(0.0, 0.0), (side, 0.0), (side / 2, side * math.sqrt(3) / 2)]
    jet = variables([(40.0, y, phi) for y, phi in corners])
    assert jet["ecf2"] == pytest.approx(3 * 1600 * side, rel=1e-6)
    assert jet["ecf3"] == pytest.approx(64000 * side**3, rel=1e-6)
    assert jet["c2"] == pytest.approx(64000 * side**3 * 120 / (4800 * side) ** 2, rel=1e-6)
    assert jet["d2"] == pytest.approx(64000 * side**3 * 120**3 / (4800 * side) ** 3, rel=1e-6)
    # with equal sides: z = 1/3, three pairs, one triple
    assert jet["l2"] == pytest.approx((side**3 / 27) / (3 * side**2 / 9) ** 1.5, rel=1e-6)
    assert jet["l3"] == pytest.approx((side**3 / 27) / math.sqrt(side**6 / 27), rel=1e-6)
    assert jet["tau3_wta"] == 0
    assert jet["tau2_wta"] == pytest.approx(side / 3, rel=1e-6)


def test_a_ring_in_the_rest_frame_has_the_thrust_major_of_a_circle():
    # many equal momenta on a circle: every direction in the plane collects 2/pi of their sum
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = np.column_stack([np.zeros(400), np.cos(turn), np.sin(turn), np.ones(400)])
    out = high_level_variables(ring, np.array([0, 400]))
    assert out[0, HIGH_LEVEL_NAMES.index("thrust_maj")] == pytest.approx(2 / math.pi, rel=1e-3)


@given(st.integers(0, 10_000), st.integers(4, 40))
def test_order_and_rotation_about_the_beam_change_nothing(seed, size):
    jet = random_jet(seed, size)
    shuffled = [jet[i] for i in np.random.default_rng(seed).permutation(size)]
    turned = [(pt, y, phi + 2.5) for pt, y, phi in jet]
    plain, *others = variables(jet, shuffled, turned)
    for other in others:
        for name in HIGH_LEVEL_NAMES:
            assert other[name] == pytest.approx(plain[name], rel=1e-4, abs=1e-6), name


@given(st.integers(0, 10_000))
def test_soft_emissions_and_collinear_splits_change_nothing_that_is_safe(seed):
    jet = random_jet(seed, 12)
    soft = [*jet, (1e-9, 0.5, 1.5)]
    pt, y, phi = jet[0]
    split = [(0.6 * pt, y, phi), (0.4 * pt, y + 1e-9, phi), *jet[1:]]
    plain, softer, collinear = variables(jet, soft, split)
    for name in HIGH_LEVEL_NAMES:
        assert softer[name] == pytest.approx(plain[name], rel=1e-4, abs=1e-5), name
        assert collinear[name] == pytest.approx(plain[name], rel=1e-4, abs=1e-5), name


def test_odd_jets_are_finite():
    for jet in ([], [(50.0, 0.1, 0.2)], [(50.0, 0.1, 0.2)] * 5, [(1e-4, 9.0, 3.0), (500.0, -9.0, -3.0)]):
        out = high_level_variables(p4_of(jet), np.array([0, len(jet)]))
        assert np.isfinite(out).all()
    assert high_level_variables(np.zeros((0, 4)), np.array([0, 0])).tolist() == [[0.0] * 15]


def test_splitting_scales_and_subjets_are_those_of_fastjet():
    fastjet = pytest.importorskip("fastjet", reason="needs the extra `generate`")
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 1000.0)
    winner = fastjet.JetDefinition(fastjet.kt_algorithm, 1000.0, fastjet.WTA_pt_scheme)
    for seed in range(20):
        jet = random_jet(seed, 30)
        found = variables(jet)
        particles = [fastjet.PseudoJet(*row) for row in p4_of(jet)]
        clusters = fastjet.ClusterSequence(particles, definition)
        # fastjet divides by R^2
        assert found["split12"] == pytest.approx(1e3 * math.sqrt(clusters.exclusive_dmerge(1)), rel=1e-5)
        assert found["split23"] == pytest.approx(1e3 * math.sqrt(clusters.exclusive_dmerge(2)), rel=1e-5)
        three = clusters.exclusive_jets(3)
        masses = [(three[a] + three[b]).m() for a in range(3) for b in range(a)]
        assert found["qw"] == pytest.approx(min(masses), rel=1e-5)
        axes_of = fastjet.ClusterSequence(particles, winner)
        for count in (1, 2, 3, 4):
            axes = axes_of.exclusive_jets(count)
            tau = sum(p.pt() * min(p.delta_R(axis) for axis in axes) for p in particles) / sum(
                p.pt() for p in particles
            )
            assert found[f"tau{count}_wta"] == pytest.approx(tau, rel=1e-5)
