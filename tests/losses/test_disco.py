"""Distance correlation against counted values, a loop over pairs, finite differences and two processes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from jetsweep.losses.disco import distance_correlation


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


def test_equals_the_loop_with_weights_and_ties(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=31).round(1)
    y, weight = x**2 + rng.normal(size=31).round(1), rng.uniform(0, 3, 31)
    x_B, y_B, weight_B = map(torch.from_numpy, (x, y, weight))
    for block in (1 << 15, 70):
        monkeypatch.setattr("jetsweep.losses.disco.BLOCK", block)
        assert float(distance_correlation(x_B, y_B)) == pytest.approx(loop(x, y, np.ones(31)), abs=1e-12)
        assert float(distance_correlation(x_B, y_B, weight_B)) == pytest.approx(loop(x, y, weight), abs=1e-12)
    # a weight of two is the jet twice
    twice = distance_correlation(torch.cat([x_B, x_B[:3]]), torch.cat([y_B, y_B[:3]]))
    weight_B = torch.ones(31, dtype=torch.float64)
    weight_B[:3] = 2
    torch.testing.assert_close(distance_correlation(x_B, y_B, weight_B), twice)


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


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"found \(3,\), \(4,\) and \(3,\)"):
        distance_correlation(torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="found 0"):
        distance_correlation(torch.ones(3), torch.ones(3), power=0)


def _rank(rank, jets, split, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        x, y, weight = jets[:, :split] if rank == 0 else jets[:, split:]
        x = x.clone().requires_grad_()
        value = distance_correlation(x, y, weight)
        value.backward()
        torch.save((value.detach(), x.grad), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_of_unequal_size_equal_one(tmp_path):
    jets = torch.rand(3, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mp.spawn(_rank, (jets, 11, str(tmp_path)), nprocs=2)
    x = jets[0].clone().requires_grad_()
    value = distance_correlation(x, jets[1], jets[2])
    value.backward()
    (first, first_grad), (second, second_grad) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first, value.detach())
    torch.testing.assert_close(second, value.detach())
    # the mean over ranks divides by two
    torch.testing.assert_close(torch.cat([first_grad, second_grad]) / 2, x.grad)
