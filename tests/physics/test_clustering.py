import numpy as np
import pytest

from jetsweep.physics.clustering import POWERS, cluster


def p4_of(pt, y, phi):
    return np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y), pt * np.cosh(y)])


def random_jets(seed, sizes):
    rng = np.random.default_rng(seed)
    size = sum(sizes)
    # about phi = pi, so that jets lie across the branch of the azimuth
    values = p4_of(np.exp(rng.normal(1, 1.2, size)), rng.normal(0, 0.4, size), rng.normal(np.pi, 0.4, size))
    return values, np.cumsum([0, *sizes])


def leaves(history, jet):
    """Constituents below every node of a jet."""
    low, high = history.offsets[jet : jet + 2]
    below = []
    for i, (a, b) in enumerate(history.children[low:high]):
        below.append(frozenset([i]) if a < 0 else below[a] | below[b])
    return below


def test_three_particles_by_hand():
    # C/A takes the closest pair, kt the pair with the softest, anti-kt the hardest with its neighbour
    values = p4_of(np.array([100.0, 50.0, 1.0]), np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.0, 0.0]))
    first = {}
    for algorithm in POWERS:
        history = cluster(values, [0, 3], algorithm)
        assert history.offsets.tolist() == [0, 5]
        first[algorithm] = history.children[3].tolist()
    assert first == {"cambridge": [0, 1], "kt": [1, 2], "antikt": [0, 1]}
    history = cluster(values, [0, 3], "kt")
    assert history.distance[1] == pytest.approx(0.9**2)
    assert history.distance[4] == np.inf
    assert history.step.tolist() == [1, 0, 0, 1, 2]
    assert history.parent.tolist() == [4, 3, 3, 4, -1]


def test_with_a_beam_distant_particles_stay_alone():
    values = p4_of(np.array([10.0, 5.0, 1.0]), np.array([0.0, 0.2, 2.0]), np.zeros(3))
    jets = cluster(values, [0, 3], "antikt", radius=0.5).inclusive()
    assert sorted(jets.p4[:, 0].tolist()) == pytest.approx([1.0, 15.0])
    assert cluster(values, [0, 3], "antikt", radius=0.5).inclusive(min_pt=2.0).p4.shape == (1, 4)
    assert jets.constituent_jet().tolist() == [1, 1, 0]


@pytest.mark.parametrize("algorithm", [*POWERS, 0.5])
def test_every_tree_is_a_tree(algorithm):
    values, offsets = random_jets(1, [0, 1, 2, 30, 0, 17])
    history = cluster(values, offsets, algorithm)
    assert np.diff(history.offsets).tolist() == [0, 1, 3, 59, 0, 33]
    for jet in range(6):
        low, high = history.offsets[jet : jet + 2]
        below = leaves(history, jet)
        for i in range(high - low):
            a, b = history.children[low + i]
            if a >= 0:
                assert max(a, b) < i
                assert history.parent[low + a] == history.parent[low + b] == i
                assert not below[a] & below[b]
                assert history.frame[low + a, 0] >= history.frame[low + b, 0]
        if high > low:
            assert below[-1] == frozenset(range(offsets[jet + 1] - offsets[jet]))
            total = values[offsets[jet] : offsets[jet + 1]].sum(axis=0)
            np.testing.assert_allclose(history.p4[high - 1], total, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("algorithm", POWERS)
def test_order_and_neighbours_in_the_batch_change_nothing(algorithm):
    values, offsets = random_jets(2, [25, 25])
    order = np.random.default_rng(0).permutation(25)
    shuffled = values.copy()
    shuffled[:25] = values[order]
    one, other = cluster(values, offsets, algorithm), cluster(shuffled, offsets, algorithm)
    assert set(leaves(one, 0)) == {frozenset(order[i] for i in below) for below in leaves(other, 0)}
    alone = cluster(values[25:], [0, 25], algorithm)
    assert (alone.children == one.children[49:]).all()
    assert (alone.p4 == one.p4[49:]).all()


def test_exclusive_jets_share_all_constituents():
    values, offsets = random_jets(3, [20, 2, 0])
    history = cluster(values, offsets, "kt")
    jets = history.exclusive(3)
    assert jets.offsets.tolist() == [0, 3, 5, 5]
    np.testing.assert_allclose(jets.p4[:3].sum(axis=0), values[:20].sum(axis=0))
    owner = jets.constituent_jet()
    for k in range(3):
        np.testing.assert_allclose(values[:20][owner[:20] == k].sum(axis=0), jets.p4[k])


def test_refusals():
    with pytest.raises(ValueError, match="one of the algorithms kt, cambridge, antikt"):
        cluster(np.ones((1, 4)), [0, 1], "cone")
    with pytest.raises(ValueError, match="positive radius"):
        cluster(np.ones((1, 4)), [0, 1], "kt", radius=0.0)
    with pytest.raises(ValueError, match="finite"):
        cluster(np.full((1, 4), np.nan), [0, 1])
    with pytest.raises(ValueError, match="0 or more"):
        cluster(np.ones((1, 4)), [0, 1]).exclusive(-1)


@pytest.mark.parametrize("radius", [0.4, 1.0, None])
@pytest.mark.parametrize("algorithm", POWERS)
def test_jets_are_those_of_fastjet_bit_for_bit(algorithm, radius):
    fastjet = pytest.importorskip("fastjet", reason="needs the extra `generate`")
    definition = fastjet.JetDefinition(getattr(fastjet, f"{algorithm}_algorithm"), radius or 1000.0)
    values, offsets = random_jets(4, [40, 1, 2, 80, 5])
    history = cluster(values, offsets, algorithm, radius)
    found = {"inclusive": history.inclusive(2.0), "exclusive": history.exclusive(2)}
    below = history.exclusive_below(3.0)
    for jet in range(5):
        particles = [fastjet.PseudoJet(*map(float, row)) for row in values[offsets[jet] : offsets[jet + 1]]]
        sequence = fastjet.ClusterSequence(particles, definition)
        expected = {"inclusive": sequence.inclusive_jets(2.0)}
        if radius is None or algorithm != "cambridge":
            # C/A's distances to the beam are all the same: which jet goes first is anybody's choice
            expected["exclusive"] = sequence.exclusive_jets_up_to(2)
        for what, jets in expected.items():
            rows = found[what].p4[slice(*found[what].offsets[jet : jet + 2])]
            assert sorted(map(tuple, rows.tolist())) == sorted((p.px(), p.py(), p.pz(), p.e()) for p in jets), what
        scale = 3.0 / 1000.0**2 if radius is None else 3.0
        if radius is None:
            # fastjet's beam at R = 1000 takes the last one, ours never does
            assert max(sequence.n_exclusive_jets(scale), 1) == max(np.diff(below.offsets)[jet], 1)
        else:
            assert sequence.n_exclusive_jets(scale) == np.diff(below.offsets)[jet]
