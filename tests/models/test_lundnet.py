"""The Lund tree as networks get it, and LundNet's edge convolution against a loop over links."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from jetsweep import make_dataset
from jetsweep.data import Batch, Ragged
from jetsweep.data.derived import derived_group
from jetsweep.models._features import Preprocessing
from jetsweep.models._jet_model import build_jet_model
from jetsweep.models._layers import Slots
from jetsweep.models.lundnet import LundNetConfig, TreeConv
from jetsweep.physics.lund import LUND_NODE_COLUMNS, LundCuts, lund_nodes, lund_plane_of_jets
from jetsweep.testing import toy_four_vectors

GOLDEN = [(100.0, 0.5, 0.1), (50.0, 0.6, -0.1), (10.0, 0.3, 0.3)]
INPUTS = ("features", "neighbours", "mask")


def p4_of(jet):
    return np.array(
        [[pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta), pt * math.cosh(eta)] for pt, eta, phi in jet]
    )


def batch_of(values, offsets):
    nodes, starts = map(torch.from_numpy, lund_nodes(values, offsets))
    group = Ragged(nodes, starts, LUND_NODE_COLUMNS)
    return Batch({"lund": group}, {}, {}, None, torch.arange(len(offsets) - 1))


def tree_of(network, p4):
    """One jet as the loader gives it to `network`."""
    ((name, _),) = network.preprocessing.group_columns.items()
    values, starts = map(torch.from_numpy, derived_group(name).make(p4, np.array([0, len(p4)])))
    return Batch({name: Ragged(values, starts, LUND_NODE_COLUMNS)}, {}, {}, None, torch.arange(1))


def test_golden_jet():
    five = Preprocessing("lund5", INPUTS, 4)(batch_of(p4_of(GOLDEN), [0, 3]))
    expected = [
        [-2.768418, -1.037691, -0.719040, 3.058667, 1.264894],
        [-1.098612, -1.497866, -0.463648, 2.759481, 2.414157],
    ]
    torch.testing.assert_close(five["features"][0, :2], torch.tensor(expected), atol=3e-6, rtol=0)
    assert five["mask"].tolist() == [[True, True, False, False]]
    assert five["neighbours"].tolist() == [[[-1, 1, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]]
    for name, columns in {"lund2": [1, 4], "lund3": [0, 1, 4], "lund4": [0, 1, 4, 2]}.items():
        some = Preprocessing(name, INPUTS, 4)(batch_of(p4_of(GOLDEN), [0, 3]))["features"]
        assert torch.equal(some, five["features"][..., columns])


def test_one_constituent_is_one_node_of_zeros_and_none_is_none():
    out = Preprocessing("lund5", INPUTS, 3)(batch_of(p4_of(GOLDEN)[:1], [0, 1, 1]))
    assert out["mask"].tolist() == [[True, False, False], [False, False, False]]
    assert out["features"].abs().max() == 0
    assert (out["neighbours"] == -1).all()


@pytest.mark.parametrize("cuts", [LundCuts(min_kt=5.0), LundCuts(min_delta=0.3), LundCuts(0.5, 0.05)])
def test_cuts_give_the_same_tree_on_both_ways(cuts):
    """From the loader's group, and from padded constituents as export and contracts do it."""
    p4, mask, _ = toy_four_vectors(num_jets=20, num_slots=12, seed=3, min_constituents=0)
    preprocessing = Preprocessing("lund5", INPUTS, 12, lund_cuts=cuts)
    offsets = np.concatenate([[0], np.cumsum(mask.sum(1).numpy())])
    ((name, columns),) = preprocessing.group_columns.items()
    group = derived_group(name)
    values, starts = map(torch.from_numpy, group.make(p4[mask].numpy(), offsets))
    found = preprocessing(Batch({name: Ragged(values, starts, group.columns)}, {}, {}, None, torch.arange(20)))
    padded = preprocessing.from_padded(p4, mask)
    assert columns == ()
    assert all(torch.equal(found[key], padded[key]) for key in INPUTS)
    assert torch.equal(found["mask"].any(1), mask.any(1)), "a jet of which all is cut is a node of zeros"
    bare = lund_plane_of_jets(p4[mask].numpy(), offsets, min_kt=cuts.min_kt, min_delta=cuts.min_delta)
    lengths = torch.from_numpy(np.diff(bare.offsets))
    assert torch.equal(found["mask"].sum(1), torch.where(mask.any(1), lengths.clamp(min=1), 0))
    assert (lengths < mask.sum(1) - 1).any()


def test_constituents_at_one_place_do_not_matter_to_a_network_with_a_resolution():
    network = build_jet_model(LundNetConfig(min_delta=0.01, widths=(8,)), 2, 16).eval()
    one, both = p4_of(GOLDEN), p4_of([GOLDEN[0], (30.0, 0.6, -0.1), (20.0, 0.6 + 1e-6, -0.1), GOLDEN[2]])
    with torch.no_grad():
        logits = [network(tree_of(network, p4)) for p4 in (one, both)]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)


def test_a_cut_below_zero_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        LundNetConfig(min_kt=-1.0)


def test_other_networks_do_not_get_trees():
    with pytest.raises(ValueError, match="does not provide what the network asks for"):
        Preprocessing("lund5", ("features", "mask"), 5)
    with pytest.raises(ValueError, match="does not provide what the network asks for"):
        Preprocessing("kin", INPUTS, 5)


def test_edge_convolution_is_the_mean_over_links():
    torch.manual_seed(0)
    block = TreeConv(3, 4).double().eval()
    x_ND = torch.randn(4, 3, dtype=torch.float64)
    # node 0 above 1 and 2, node 3 alone
    links = {0: [1, 2], 1: [0], 2: [0], 3: []}
    neighbour_N3 = torch.tensor([[0, 1, 2], [0, 1, 1], [0, 2, 2], [3, 3, 3]])
    is_link_N3 = torch.tensor([[False, True, True], [True, False, False], [True, False, False], [False] * 3])
    out_ND = block(x_ND, neighbour_N3, Slots(is_link_N3), None)
    for v, near in links.items():
        total = torch.zeros(4, dtype=torch.float64)
        for u in near:
            first = block.theta(x_ND[v] - x_ND[u]) + block.phi(x_ND[u])
            first = torch.relu(first / math.sqrt(1 + 1e-5))
            total += torch.relu(block.linear(first) / math.sqrt(1 + 1e-5))
        expected = torch.relu(total / max(len(near), 1) + block.shortcut(x_ND[v]) / math.sqrt(1 + 1e-5))
        torch.testing.assert_close(out_ND[v], expected)


def test_from_disk_to_logits(tmp_path):
    dataset = make_dataset("toy", tmp_path / "toy", jets=60)
    model = build_jet_model(LundNetConfig(widths=(8, 8), fusion_width=8, dense_width=8), 2, 12).eval()
    options = {"max_constituents": 12, "prefetch": 0, "shuffle": True}
    batch = next(dataset.loader("train", 16, groups={"lund": ()}, **options).batches(0))
    assert torch.equal(batch.groups["lund"].lengths, (batch.groups["constituents"].lengths - 1).clamp(min=1))
    logits_BC = model(batch)
    # the same jets clustered from padded constituents
    p4_BP4, mask_BP = batch.groups["constituents"].pad(12)
    again = model.network(**model.preprocessing.from_padded(p4_BP4, mask_BP))
    torch.testing.assert_close(logits_BC, again)
    alone = next(dataset.loader("train", 16, constituents=(), groups={"lund": ()}, **options).batches(0))
    assert set(alone.groups) == {"lund"}
    assert torch.equal(alone.groups["lund"].values, batch.groups["lund"].values)


def test_the_order_of_constituents_does_not_matter():
    p4_BP4, mask_BP, _ = toy_four_vectors(8, 12, seed=3)
    model = build_jet_model(LundNetConfig(), 2, 12).eval()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    one = model.network(**model.preprocessing.from_padded(p4_BP4, mask_BP))
    other = model.network(**model.preprocessing.from_padded(p4_BP4[:, order], mask_BP[:, order]))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
