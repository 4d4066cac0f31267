"""N-subjettiness, energy correlators and soft drop against closed forms and plain-Python oracles."""

import itertools
import math

import numpy as np
import pytest

from jetsweep.physics.clustering import cluster
from jetsweep.physics.high_level import HIGH_LEVEL_NAMES, high_level_variables
from jetsweep.physics.substructure import energy_correlators, n_subjettiness, soft_drop


def four(pt, y, phi):
    return np.array([pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(y), pt * math.cosh(y)])


def frame(p):
    return math.hypot(p[0], p[1]), 0.5 * math.log((p[3] + p[2]) / (p[3] - p[2])), math.atan2(p[1], p[0])


def distance(a, b):
    turn = abs(a[2] - b[2])
    return math.hypot(a[1] - b[1], min(turn, 2 * math.pi - turn))


def random_jet(seed, size):
    rng = np.random.default_rng(seed)
    return [four(p, y, f) for p, y, f in zip(np.exp(rng.normal(2, 1, size)), *rng.normal(0.4, 0.3, (2, size)))]


def batch(*jets):
    return np.concatenate([np.reshape(jet, (-1, 4)) for jet in jets]), np.cumsum([0, *(len(jet) for jet in jets)])


def oracle_cluster(jet, power, count, winner):
    """Groups of (frame, four-vector, history) left when `count` are, by looking at every pair at every step."""
    groups = [(frame(p), p, None) for p in jet]
    while len(groups) > count:
        i, j = min(
            itertools.combinations(range(len(groups)), 2),
            key=lambda pair: (
                min(groups[pair[0]][0][0] ** (2 * power), groups[pair[1]][0][0] ** (2 * power))
                * distance(groups[pair[0]][0], groups[pair[1]][0]) ** 2
            ),
        )
        a, b = sorted((groups[i], groups[j]), key=lambda g: -g[0][0])
        merged = a[1] + b[1]
        of_merged = (a[0][0] + b[0][0], *a[0][1:]) if winner else frame(merged)
        groups = [g for k, g in enumerate(groups) if k not in (i, j)] + [(of_merged, merged, (a, b))]
    return groups


JETS = [random_jet(seed, size) for seed, size in ((1, 14), (2, 9), (3, 3), (4, 1))]


@pytest.mark.parametrize(("axes", "beta"), [("winner", 0.5), ("winner", 1.0), ("sum", 2.0)])
def test_n_subjettiness_is_that_of_plain_python(axes, beta):
    found = n_subjettiness(*batch(*JETS, []), (1, 2, 3), beta=beta, radius=0.8, axes=axes)
    for row, jet in zip(found, JETS):
        for value, count in zip(row, (1, 2, 3)):
            lines = [g[0] for g in oracle_cluster(jet, 1.0, count, axes == "winner")]
            parts = [frame(p) for p in jet]
            total = sum(p[0] for p in parts)
            expected = sum(p[0] * (min(distance(p, a) for a in lines) / 0.8) ** beta for p in parts) / total
            assert value == pytest.approx(expected if len(jet) > count else 0, rel=1e-9)
    assert found[-1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_correlators_are_those_of_plain_python(beta):
    found = energy_correlators(*batch(*JETS, []), beta=beta)
    for i, jet in enumerate(JETS):
        parts = [frame(p) for p in jet]
        total = sum(p[0] for p in parts)
        e2 = sum(a[0] * b[0] * distance(a, b) ** beta for a, b in itertools.combinations(parts, 2)) / total**2
        triples = [
            (
                math.prod(p[0] / total for p in three),
                sorted(distance(*x) ** beta for x in itertools.combinations(three, 2)),
            )
            for three in itertools.combinations(parts, 3)
        ]
        v = [sum(z * math.prod(angles[:n]) for z, angles in triples) for n in (1, 2, 3)]
        assert (found.sum_pt[i], found.e2[i]) == pytest.approx((total, e2))
        assert [found.v1e3[i], found.v2e3[i], found.v3e3[i]] == pytest.approx(v)
        if len(jet) > 2:
            ratios = (v[2] / e2**2, v[2] / e2**3, v[0] / e2, v[1] / e2**2)
            assert (found.c2[i], found.d2[i], found.m2[i], found.n2[i]) == pytest.approx(ratios)
    assert [getattr(found, name)[-1] for name in ("e2", "v3e3", "c2", "d2", "m2", "n2")] == [0] * 6


def test_equal_sides_have_closed_forms():
    side = 0.2
    corners = [(0.0, 0.0), (side, 0.0), (side / 2, side * math.sqrt(3) / 2)]
    found = energy_correlators(*batch([four(40, *corner) for corner in corners]), beta=2.0)
    assert found.e2 == pytest.approx([3 * side**2 / 9])
    assert [x[0] for x in (found.v1e3, found.v2e3, found.v3e3)] == pytest.approx(
        [side ** (2 * n) / 27 for n in (1, 2, 3)]
    )
    assert found.n2 == pytest.approx([(side**4 / 27) / (side**2 / 3) ** 2])
    assert found.ecf2 == pytest.approx([3 * 1600 * side**2])
    assert found.ecf3 == pytest.approx([64000 * side**6])


def test_exponent_one_is_the_high_level_variables():
    values, offsets = batch(*JETS)
    stored = dict(zip(HIGH_LEVEL_NAMES, high_level_variables(values, offsets).T))
    found = energy_correlators(values, offsets)
    for name, own in (("ecf1", "sum_pt"), ("ecf2", "ecf2"), ("ecf3", "ecf3"), ("c2", "c2"), ("d2", "d2")):
        np.testing.assert_allclose(getattr(found, own), stored[name], rtol=1e-5)
    taus = n_subjettiness(values, offsets, (1, 2, 3, 4))
    np.testing.assert_allclose(taus, np.stack([stored[f"tau{n}_wta"] for n in (1, 2, 3, 4)], axis=1), rtol=1e-5)


@pytest.mark.parametrize(("z_cut", "beta"), [(0.1, 0.0), (0.3, 0.0), (0.2, 1.0), (0.2, -1.0)])
def test_soft_drop_is_that_of_plain_python(z_cut, beta):
    found = soft_drop(cluster(*batch(*JETS, []), "cambridge"), z_cut, beta, 0.8)
    for i, jet in enumerate(JETS):
        ((_, vector, split),) = oracle_cluster(jet, 0.0, 1, winner=False)
        z, angle, dropped = 0.0, 0.0, 0
        while split is not None:
            a, b = split
            share, far = b[0][0] / (a[0][0] + b[0][0]), distance(a[0], b[0])
            if share > z_cut * (far / 0.8) ** beta:
                z, angle = share, far
                break
            _, vector, split = a
            dropped += 1
        mass = math.sqrt(max(vector[3] ** 2 - (vector[:3] ** 2).sum(), 0))
        assert found.mass[i] == pytest.approx(mass, abs=1e-5)
        assert found.pt[i] == pytest.approx(math.hypot(vector[0], vector[1]))
        assert (found.z_g[i], found.r_g[i], found.dropped[i]) == pytest.approx((z, angle, dropped))
    assert [x[-1] for x in vars(found).values()] == [0] * 5


def test_soft_drop_takes_a_soft_wide_branch_away():
    jet = [four(60, 0.0, 0.0), four(40, 0.1, 0.0), four(2, 0.0, 0.6)]
    found = soft_drop(cluster(*batch(jet), "cambridge"))
    assert found.dropped.tolist() == [1]
    assert (found.z_g[0], found.r_g[0]) == pytest.approx((0.4, 0.1))
    assert found.mass[0] == pytest.approx(math.sqrt(2 * 60 * 40 * (math.cosh(0.1) - 1)))
    # with a wide angle forgiven nothing is dropped
    assert soft_drop(cluster(*batch(jet), "cambridge"), 0.1, -20.0, 0.5).dropped.tolist() == [0]


def test_mistakes():
    values, offsets = batch(JETS[0])
    with pytest.raises(ValueError, match="expected 1 axis or more, found 0"):
        n_subjettiness(values, offsets, (1, 0))
    with pytest.raises(ValueError, match="expected beta and radius above 0, found 0 and 1"):
        n_subjettiness(values, offsets, beta=0)
    with pytest.raises(ValueError, match="expected the axes winner or sum, found 'kt'"):
        n_subjettiness(values, offsets, axes="kt")
    with pytest.raises(ValueError, match="expected beta above 0, found 0"):
        energy_correlators(values, offsets, 0)
    with pytest.raises(ValueError, match="expected a positive radius, found 0"):
        soft_drop(cluster(values, offsets), radius=0)
