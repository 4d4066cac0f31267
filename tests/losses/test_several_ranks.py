"""Losses that look at the whole batch have on two processes the value and the gradient they have on one."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from jetsweep.losses import distance_correlation, kl_per_jet, outlier_exposure
from jetsweep.training.world import World

CASES = ["disco", "disco of both", "disco squared with weights", "free bits", "exposure"]


def term(case, network, inputs, mass, weight):
    """The loss of a batch; `network` gives two numbers per jet."""
    first, second = network(inputs).T
    match case:
        case "disco":
            return first.square().mean() + 3 * distance_correlation(first, mass)
        case "disco of both":
            return distance_correlation(first, second)
        case "disco squared with weights":
            return distance_correlation(first.square(), mass, weight, power=2.0)
        case "free bits":
            return kl_per_jet(network(inputs), 0.1 * network(-inputs), "sum", free_bits=0.75).mean()
        case "exposure":
            return outlier_exposure("mse-margin", first.square(), second.square(), 0.3, weight)


def value_and_gradient(case, jets, world=None, num_jets=None):
    """As the training loop does it: the loss times the rank's share of jets, gradients averaged over ranks."""
    world = world or World.alone("cpu")
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    source = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
    loss = term(case, network, jets[:, :4], jets[:, 4], jets[:, 5].abs())
    share = len(jets) * world.size / (num_jets or len(jets))
    (loss * share).backward()
    world.average_gradients(network.parameters())
    gradient = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    return float(world.sum(loss.detach() * share)) / world.size, gradient


def _rank(rank, jets, split, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        own, world = (jets[:split], jets[split:])[rank], World(rank, 2, torch.device("cpu"))
        torch.save([value_and_gradient(case, own, world, len(jets)) for case in CASES], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_of_unequal_size_equal_one(two_ranks, tmp_path):
    jets = torch.randn(25, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    two_ranks(_rank, (jets, 11, str(tmp_path)))
    for rank in range(2):
        for case, (value, gradient) in zip(CASES, torch.load(tmp_path / f"{rank}.pt"), strict=True):
            expected, expected_gradient = value_and_gradient(case, jets)
            assert value == pytest.approx(expected, rel=1e-6), case
            torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9, msg=case)
            assert expected_gradient.abs().max() > 1e-3, case
