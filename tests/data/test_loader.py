"""Every row once, the same rows on any number of ranks, and an exact start in the middle of an epoch."""

import threading
import time
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jetsweep.data import open_dataset
from jetsweep.data._shards import Block, SplitReader
from jetsweep.data.loader import in_thread

EPOCHS = st.integers(0, 5)
SIZES = st.integers(1, 140)


def _rows(loader, epoch, start=0):
    return [batch.rows.tolist() for batch in loader.batches(epoch, start)]


@settings(max_examples=40)
@given(size=SIZES, epoch=EPOCHS, world=st.integers(1, 4), shuffle=st.booleans(), drop=st.booleans())
def test_ranks_together_give_the_batch_of_one_rank(dataset, size, epoch, world, shuffle, drop):
    options = {"shuffle": shuffle, "seed": 3, "drop_last": drop, "prefetch": 0}
    whole = _rows(dataset.loader("train", size, **options), epoch)
    ranks = [dataset.loader("train", size, rank=r, world_size=world, **options) for r in range(world)]
    assert {loader.num_steps for loader in ranks} == {len(whole)}
    parts = [_rows(loader, epoch) for loader in ranks]
    assert [list(chain.from_iterable(step)) for step in zip(*parts)] == whole


@settings(max_examples=40)
@given(size=SIZES, epoch=EPOCHS, data=st.data())
def test_start_step_resumes_exactly(dataset, size, epoch, data):
    loader = dataset.loader("train", size, shuffle=True, seed=1, prefetch=0)
    start = data.draw(st.integers(0, loader.num_steps))
    assert _rows(loader, epoch, start) == _rows(loader, epoch)[start:]


@settings(max_examples=40)
@given(size=SIZES, epoch=EPOCHS, seed=st.integers(0, 9), fraction=st.floats(0.01, 1.0))
def test_every_row_once_per_epoch(dataset, size, epoch, seed, fraction):
    loader = dataset.loader("train", size, shuffle=True, seed=seed, fraction=fraction, prefetch=0)
    assert sorted(chain.from_iterable(_rows(loader, epoch))) == list(range(loader.num_rows))


@settings(max_examples=40)
@given(size=SIZES, longest=st.integers(1, 9), slots=st.integers(1, 9))
def test_content_and_masks_belong_to_the_row(dataset, size, longest, slots):
    loader = dataset.loader("train", size, shuffle=True, scalars=("jet_pt",), max_constituents=longest, prefetch=0)
    for batch in loader.batches(0):
        number = batch.rows
        x_BPF, mask_BP = batch.groups["constituents"].pad(slots)
        assert torch.equal(mask_BP.sum(1), (number % 7 + 1).clamp(max=min(longest, slots)))
        assert torch.equal(x_BPF[..., 0], number[:, None] * mask_BP.float())
        assert torch.equal(x_BPF[..., 1], torch.arange(slots).float() * mask_BP)
        assert torch.equal(batch.scalars["jet_pt"], number.float())
        assert torch.equal(batch.targets["label"], number % 2)


def test_epochs_and_seeds_differ_and_repeat(dataset):
    def first(seed, epoch):
        return dataset.loader("train", 32, shuffle=True, seed=seed).order(epoch).rows(0, 120).tolist()

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)


def test_a_small_set_is_shuffled_as_a_whole(dataset):
    order = dataset.loader("train", 32, shuffle=True).order(0).rows(0, 120)
    assert len({row // 50 for row in order[:40]}) == 3


def test_prefetching_gives_the_same_batches(dataset):
    options = {"shuffle": True, "seed": 4}
    plain, threaded = (dataset.loader("train", 16, prefetch=n, **options) for n in (0, 3))
    for a, b in zip(plain.batches(2), threaded.batches(2), strict=True):
        assert torch.equal(a.groups["constituents"].values, b.groups["constituents"].values)


def test_an_early_close_ends_the_thread(dataset):
    before = set(threading.enumerate())
    batches = dataset.loader("train", 2, prefetch=2).batches(0)
    next(batches)
    batches.close()
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)


def test_an_exception_in_the_thread_reaches_the_consumer(dataset, monkeypatch):
    loader = dataset.loader("train", 2, prefetch=2)
    monkeypatch.setattr(loader, "_stored", lambda rows: (_ for _ in ()).throw(RuntimeError("disk gone")))
    with pytest.raises(RuntimeError, match="disk gone"):
        list(loader.batches(0))


def test_a_uri_opens_the_same_rows(dataset):
    remote = open_dataset(f"file://{dataset.path}")
    a, b = (next(d.loader("val", 30).batches(0)) for d in (dataset, remote))
    assert np.array_equal(a.groups["constituents"].values, b.groups["constituents"].values)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_rows_are_found_in_their_blocks(sizes, data):
    reader = SplitReader.__new__(SplitReader)
    reader.starts = np.cumsum([0, *sizes])
    reader.blocks = [Block(None, int(start)) for start in reader.starts[:-1]]
    rows = np.array(
        sorted(data.draw(st.sets(st.integers(0, sum(sizes) - 1)) if sum(sizes) else st.just(()))), dtype=int
    )
    parts = reader.split_by_block(rows)
    assert [block.first_row + int(row) for block, inside, _ in parts for row in inside] == rows.tolist()
    ends = dict(zip(reader.starts[:-1].tolist(), sizes))  # of an empty block and the next the latter stays
    assert all(len(inside) and inside.max() < ends[block.first_row] for block, inside, _ in parts)


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_a_thread_runs_ahead_as_far_as_told(depth):
    made = []
    batches = in_thread((made.append(i) or i for i in range(50)), depth)
    seen = []
    for number in batches:
        seen.append(number)
        assert len(made) <= number + 1 + depth + 1, "those that wait, and the one that is being made"
        if number % 7 == 0:
            time.sleep(0.002)
    assert seen == list(range(50))
