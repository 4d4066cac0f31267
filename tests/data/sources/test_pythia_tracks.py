"""Origins and vertices by hand-made family trees, and of jets that Pythia makes."""

import numpy as np
import pytest

from jetsweep.data.sources._pythia_tracks import impact_parameters, track_truth


def test_origins_and_vertices_of_a_family():
    # 0 system, 1 gluon, 2 pion, 3 B0, 4 D+, 5 pion of the B, 6 pion of the D, 7 D*, 8 kaon of the D*,
    # 9 tau, 10 muon of the tau, 11 Lambda, 12 proton of the Lambda; then another event: 13 system, 14 pion
    pdg_id = np.array([90, 21, 211, 511, 411, 211, 211, 413, 321, 15, 13, 3122, 2212, 90, 211])
    mother = np.array([0, 0, 1, 1, 3, 3, 4, 1, 7, 1, 9, 1, 11, 13, 13])
    event = np.array([0] * 13 + [1] * 2)
    position = np.zeros((15, 3))
    position[[4, 5], 0], position[6, 0], position[10, 1], position[12, 2] = 2.0, 5.0, 1.0, 30.0
    truth = track_truth(pdg_id, mother, position, event)
    assert truth["origin"].tolist() == [2, 2, 2, 2, 3, 3, 4, 2, 5, 2, 6, 2, 7, 2, 2]
    vertex = truth["vertex"]
    assert (vertex[[0, 1, 2, 3, 7, 8, 9, 11, 13, 14]] == 0).all()
    assert vertex[4] == vertex[5]
    assert len({0, int(vertex[5]), int(vertex[6]), int(vertex[10]), int(vertex[12])}) == 5


def test_an_event_without_tracks_from_the_collision():
    truth = track_truth(
        np.full(3, 211), np.arange(3), np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 3.0, 0]]), np.zeros(3, int)
    )
    assert 0 not in truth["vertex"]
    assert truth["vertex"][0] == truth["vertex"][1] != truth["vertex"][2]


def test_impact_parameters_are_those_of_straight_lines():
    rng = np.random.default_rng(0)
    p4 = np.tile([3.0, 4.0, 10.0, np.sqrt(125.0)], (4000, 1))
    # along the direction of flight from (0.3, -0.2, 1.5), and the closest approach to the beam by minimisation
    start = np.array([0.3, -0.2, 1.5])
    step = np.linspace(-1, 1, 200_001)
    line = start + step[:, None] * p4[0, :3] / 5.0
    nearest = line[np.hypot(line[:, 0], line[:, 1]).argmin()]
    found = impact_parameters(p4, np.tile(start, (4000, 1)), rng)
    scatter = found["d0"].std() / np.sqrt(4000)
    assert abs(found["d0"].mean()) == pytest.approx(np.hypot(nearest[0], nearest[1]), abs=4 * scatter)
    assert found["dz"].mean() == pytest.approx(nearest[2], abs=4 * found["dz"].std() / np.sqrt(4000))
    assert found["d0"].std() == pytest.approx(found["d0_err"][0], rel=0.05)
    assert found["d0_err"][0] == pytest.approx(np.hypot(0.01, 0.1 / 5))


def test_the_b_of_a_top_is_displaced_and_tracks_change_no_jet():
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")
    from jetsweep.data.sources._pythia_events import generate_chunk

    jets, bare = (generate_chunk("top-qcd", 1, 1, 0, 25, tracks) for tracks in (True, False))
    assert all(np.array_equal(jets.values[name], bare.values[name]) for name in bare.values)
    charged, origin, vertex = jets.values["charge"] != 0, jets.values["origin"], jets.values["vertex"]
    assert (origin[~charged] == -1).all()
    assert (vertex[~charged] == -1).all()
    of_b = charged & ((origin == 3) | (origin == 4))
    assert len(np.unique(jets.jet[of_b])) > 20  # a top's jet holds its b
    significance = np.abs(jets.values["d0"]) / np.maximum(jets.values["d0_err"], 1e-6)
    assert np.mean(significance[of_b] > 4) > 0.5
    assert np.mean(significance[charged & (vertex == 0)] > 4) < 0.03


@pytest.mark.parametrize("label", [0, 1])
def test_particles_without_a_vertex_come_from_the_collision(label):
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")
    from jetsweep.data.sources._pythia_events import generate_chunk

    jets = generate_chunk("top-qcd", label, 1, 0, 10, True)
    assert len(jets.checked()) == len(jets)  # nothing is left out for want of a finite number
    primary = (jets.values["charge"] != 0) & (jets.values["origin"] == 2)
    assert primary.mean() > 0.3
    assert np.abs(jets.values["d0"] / np.maximum(jets.values["d0_err"], 1e-6))[primary].max() < 10
