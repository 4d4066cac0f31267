"""Both ways of copying ragged rows give the same, to the bit."""

import numpy as np
import pytest
import torch

from jetsweep.data import _host
from jetsweep.data.batch import Ragged


@pytest.fixture
def without_numba(monkeypatch):
    def switch():
        monkeypatch.setattr(_host, "_jitted", lambda: None)

    return switch


@pytest.mark.parametrize("lengths", [[3, 0, 7, 1], [0, 0], []])
@pytest.mark.parametrize("slots", [1, 5, 9])
def test_jitted_padding_equals_torch_s(lengths, slots, without_numba):
    assert _host._jitted() is not None
    values = torch.randn(sum(lengths), 3)
    group = Ragged(values, torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64), ("a", "b", "c"))
    jitted = group.pad(slots)
    without_numba()
    for ours, plain in zip(jitted, group.pad(slots)):
        assert ours.dtype == plain.dtype
        assert torch.equal(ours, plain)


def test_padding_keeps_gradients():
    values = torch.randn(4, 2, requires_grad=True)
    x, _ = Ragged(values, torch.tensor([0, 1, 4]), ("a", "b")).pad(2)
    x.sum().backward()
    assert values.grad.sum(dim=1).tolist() == [2.0, 2.0, 2.0, 0.0]


def test_jitted_placing_equals_numpy_s(without_numba):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=50)
    columns = [numbers.astype(np.float32), numbers, rng.integers(0, 9, 50), np.arange(50) % 2 == 0]
    low, count, target = np.array([3, 40, 7, 0]), np.array([5, 0, 2, 40]), np.array([40, 40, 45, 0])
    jitted, plain = np.full((48, 4), np.nan, np.float32), np.full((48, 4), np.nan, np.float32)
    _host.place_rows(columns, low, count, target, jitted)
    without_numba()
    _host.place_rows(columns, low, count, target, plain)
    assert np.array_equal(jitted, plain, equal_nan=True)
    assert np.array_equal(jitted[40:45, 1], columns[1][3:8].astype(np.float32))
    assert np.isnan(jitted[47]).all()
