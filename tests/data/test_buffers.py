"""Memory that is used again: only when nobody holds it, whatever was made of it."""

import numpy as np
import pytest
import torch

from jetsweep.data import _buffers

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(_buffers, "_buffers", [])


def _address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_an_array_that_is_gone_is_used_again():
    first = _buffers.empty(SIZE, 7)
    address = _address(first)
    del first
    assert _address(_buffers.empty(SIZE, 7)) == address
    assert _address(_buffers.empty(SIZE - 100, 7)) == address, "windows differ a little"


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: x,
        lambda x: x[3:5],
        lambda x: x[3:5].reshape(-1)[::2],
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x)[2:4].flatten(),
        lambda x: torch.from_numpy(x)[2:4].numpy()[1:],
        lambda x: memoryview(x)[1:2],
    ],
)
def test_what_is_held_is_never_written_to(hold):
    held = hold(_buffers.empty(SIZE, 7))
    view = np.asarray(held)
    view[...] = 1.0
    address = _address(np.asarray(held))
    for _ in range(3):
        other = _buffers.empty(SIZE, 7)
        other[...] = 2.0
        assert not _address(other) <= address < _address(other) + other.nbytes
    assert (np.asarray(held) == 1.0).all()


def test_no_more_is_kept_than_was_held_at_once():
    for rows in (SIZE, 3 * SIZE, SIZE, 5 * SIZE):
        arrays = [_buffers.empty(rows), _buffers.empty(rows)]
        assert len(_buffers._buffers) == 2
        del arrays


def test_small_arrays_are_made_anew():
    assert _buffers.empty(10, 7).shape == (10, 7)
    assert _buffers._buffers == []


def test_all_batches_of_an_epoch_can_be_kept(dataset, monkeypatch):
    monkeypatch.setattr(_buffers, "_LARGE", 1)
    loader = dataset.loader("train", 8, shuffle=True, prefetch=0)
    kept = [batch.groups["constituents"].values for epoch in range(3) for batch in loader.batches(epoch)]
    monkeypatch.setattr(_buffers, "_LARGE", 1 << 60)
    anew = [batch.groups["constituents"].values for epoch in range(3) for batch in loader.batches(epoch)]
    assert all(torch.equal(a, b) for a, b in zip(kept, anew, strict=True))
