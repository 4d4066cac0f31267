"""Networks of Minkowski products: what they are invariant under, what breaks it, and products that do not cancel."""

import math

import pytest
import torch

from jetsweep.models import create_model
from jetsweep.models._minkowski import gram_matrix
from jetsweep.testing import (
    check_boost_invariance,
    check_lorentz_invariance,
    check_rotation_invariance,
    on_four_vectors,
    toy_four_vectors,
)

SMALL = {
    "lorentznet": {"width": 12, "num_layers": 3},
    "pelican": {"width": 16, "message_width": 10, "num_layers": 2},
}
ALONE = {"lorentznet": {"beams": False}, "pelican": {"references": "none"}}


def network_of(name, **config):
    torch.manual_seed(0)
    network = create_model(name, 7, 2, **SMALL[name], **config)
    for seed in range(3):
        p4_BP4, mask_BP, _ = toy_four_vectors(16, 12, seed=seed, min_constituents=2)
        tensors = {"features": torch.zeros(16, 12, 7), "p4": p4_BP4, "mask": mask_BP}
        network.train()(**{key: tensors[key] for key in network.inputs})
    if name == "lorentznet":
        # as after training: four-vectors do move
        for layer in network.layers[:-1]:
            torch.nn.init.xavier_uniform_(layer.vector_weight[-1].weight, gain=10.0)
    return network.eval()


def jets(dtype=torch.float64):
    p4_BP4, mask_BP, _ = toy_four_vectors(8, 12, seed=3)
    return p4_BP4.to(dtype), mask_BP


def jets_of_massless_float32():
    """Rounding of every component is all the mass there is."""
    p4_BP4, mask_BP = jets()
    p4_BP4[..., 3] = p4_BP4[..., :3].norm(dim=-1)
    return p4_BP4.float(), mask_BP


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rapidity", [0.5, 3.0])
def test_without_references_the_whole_lorentz_group_is_a_symmetry(name, rapidity):
    network = network_of(name, **ALONE[name]).double()
    assert len(network.references) == 0
    check_lorentz_invariance(network, "kin", *jets(), rapidity=rapidity, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_float32_keeps_the_symmetry_to_rounding(name):
    # a boost by 0.5 rounds every component anew by 6e-8; an angle of 0.01 to the neighbour makes 1e-5 of it
    check_lorentz_invariance(network_of(name, **ALONE[name]), "kin", *jets_of_massless_float32(), atol=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_references_leave_rotations_about_the_beam_alone(name):
    tagger = on_four_vectors(network_of(name).double(), "kin")
    check_rotation_invariance(tagger, *jets(), atol=1e-6)
    with pytest.raises(AssertionError, match="a boost"):
        check_boost_invariance(tagger, *jets(), atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_references_transform_with_the_constituents(name):
    network = network_of(name).double()
    before = network.references.clone()
    check_lorentz_invariance(network, "kin", *jets(), atol=1e-6)
    assert torch.equal(network.references, before)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("references", [True, False])
def test_jets_without_and_with_one_constituent(name, references):
    network = network_of(name, **({} if references else ALONE[name])).train()
    p4_BP4, mask_BP = jets(torch.float32)
    mask_BP = mask_BP & (torch.arange(12) < torch.tensor([0, 1, 1, 2, 12, 12, 12, 0])[:, None])
    p4_BP4 = p4_BP4.requires_grad_()
    tensors = {"features": torch.zeros(8, 12, 7), "p4": p4_BP4, "mask": mask_BP}
    logits_BC = network(**{key: tensors[key] for key in network.inputs})
    assert logits_BC.isfinite().all()
    logits_BC.logsumexp(dim=1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert p4_BP4.grad.isfinite().all()


def two_massless(angle, dtype=torch.float32):
    """Two massless four-vectors at an angle, in float32, and their product from the rounded momenta in float64."""
    p_23 = torch.tensor([[300.0, 40.0, 120.0], [300.0, 40.0, 120.0]], dtype=torch.float64)
    p_23[1] = 0.4 * (p_23[1] + angle * torch.tensor([-40.0, 300.0, 0.0]) * p_23[0].norm() / math.hypot(300.0, 40.0))
    p_23 = p_23.to(dtype).double()
    length_2 = p_23.norm(dim=1)
    # |a| |b| - a.b = |a x b|^2 / (|a| |b| + a.b)
    cross = torch.linalg.cross(p_23[0], p_23[1])
    exact = (cross @ cross) / (length_2.prod() + p_23[0] @ p_23[1])
    return torch.cat([p_23, length_2[:, None]], dim=1).to(dtype), exact


@pytest.mark.parametrize("angle", [1e-3, 1e-2, 0.1])
def test_products_of_nearly_collinear_massless_particles(angle):
    p4_24, exact = two_massless(angle)
    gram_22 = gram_matrix(p4_24[None])[0]
    # rounding / angle, not rounding / angle^2
    assert abs(gram_22[0, 1].double() / exact - 1) < 1e-6 / angle
    assert gram_22.diagonal().tolist() == [0.0, 0.0]
    plain = p4_24[0, 3] * p4_24[1, 3] - p4_24[0, :3] @ p4_24[1, :3]
    assert angle > 1e-3 or abs(plain.double() / exact - 1) > 1e-2


def test_products_are_the_metric():
    source = torch.Generator().manual_seed(0)
    p4_BN4 = torch.randn(3, 7, 4, generator=source, dtype=torch.float64)  # time-like and space-like
    metric_4 = torch.tensor([-1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(gram_matrix(p4_BN4), p4_BN4 * metric_4 @ p4_BN4.transpose(1, 2), atol=1e-13, rtol=1e-12)


def test_a_real_mass_is_kept():
    # a muon of 20 GeV in float32
    p4_4 = torch.tensor([12.0, 0.0, 16.0, math.sqrt(400.0 + 0.10566**2)])
    assert abs(gram_matrix(p4_4.view(1, 1, 4)).item() - 0.10566**2) < 0.1 * 0.10566**2


def test_products_of_null_and_large_vectors_are_finite_and_differentiable():
    p4_BN4 = torch.tensor([[[0.0] * 4, [0.0, 0.0, 0.0, 1.0], [1e15, 0.0, 0.0, 1e15], [0.0, 1e-15, 0.0, 1e-15]]])
    p4_BN4.requires_grad_()
    gram_BNN = gram_matrix(p4_BN4)
    assert gram_BNN.isfinite().all()
    assert gram_BNN[0, 0].tolist() == [0.0] * 4
    gram_BNN[0, 1:, 1:].sum().backward()
    assert p4_BN4.grad.isfinite().all()


def test_moving_products_is_moving_four_vectors():
    layer = network_of("lorentznet").double().layers[0]
    p4_BP4, mask_BP = jets()
    source = torch.Generator().manual_seed(1)
    itself_PP = torch.eye(12, dtype=torch.bool)
    pair_BPP = mask_BP[:, :, None] & mask_BP[:, None] & ~itself_PP
    weight_BPP = torch.where(pair_BPP, torch.randn(8, 12, 12, generator=source).double(), 0.0)
    difference_BPP4 = p4_BP4[:, :, None] - p4_BP4[:, None]
    num_others_B11 = (mask_BP.sum(dim=1) - 1).clamp(min=1)[:, None, None]
    moved_BP4 = p4_BP4 + layer.step * (weight_BPP[..., None] * difference_BPP4).sum(dim=2) / num_others_B11
    moved_BPP = layer._moved(gram_matrix(p4_BP4), weight_BPP, mask_BP)
    # gram_matrix of what moved takes no mass for rounding: it is no longer near 0
    torch.testing.assert_close(moved_BPP, gram_matrix(moved_BP4), atol=1e-7, rtol=1e-7)


def test_all_fifteen_maps_of_pairs_commute_with_permutations_and_none_is_missing():
    from jetsweep.models._layers import Slots
    from jetsweep.models._pelican_layers import PairsToPairs

    torch.manual_seed(0)
    num_nodes = 5
    pairs = Slots(torch.ones(1, num_nodes**2, dtype=torch.bool))
    maps = []
    for k in range(15):
        layer = PairsToPairs(1, 1).double()
        with torch.no_grad():
            layer.map_in.zero_()[0, k] = 1.0
            layer.mix_in.fill_(1.0)
            layer.map_out.zero_()
            columns = [
                layer(x[:, None], torch.tensor([float(num_nodes)]).double(), pairs)
                for x in torch.eye(num_nodes**2).double()
            ]
        maps.append(torch.cat(columns, dim=1))
    order = torch.tensor([3, 0, 4, 1, 2])
    place = (order[:, None] * num_nodes + order).flatten()
    for matrix in maps:
        torch.testing.assert_close(matrix[place][:, place], matrix)
    assert torch.linalg.matrix_rank(torch.stack(maps).flatten(1)) == 15
