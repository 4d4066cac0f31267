"""Every check passes where it should and is itself tested on something that must fail it."""

import pytest
import torch
from torch import nn

from jetsweep.models import create_model
from jetsweep.testing import (
    ModelContract,
    check_batch_independence,
    check_boost_invariance,
    check_finite_gradients,
    check_irc_safety,
    check_padding_invariance,
    check_permutation_invariance,
    check_rotation_invariance,
    on_four_vectors,
    toy_four_vectors,
)


class Broken(nn.Module):
    """Sums over slots, and goes wrong where it is told to."""

    inputs = ("features", "mask")

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.linear = nn.Linear(3, 2)
        self.idle = nn.Linear(1, 1) if fault == "idle" else None

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = torch.where(mask[..., None], features, 0.0)
        if self.fault == "order":
            x = x * torch.arange(x.shape[1])[:, None]
        if self.fault == "padding":
            x = features * mask[..., None]
        if self.fault == "batch":
            x = x - x.mean(dim=0)
        if self.fault == "gradient":
            return self.linear(x.sum(dim=1)) * torch.sqrt(self.linear.weight.sum() * 0.0)
        return self.linear(x.sum(dim=1))


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {"features": torch.randn(4, 6, 3), "mask": torch.arange(6) < torch.tensor([[6], [3], [1], [5]])}


LABEL = torch.tensor([0, 1, 0, 1])


def test_a_sound_network_passes(tensors):
    network = Broken("none")
    check_permutation_invariance(network, tensors)
    check_padding_invariance(network, tensors)
    check_batch_independence(network, tensors)
    check_finite_gradients(network, tensors, LABEL)


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("order", check_permutation_invariance, "the order of constituents changes the output"),
        ("padding", check_padding_invariance, "more empty slots holding nan change the output"),
        ("batch", check_batch_independence, "jet 0 alone differs from the same jet in its batch"),
    ],
)
def test_a_faulty_network_is_caught(tensors, fault, check, message):
    with pytest.raises(AssertionError, match=message):
        check(Broken(fault), tensors)


@pytest.mark.parametrize(
    ("fault", "message"), [("idle", "idle.weight gets no gradient"), ("gradient", "linear.weight is not finite")]
)
def test_bad_gradients_are_caught(tensors, fault, message):
    with pytest.raises(AssertionError, match=message):
        check_finite_gradients(Broken(fault), tensors, LABEL)


def test_checks_leave_the_mode_as_it_was(tensors):
    network = Broken("none").train()
    check_padding_invariance(network, tensors)
    assert network.training


def jets():
    p4_BP4, mask_BP, _ = toy_four_vectors(8, 12, seed=3, min_constituents=5)
    return p4_BP4.double(), mask_BP


def mass(p4_BP4, mask_BP):
    total = torch.where(mask_BP[..., None], p4_BP4, 0.0).sum(dim=1)
    return (total[:, 3] ** 2 - (total[:, :3] ** 2).sum(dim=1)).clamp(min=0).sqrt()


def multiplicity(p4_BP4, mask_BP):
    return mask_BP.sum(dim=1).double()


def px(p4_BP4, mask_BP):
    return p4_BP4[..., 0].sum(dim=1)


def energy(p4_BP4, mask_BP):
    return p4_BP4[..., 3].sum(dim=1)


def test_mass_has_every_symmetry():
    for check in (check_irc_safety, check_rotation_invariance, check_boost_invariance):
        check(mass, *jets(), atol=1e-4)


@pytest.mark.parametrize(
    ("check", "tagger", "message"),
    [
        (check_irc_safety, multiplicity, "a collinear splitting changes the output"),
        (check_rotation_invariance, px, "a rotation by 2.0 about the beam changes the output"),
        (check_boost_invariance, energy, "a boost by 0.5 along the beam changes the output"),
    ],
)
def test_what_lacks_a_symmetry_is_caught(check, tagger, message):
    with pytest.raises(AssertionError, match=message):
        check(tagger, *jets())


def test_a_soft_particle_alone_is_caught():
    def hidden_count(p4_BP4, mask_BP):
        # blind to splittings of the leading constituent, not to soft ones
        return (mask_BP & (p4_BP4[..., 3] < 1e-3)).sum(dim=1).double()

    with pytest.raises(AssertionError, match="a soft emission changes the output"):
        check_irc_safety(hidden_count, *jets())


@pytest.mark.parametrize("features", ["kin", "atlas7"])
def test_rotations_about_the_beam_leave_networks_alone(features):
    torch.manual_seed(0)
    network = create_model("pfn", 7, 2)
    p4_BP4, mask_BP, _ = toy_four_vectors(8, 12, seed=3)
    check_rotation_invariance(on_four_vectors(network, features), p4_BP4, mask_BP, atol=1e-3)
    with pytest.raises(AssertionError, match="a boost"):
        check_boost_invariance(on_four_vectors(network, features), p4_BP4, mask_BP)


def test_a_contract_is_failed_by_a_faulty_network():
    class Contract(ModelContract):
        def make(self, config=None, seed=0):
            return Broken("order")

        def toys(self, seed=0, config=None, **options):
            torch.manual_seed(seed)
            mask = torch.arange(6) < torch.tensor([[6], [3], [1], [5]])
            return {"features": torch.randn(4, 6, 3), "mask": mask}, LABEL, 3

    Contract().test_padding_does_not_matter()
    with pytest.raises(AssertionError, match="order of constituents"):
        Contract().test_order_of_constituents_does_not_matter()
