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


def test_jitted_gather_equals_numpy_s(without_numba):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(50, 4)).astype(np.float32)
    pieces = [
        (matrix, np.array([3, 40, 7]), np.array([5, 0, 2])),
        (matrix[10:], np.array([0]), np.array([40])),
        (matrix, np.zeros(0, np.int64), np.zeros(0, np.int64)),
    ]
    jitted = _host.gather_rows(pieces, 4)
    without_numba()
    plain = _host.gather_rows(pieces, 4)
    assert jitted.dtype == plain.dtype == np.float32
    assert np.array_equal(jitted, plain)
    assert len(plain) == 47
