"""Distance correlation against counted values, a loop over pairs, the metric and finite differences."""

import numpy as np
import pytest
import torch

from jetsweep import metrics
from jetsweep.errors import JetsweepError
from jetsweep.losses import distance_correlation


def loop(x, y, weight):
    """The definition, pair by pair."""
    size = len(x)
    p = weight / weight.sum()
    centred = []
    for values in (x, y):
        row = [sum(p[j] * abs(values[i] - values[j]) for j in range(size)) for i in range(size)]
        grand = sum(p[i] * row[i] for i in range(size))
        centred.append(
            [[abs(values[i] - values[j]) - row[i] - row[j] + grand for j in range(size)] for i in range(size)]
        )
    a, b = centred
    pairs = [(i, j) for i in range(size) for j in range(size)]
    ab, aa, bb = (sum(p[i] * p[j] * u[i][j] * v[i][j] for i, j in pairs) for u, v in ((a, b), (a, a), (b, b)))
    return ab / np.sqrt(aa * bb)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 4, 9], 0.9379228370),
        ([0, 1, 2, 3], [1, 0, 1, 0], 0.2773500981),
        ([0, 1, 2, 3, 4], [4, 1, 0, 1, 4], 0.2661770134),
        ([0, 1, 2, 3], [7, 4, 1, -2], 1.0),
    ],
)
def test_counted_values(x, y, expected):
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    assert float(distance_correlation(x, y)) == pytest.approx(expected, abs=1e-10)
    assert float(distance_correlation(y, x)) == pytest.approx(expected, abs=1e-10)
    assert float(distance_correlation(x, y, power=2)) == pytest.approx(expected**2, abs=1e-10)
    assert float(distance_correlation(5 - 3 * x, y * 1e3 + 1e5)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [2, 31, 32, 33])
def test_equals_the_loop_with_weights_and_ties(size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=size).round(1)
    y, weight = x**2 + rng.normal(size=size).round(1), rng.uniform(0, 3, size)
    x_B, y_B, weight_B = map(torch.from_numpy, (x, y, weight))
    assert float(distance_correlation(x_B, y_B)) == pytest.approx(loop(x, y, np.ones(size)), abs=1e-12)
    assert float(distance_correlation(x_B, y_B, 7 * weight_B)) == pytest.approx(loop(x, y, weight), abs=1e-12)


def test_a_weight_of_two_is_the_jet_twice_and_of_zero_its_absence():
    x, y = torch.rand(2, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = torch.ones(20, dtype=torch.float64)
    weight[:3], weight[3:5] = 2, 0
    repeated = [torch.cat([u[:3], u[:3], u[5:]]) for u in (x, y)]
    torch.testing.assert_close(distance_correlation(x, y, weight), distance_correlation(*repeated))
    assert distance_correlation(torch.where(weight > 0, 0.1, x), y, weight) == 0


def test_equals_the_metric_on_a_large_batch():
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=3000), rng.uniform(0, 1, 3000)
    y = np.abs(x) + rng.normal(size=3000)
    found = distance_correlation(*map(torch.from_numpy, (x, y, weight)), power=0.5)
    assert float(found) == pytest.approx(metrics.distance_correlation(x, y, weight, power=0.5), rel=1e-10)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_gradient_is_that_of_finite_differences(power):
    source = torch.Generator().manual_seed(0)
    x, y, weight = torch.rand(3, 17, generator=source, dtype=torch.float64)
    x.requires_grad_()
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: distance_correlation(a, b, weight, power), (x, y))


def test_a_constant_has_no_correlation_and_no_gradient():
    x = torch.full((8,), 0.1, requires_grad=True)
    value = distance_correlation(x, torch.arange(8.0), power=0.5)
    value.backward()
    assert value == 0
    assert not x.grad.any()


def test_numbers_that_are_not_finite_are_not_hidden():
    x = torch.tensor([0.0, 1.0, torch.nan, 3.0])
    for power in (1.0, 2.0):
        assert distance_correlation(x, torch.arange(4.0), power=power).isnan()
        assert distance_correlation(torch.arange(4.0), x - torch.inf, power=power).isnan()


def test_half_precision_comes_back_in_single():
    x, y = torch.rand(2, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    x.requires_grad_()
    value = distance_correlation(x, y)
    value.backward()
    assert (value.dtype, x.grad.dtype) == (torch.float32, torch.bfloat16)
    expected = distance_correlation(x.detach().double(), y.double())
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-6)


def test_wrong_input_is_named():
    with pytest.raises(JetsweepError, match=r"found \(3,\), \(4,\) and \(3,\)"):
        distance_correlation(torch.ones(3), torch.ones(4))
    with pytest.raises(JetsweepError, match="found 0"):
        distance_correlation(torch.ones(3), torch.ones(3), power=0)
