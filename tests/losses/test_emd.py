"""Energy mover's distance against assignments and closed forms."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from jetsweep.losses.emd import sinkhorn_emd


def test_equal_energies_are_an_assignment():
    a, b = torch.rand(2, 3, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy = torch.full((3, 5), 20.0, dtype=torch.float64)
    found = sinkhorn_emd(a, energy, b, energy, radius=0.5, smoothing=0.003, iterations=500)
    for i, cost in enumerate(torch.cdist(a, b) / 0.5):
        rows, columns = linear_sum_assignment(cost.numpy())
        assert float(found[i]) == pytest.approx(float(cost[rows, columns].mean()), rel=1e-2)


def test_two_against_one_and_empty_slots():
    pair = torch.tensor([[[0.0, 0.0], [0.3, 0.4], [torch.nan, 9.0]]])
    one = torch.tensor([[[0.0, 0.0]]])
    energy = torch.tensor([[30.0, 10.0, 0.0]])
    assert float(sinkhorn_emd(pair, energy, one, torch.tensor([[7.0]]))) == pytest.approx(0.125, rel=1e-4)
    assert float(sinkhorn_emd(pair, energy, pair, energy)) == pytest.approx(0.0, abs=1e-4)
    assert float(sinkhorn_emd(pair, 0 * energy, one, torch.tensor([[7.0]]))) == 0.0


def test_gradient_is_that_of_finite_differences():
    source = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 1, 3, 2, generator=source, dtype=torch.float64)
    energy = 1 + torch.rand(2, 1, 3, generator=source, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (a, energy[0].clone(), b, energy[1].clone())]
    assert torch.autograd.gradcheck(lambda *x: sinkhorn_emd(*x, smoothing=0.3, iterations=8), inputs)
