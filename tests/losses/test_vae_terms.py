"""KL divergence and outlier exposure against closed forms."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from jetsweep.errors import JetsweepError
from jetsweep.losses import kl_per_jet, kl_per_latent, margin_exposure, outlier_exposure, sigmoid_exposure


def test_kl_of_counted_cases():
    one, zero = torch.ones(2, 10), torch.zeros(2, 10)
    assert kl_per_jet(one, zero, "mean").tolist() == [0.5, 0.5]
    assert kl_per_jet(one, zero, "sum").tolist() == [5.0, 5.0]
    assert kl_per_jet(zero, zero, "sum").tolist() == [0.0, 0.0]


def test_kl_equals_that_of_torch_distributions():
    mean, log_variance = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_latent(mean, log_variance), expected)
    torch.testing.assert_close(kl_per_jet(mean, log_variance, "sum"), expected.sum(dim=1))
    inputs = (mean.requires_grad_(), log_variance.requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: kl_per_jet(*x, "mean"), inputs)


def test_free_bits_hold_a_latent_without_gradient():
    mean = torch.tensor([[2.0, 0.1], [1.0, 0.2]], requires_grad=True)
    kl_B = kl_per_jet(mean, torch.zeros(2, 2), "sum", free_bits=0.25)
    assert kl_B.tolist() == pytest.approx([2.25, 0.75])
    kl_B.sum().backward()
    assert mean.grad.tolist() == [[2.0, 0.0], [1.0, 0.0]]


def test_equal_batches():
    error = torch.rand(7)
    assert float(sigmoid_exposure(error, error)) == -0.5
    assert float(margin_exposure(error, error, 2.0)) == pytest.approx(2.0)
    assert float(margin_exposure(torch.ones(7, 3), torch.ones(7, 3), 1.5)) == 1.5


def test_sigmoids_of_both_directions_sum_to_one():
    background, outlier = torch.rand(2, 9)
    total = sigmoid_exposure(background, outlier) + sigmoid_exposure(outlier, background)
    assert float(total) == pytest.approx(-1.0)


@pytest.mark.parametrize("term", [sigmoid_exposure, lambda a, b: margin_exposure(a, b, 1.0)])
def test_larger_errors_of_outliers_cost_less(term):
    background = torch.full((4,), 0.5)
    losses = [float(term(background, torch.full((4,), error))) for error in (0.0, 0.4, 0.8, 1.2)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4


def test_no_gradient_once_the_margin_is_met():
    outlier = torch.tensor([3.0, 1.2], requires_grad=True)
    margin_exposure(torch.tensor([1.0, 1.0]), outlier, 1.0, weight=torch.tensor([1.0, 4.0])).backward()
    assert outlier.grad.tolist() == [0.0, -2.0]


def test_latents_are_compared_before_their_mean():
    background, outlier = torch.tensor([[0.0, 2.0]]), torch.tensor([[5.0, 1.0]])
    assert float(margin_exposure(background, outlier, 1.0)) == 1.0
    assert float(margin_exposure(background.mean(dim=1), outlier.mean(dim=1), 1.0)) == 0.0


@pytest.mark.parametrize("kind", ["mse-sigmoid", "mae-sigmoid", "mse-margin", "mae-margin", "kl-margin"])
def test_kinds_with_weights_of_outliers(kind):
    background, outlier, weight = torch.rand(3, 6, 1, generator=torch.Generator().manual_seed(0))
    weight = weight[:, 0]
    if kind != "kl-margin":
        background, outlier = background[:, 0], outlier[:, 0]
    expected = [
        float(w * (max(b - o + 0.4, 0.0) if "margin" in kind else -torch.sigmoid(o - b)))
        for b, o, w in zip(background.flatten(), outlier.flatten(), weight)
    ]
    found = outlier_exposure(kind, background, outlier, margin=0.4, weight=weight)
    assert float(found) == pytest.approx(sum(expected) / 6, rel=1e-5)


def test_wrong_input_is_named():
    error = torch.rand(4)
    with pytest.raises(JetsweepError, match=r"expected one of mse-sigmoid, .*, found 'mse'"):
        outlier_exposure("mse", error, error)
    with pytest.raises(JetsweepError, match=r"kl-margin needs 2 dimensions, found \(4,\)"):
        outlier_exposure("kl-margin", error, error)
    with pytest.raises(JetsweepError, match=r"needs its background jet, found \(3,\), \(4,\)"):
        sigmoid_exposure(error, error[:3])
    with pytest.raises(JetsweepError, match=r"expected 4 outlier weights, found shape \(1,\)"):
        margin_exposure(error, error, 1.0, torch.ones(1))
    with pytest.raises(JetsweepError, match="one of sum, mean, found 'total'"):
        kl_per_jet(torch.ones(2, 3), torch.ones(2, 3), "total")
    with pytest.raises(JetsweepError, match="free_bits must not be negative, found -1"):
        kl_per_jet(torch.ones(2, 3), torch.ones(2, 3), "sum", free_bits=-1.0)
