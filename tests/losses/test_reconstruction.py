"""Reconstruction errors against loops over constituents."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from jetsweep.errors import JetsweepError
from jetsweep.losses import chamfer_error, gaussian_error, reconstruction_error

MASK = torch.tensor([[True, True, True, False], [True, False, True, False], [False] * 4])


@pytest.fixture
def jets():
    return 2 * torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "of_residual"),
    [("mse", lambda r: r**2), ("mae", abs), ("huber", lambda r: r**2 / 2 if abs(r) < 0.7 else 0.7 * (abs(r) - 0.35))],
)
def test_errors_are_means_over_real_constituents(jets, kind, of_residual):
    target, output = jets
    output = torch.where(MASK[..., None], output, torch.nan)
    found = reconstruction_error(target, output, MASK, kind, delta=0.7)
    for b in range(2):
        residuals = (target - output)[b][MASK[b]].flatten().tolist()
        assert float(found[b]) == pytest.approx(np.mean([of_residual(r) for r in residuals]))
    assert found[2] == 0
    flat = reconstruction_error(target[0], jets[1][0], kind=kind, delta=0.7)
    assert float(flat[1]) == pytest.approx(np.mean([of_residual(r) for r in (target - jets[1])[0, 1].tolist()]))


def test_gaussian_error_is_the_likelihood_of_torch_distributions(jets):
    target, output = jets
    log_variance = torch.tensor([0.3, -1.0], dtype=torch.float64)
    expected = -Normal(output, (0.5 * log_variance).exp()).log_prob(target)
    torch.testing.assert_close(gaussian_error(target, output, log_variance), expected.flatten(1).mean(dim=1))
    masked = gaussian_error(target, output, log_variance, MASK)
    assert float(masked[1]) == pytest.approx(float(expected[1][MASK[1]].mean()))


def test_chamfer_equals_a_loop_and_knows_no_order(jets):
    target, output = jets
    output_mask = MASK.flip(1)
    found = chamfer_error(target, output, MASK, output_mask)
    for b in range(2):
        a, c = target[b][MASK[b]].numpy(), output[b][output_mask[b]].numpy()
        square = ((a[:, None] - c[None]) ** 2).sum(-1)
        assert float(found[b]) == pytest.approx(square.min(0).mean() + square.min(1).mean())
    assert found[2] == 0
    torch.testing.assert_close(
        chamfer_error(target, output[:, [2, 0, 3, 1]], MASK, output_mask[:, [2, 0, 3, 1]]), found
    )
    inputs = (target.requires_grad_(), output.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, c: chamfer_error(a, c, MASK, output_mask), inputs)


@pytest.mark.parametrize(
    "error",
    [
        *(lambda t, o, v, m, k=k: reconstruction_error(t, o, m, k) for k in ("mse", "mae", "huber")),
        gaussian_error,
        lambda t, o, v, m: chamfer_error(t, o, m, m),
    ],
)
def test_padding_has_no_gradient_whatever_it_holds(jets, error):
    target, output = jets
    variance = torch.zeros_like(output)
    expected = error(target, output, variance, MASK)
    target, output, variance = (torch.where(MASK[..., None], x, torch.nan) for x in (target, output, variance))
    output.requires_grad_()
    value_B = error(target, output, variance, MASK)
    torch.testing.assert_close(value_B.detach(), expected)
    value_B.sum().backward()
    assert not output.grad[~MASK].any()
    assert output.grad[MASK].abs().min() >= 0
    assert output.grad[MASK].any()


def test_wrong_input_is_named(jets):
    target, output = jets
    with pytest.raises(JetsweepError, match=r"found \(3, 4, 2\) and \(3, 4, 1\)"):
        reconstruction_error(target, output[..., :1])
    with pytest.raises(JetsweepError, match="one of mse, mae, huber, found 'rmse'"):
        reconstruction_error(target, output, kind="rmse")
    with pytest.raises(JetsweepError, match="border of huber must be positive, found 0"):
        reconstruction_error(target, output, kind="huber", delta=0.0)
