"""Energy mover's distance against an exact solver, assignments and closed forms."""

import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from jetsweep.errors import JetsweepError
from jetsweep.losses import sinkhorn_emd


def test_equal_energies_are_an_assignment():
    a, b = torch.rand(2, 3, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy = torch.full((3, 5), 20.0, dtype=torch.float64)
    found = sinkhorn_emd(a, energy, b, energy, radius=0.5, smoothing=0.003, iterations=500)
    for i, cost in enumerate(torch.cdist(a, b) / 0.5):
        rows, columns = linear_sum_assignment(cost.numpy())
        assert float(found[i]) == pytest.approx(float(cost[rows, columns].mean()), rel=1e-2)


def test_comes_from_above_to_what_the_exact_solver_finds():
    source = torch.Generator().manual_seed(0)
    angles_a = 0.3 * torch.randn(20, 12, 2, generator=source, dtype=torch.float64)
    angles_b = 0.3 * torch.randn(20, 9, 2, generator=source, dtype=torch.float64)
    energies = [torch.rand(20, slots, generator=source, dtype=torch.float64) ** 4 for slots in (12, 9)]
    shares = [energy / energy.sum(dim=1, keepdim=True) for energy in energies]
    cost = torch.cdist(angles_a, angles_b)
    exact = torch.tensor(
        [ot.emd2(a, b, c) for a, b, c in zip(*(u.numpy() for u in (*shares, cost)))], dtype=torch.float64
    )
    rough = sinkhorn_emd(angles_a, energies[0], angles_b, energies[1], iterations=5)
    fine = sinkhorn_emd(angles_a, energies[0], angles_b, energies[1], smoothing=0.005, iterations=300)
    for found in (rough, fine):
        assert (found > exact - 1e-9).all()
    torch.testing.assert_close(fine, exact, rtol=0.02, atol=0.0)
    assert float((rough / exact).mean()) > 1.02


def test_two_against_one_and_empty_slots():
    pair = torch.tensor([[[0.0, 0.0], [0.3, 0.4], [torch.nan, 9.0]]])
    one = torch.tensor([[[0.0, 0.0]]])
    energy, single = torch.tensor([[30.0, 10.0, 0.0]]), torch.tensor([[7.0]])
    junk, mask = torch.tensor([[30.0, 10.0, torch.nan]]), torch.tensor([[True, True, False]])
    assert float(sinkhorn_emd(pair, energy, one, single)) == pytest.approx(0.125, rel=1e-4)
    assert float(sinkhorn_emd(pair, junk, one, single, mask)) == pytest.approx(0.125, rel=1e-4)
    assert float(sinkhorn_emd(one, single, pair, junk, None, mask)) == pytest.approx(0.125, rel=1e-4)
    assert float(sinkhorn_emd(pair, energy, pair, energy)) == pytest.approx(0.0, abs=1e-4)
    assert sinkhorn_emd(pair, torch.tensor([[30.0, torch.nan, 0.0]]), one, single).isnan()
    # a thousand times farther than empty slots, which are at 0 inside
    far = sinkhorn_emd(pair + 1000, energy, one, single)
    assert float(far) == pytest.approx(1000 * 2**0.5, rel=1e-3)


def test_empty_slots_and_empty_jets_have_no_gradient():
    source = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 3, 4, 2, generator=source)
    energy_a, energy_b = 1 + torch.rand(2, 3, 4, generator=source)
    mask = torch.tensor([[True, True, True, False], [True, False, True, True], [False] * 4])
    a[~mask], energy_a[~mask] = torch.nan, torch.nan
    inputs = [x.requires_grad_() for x in (a, energy_a, b, energy_b)]
    value_B = sinkhorn_emd(*inputs, mask_a=mask)
    value_B.sum().backward()
    assert value_B[2] == 0
    for x in inputs:
        assert x.grad.isfinite().all()
        assert not x.grad[2].any()
    assert not a.grad[~mask].any()
    assert not energy_a.grad[~mask].any()
    assert a.grad[mask].any()


def test_gradient_is_that_of_finite_differences():
    source = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 1, 3, 2, generator=source, dtype=torch.float64)
    energy = 1 + torch.rand(2, 1, 3, generator=source, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (a, energy[0].clone(), b, energy[1].clone())]
    assert torch.autograd.gradcheck(lambda *x: sinkhorn_emd(*x, smoothing=0.3, iterations=7), inputs)


def test_wrong_settings_are_named():
    jet = torch.ones(1, 2, 2), torch.ones(1, 2)
    with pytest.raises(JetsweepError, match="smoothing must be positive, found 0"):
        sinkhorn_emd(*jet, *jet, smoothing=0.0)
