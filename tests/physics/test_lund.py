import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.physics.clustering import cluster
from jetsweep.physics.lund import lund_density, lund_plane, lund_plane_of_jets


def p4_of(constituents):
    return np.array(
        [[pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(y), pt * math.cosh(y)] for pt, y, phi in constituents]
    ).reshape(-1, 4)


def plane_of(constituents, **cuts):
    return lund_plane_of_jets(p4_of(constituents), [0, len(constituents)], **cuts)


def random_jet(seed, size):
    rng = np.random.default_rng(seed)
    columns = np.exp(rng.normal(2, 1.2, size)), rng.normal(0.4, 0.3, size), rng.normal(3.1, 0.3, size)
    return [(float(a), float(b), float(c)) for a, b, c in zip(*columns)]


def test_three_particles_have_known_coordinates():
    plane = plane_of([(100, 0.5, 0.1), (50, 0.6, -0.1), (10, 0.3, 0.3)])
    expected = {
        "ln_z": (-2.768418, -1.098612),
        "ln_delta": (-1.037691, -1.497866),
        "psi": (-0.719040, -0.463648),
        "ln_m": (3.058667, 2.759481),
        "ln_kt": (1.264894, 2.414157),
    }
    for name, column in expected.items():
        np.testing.assert_allclose(plane[name], column, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(plane["ln_kappa"], plane["ln_z"] + plane["ln_delta"])
    assert plane.links.tolist() == [[-1, 1, -1], [0, -1, -1]]
    assert plane.is_primary.all()


def test_an_emission_of_the_softer_branch_is_on_a_secondary_plane():
    plane = plane_of([(100, 0.0, 0.0), (20, 1.0, 0.0), (5, 1.1, 0.0), (30, 0.05, 0.0)])
    assert len(plane.values) == 3
    assert plane.is_primary.sum() == 2
    assert np.diff(plane.primary().offsets) == [2]
    secondary = plane.values[~plane.is_primary][0]
    assert secondary[1] == pytest.approx(math.log(0.1))
    assert plane.primary().links.tolist() == [[-1, 1, -1], [0, -1, -1]]


@given(st.integers(0, 10_000), st.integers(0, 40))
def test_links_make_one_tree(seed, size):
    plane = plane_of(random_jet(seed, size))
    assert len(plane.values) == max(size - 1, 0)
    for i, (above, *below) in enumerate(plane.links.tolist()):
        assert above < i
        assert (above == -1) == (i == 0)
        if i:
            assert i in plane.links[above, 1:]
        for j in below:
            assert j == -1 or plane.links[j, 0] == i


@given(st.integers(0, 10_000), st.integers(2, 30), st.floats(0.05, 0.95))
def test_the_primary_plane_above_a_cut_is_infrared_and_collinear_safe(seed, size, share):
    jet = random_jet(seed, size)
    pt, y, phi = jet[seed % size]
    soft = [*jet, (1e-8, y + 0.3, phi - 0.2)]
    split = [(share * pt, y, phi), ((1 - share) * pt, y + 1e-9, phi), *(p for p in jet if p != jet[seed % size])]
    plain, *others = (plane_of(x, min_kt=0.1).primary().values for x in (jet, soft, split))
    for other in others:
        np.testing.assert_allclose(other, plain, rtol=1e-4, atol=1e-5)


def test_without_a_cut_a_soft_emission_is_seen():
    jet = random_jet(0, 10)
    soft = [*jet, (1e-8, 0.5, 3.0)]
    assert len(plane_of(soft).values) == len(plane_of(jet).values) + 1


def test_cuts():
    jet = random_jet(7, 30)
    everything, cut = plane_of(jet), plane_of(jet, min_kt=1.0)
    assert (cut["ln_kt"] >= 0).all()
    primary = everything.primary()
    np.testing.assert_array_equal(cut.primary()["ln_kt"], primary["ln_kt"][primary["ln_kt"] >= 0])
    wide = list(itertools.takewhile(lambda x: x >= math.log(0.2), primary["ln_delta"]))
    assert 0 < len(wide) < len(primary.values)
    np.testing.assert_array_equal(plane_of(jet, min_delta=0.2).primary()["ln_delta"], wide)
    with pytest.raises(ValueError, match="min_kt of 0 or more"):
        plane_of(jet, min_kt=-1.0)


def test_density_integrates_to_the_number_of_declusterings():
    values = np.concatenate([p4_of(random_jet(seed, 20)) for seed in range(5)])
    plane = lund_plane_of_jets(values, np.arange(0, 101, 20)).primary()
    density = lund_density(plane, np.linspace(-5, 20, 26), np.linspace(-30, 20, 101))
    assert density.sum() * 0.5 == pytest.approx(len(plane.values) / 5)


def test_declusterings_are_those_of_fastjet():
    fastjet = pytest.importorskip("fastjet", reason="needs the extra `generate`")
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)
    for seed in range(10):
        values = p4_of(random_jet(seed, 30))
        plane = lund_plane(cluster(values, [0, 30])).primary()
        sequence = fastjet.ClusterSequence([fastjet.PseudoJet(*map(float, row)) for row in values], definition)
        jet, rows = sequence.inclusive_jets()[0], []
        while True:
            a, b = fastjet.PseudoJet(), fastjet.PseudoJet()
            if not jet.has_parents(a, b):
                break
            if b.pt2() > a.pt2():
                a, b = b, a
            rows.append([math.log(b.pt() * a.delta_R(b)), math.log(a.delta_R(b)), math.log(b.pt() / (a.pt() + b.pt()))])
            jet = a
        np.testing.assert_allclose(plane.values[:, :3], rows, rtol=1e-9, atol=1e-9)
