"""Networks that give constituents a place: by pT inside (pcnn), by slot (dnn), by direction (resnet)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jetsweep.models import create_model
from jetsweep.models._layers import MaskedBatchNorm
from jetsweep.testing import check_permutation_invariance, on_four_vectors, toy_four_vectors

SMALL_PCNN = {"stem_width": 8, "widths": (8, 16), "units_per_stage": 2, "dense_width": 16}


def random_jet(num_jets=1, num_constituents=13, num_slots=13):
    torch.manual_seed(2)
    features, mask = torch.randn(num_jets, num_slots, 7), torch.arange(num_slots) < torch.tensor([[num_constituents]])
    p4 = toy_four_vectors(num_jets, num_slots, min_constituents=num_slots)[0]
    return {"features": features, "p4": p4, "mask": mask.expand(num_jets, -1)}


def pcnn():
    torch.manual_seed(0)
    network = create_model("pcnn", 7, 3, **SMALL_PCNN)
    for norm in network.modules():
        if isinstance(norm, MaskedBatchNorm):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.normal_(norm.bias, std=0.3)
    return network.eval()


def without_slots(network, x_BFP):
    """The published recipe for a jet without empty slots, in plain torch."""

    def norm(norm, x):
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def layer(layer, x, stride):
        x = F.conv1d(x, layer.conv.weight, layer.conv.bias, stride, padding=1)
        return norm(layer.norm, x).relu()

    x = layer(network.stem, norm(network.input_norm, x_BFP), 1)
    for unit, stride in zip(network.units, (1, 1, 2, 1)):
        has_shortcut = isinstance(unit.shortcut, nn.Conv1d)
        shortcut = F.conv1d(x, unit.shortcut.weight, None, stride) if has_shortcut else x
        x = layer(unit.second, layer(unit.first, x, stride), 1) + shortcut
    return network.output(network.dense(x.mean(dim=2)).relu())


@pytest.mark.parametrize("num_constituents", [1, 2, 12, 13])
def test_pcnn_gives_a_jet_what_it_gets_without_empty_slots(num_constituents):
    network, jet = pcnn(), random_jet(2, num_constituents)
    expected = without_slots(network, jet["features"][:, :num_constituents].transpose(1, 2))
    torch.testing.assert_close(network(**jet), expected, atol=1e-6, rtol=1e-5)


def test_pcnn_takes_its_order_from_pt():
    network, jet = pcnn(), random_jet()
    before = network(**jet)
    swapped = jet | {"p4": jet["p4"].flip(1)}
    assert (network(**swapped) - before).abs().max() > 1e-3
    everything = {name: x.flip(1) for name, x in jet.items()}
    torch.testing.assert_close(network(**everything), before)


def test_dnn_depends_on_the_slots():
    jet = {name: x for name, x in random_jet(4).items() if name != "p4"}
    with pytest.raises(AssertionError, match="the order of constituents changes the output"):
        check_permutation_invariance(create_model("dnn", 7, 2), jet)


def test_dnn_cuts_and_fills_up_to_its_slots():
    network = create_model("dnn", 7, 2, num_constituents=10, width=16).eval()
    jet = {name: x for name, x in random_jet(4).items() if name != "p4"}
    ten = {name: x[:, :10] for name, x in jet.items()}
    torch.testing.assert_close(network(**jet), network(**ten))
    six = {name: x[:, :6] for name, x in jet.items()}
    masked = ten | {"mask": torch.arange(10).expand(4, 10) < 6}
    torch.testing.assert_close(network(**six), network(**masked))


def test_input_norm_of_a_slot_sees_the_jets_that_fill_it():
    norm = MaskedBatchNorm(3)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    counts = torch.tensor([50, 20, 1])
    mask = torch.arange(50)[:, None] < counts
    out = norm(torch.where(mask, x, 0.0), mask)
    for column, count in enumerate([50, 20]):
        plain = nn.BatchNorm1d(1)
        torch.testing.assert_close(out[:count, column : column + 1], plain(x[:count, column : column + 1]))
        torch.testing.assert_close(norm.running_mean[column : column + 1], plain.running_mean)
        torch.testing.assert_close(norm.running_var[column : column + 1], plain.running_var)
    # a single value has no spread
    assert (norm.running_mean[2], norm.running_var[2]) == (0.0, 1.0)


def test_resnet_does_not_see_the_frame_of_the_jet():
    torch.manual_seed(0)
    tagger = on_four_vectors(create_model("resnet", 3, 2, num_blocks=(1, 1), base_width=4), "aligned")
    p4, mask, _ = toy_four_vectors(4, 20, min_constituents=3)
    mirrored = p4 * torch.tensor([1.0, 1.0, -1.0, 1.0])
    torch.testing.assert_close(tagger(mirrored, mask), tagger(p4, mask), atol=1e-5, rtol=1e-5)


def test_resnet_image_holds_the_shares_of_momentum():
    network = create_model("resnet", 3, 1)
    z, angles = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[[0.0, 0.0], [0.0, -0.5], [5.0, 0.0]]])
    image = network.image(z, angles, torch.ones(1, 3, dtype=torch.bool))
    assert image.shape == (1, 1, 64, 64)
    # the third lies outside
    torch.testing.assert_close(image.sum() / 64, torch.tensor(0.9))
    torch.testing.assert_close(image[0, 0, 24, 32] / 64, torch.tensor(0.3))
