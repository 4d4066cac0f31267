"""Loaders of some classes: every chosen jet once, no other, the S/B that was asked for, all of it exactly resumable."""

from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.data import open_dataset
from jetsweep.data.selection import SelectedRows, Selection
from jetsweep.errors import DataError

CLASSES = ("qcd", "w", "top")
QCD = Selection(("qcd",))


def relabelled(table, label):
    column = pa.DictionaryArray.from_arrays(pa.array(label.astype(np.int32)), pa.array(CLASSES))
    return table.drop_columns(["label"]).append_column("label", column)


@pytest.fixture(scope="session")
def jets(by_hand, tmp_path_factory):
    """1,200 jets in 24 blocks, two windows of blocks; (dataset, labels). There is no W among the first 200."""
    table, writer = by_hand
    label = np.random.default_rng(0).choice(3, 1200, p=[0.6, 0.1, 0.3])
    label[:200][label[:200] == 1] = 0
    out = tmp_path_factory.mktemp("selection") / "jets"
    with writer(out, classes=CLASSES) as sink:
        sink.write("train", relabelled(table(1200, classes=CLASSES), label))
        sink.write("val", relabelled(table(40, classes=CLASSES), np.zeros(40)))
    return open_dataset(out), label


def rows_of(loader, epoch=0, start=0):
    return [batch.rows.tolist() for batch in loader.batches(epoch, start)]


def load(dataset, selection, size=32, **options):
    settings = {"shuffle": True, "seed": 3, "prefetch": 0, "constituents": ()} | options
    return dataset.loader("train", size, selection=selection, **settings)


def expected(label, selection, fraction=1.0):
    """Row numbers, by a plain search in the labels."""
    leading = label[: max(1, round(fraction * len(label)))]
    chosen = np.flatnonzero(np.isin(leading, [CLASSES.index(name) for name in selection.classes]))
    further = [
        np.flatnonzero(leading == CLASSES.index(name))[: round(share * len(chosen))]
        for name, share in selection.contamination
    ]
    return sorted(chain(chosen.tolist(), *(rows.tolist() for rows in further)))


SELECTIONS = st.sampled_from(
    [
        QCD,
        Selection(("w",)),
        Selection(("top", "qcd")),
        Selection(CLASSES),
        Selection(("qcd",), (("w", 0.03),)),
        Selection(("qcd",), (("top", 0.1), ("w", 0.0))),
    ]
)


@given(
    selection=SELECTIONS,
    fraction=st.floats(0.4, 1.0),
    epoch=st.integers(0, 4),
    size=st.integers(1, 400),
    data=st.data(),
)
def test_every_chosen_jet_once_and_no_other(jets, selection, fraction, epoch, size, data):
    dataset, label = jets
    loader = load(dataset, selection, size, fraction=fraction)
    batches = rows_of(loader, epoch)
    wanted = expected(label, selection, fraction)
    assert sorted(chain(*batches)) == wanted
    assert (loader.num_rows, loader.num_steps) == (len(wanted), len(batches))
    start = data.draw(st.integers(0, len(batches)))
    assert rows_of(loader, epoch, start) == batches[start:]
    world = data.draw(st.integers(1, 3))
    ranks = [
        rows_of(load(dataset, selection, size, fraction=fraction, rank=r, world_size=world), epoch)
        for r in range(world)
    ]
    assert [list(chain(*step)) for step in zip(*ranks)] == batches


def test_epochs_differ_and_fill_windows_of_blocks(jets):
    dataset, label = jets
    loader = load(dataset, Selection(("w",)), 20)
    assert rows_of(loader, 0) != rows_of(loader, 1)
    order = loader.order(0)
    assert [len(window) for window in order.windows] == [10, 10]  # the four blocks without a W are in none
    assert order.starts[-1] == (label == 1).sum()


def test_contamination_is_the_leading_jets_of_its_class(jets):
    dataset, label = jets
    loader = load(dataset, Selection(("qcd",), (("top", 0.05), ("w", 0.02))), drop_last=True)
    num_qcd = int((label == 0).sum())
    assert loader.selected.by_class == {"qcd": num_qcd, "top": round(0.05 * num_qcd), "w": round(0.02 * num_qcd)}
    assert loader.num_steps == loader.num_rows // 32
    more = load(dataset, Selection(("qcd",), (("top", 0.1),)))  # of a scan each point holds the jets of the last
    fewer = load(dataset, Selection(("qcd",), (("top", 0.05),)))
    assert set(chain(*rows_of(fewer))) < set(chain(*rows_of(more)))


def test_counts_are_kept_beside_the_shards(jets, monkeypatch):
    dataset, label = jets
    assert load(dataset, QCD).num_rows == (label == 0).sum()
    counts = [np.load(file).sum(axis=0).tolist() for file in Path(dataset.path, "derived", "classes").glob("*.npy")]
    assert np.bincount(label).tolist() in counts
    again = open_dataset(dataset.path)
    monkeypatch.setattr("jetsweep.data.selection._label", lambda block: pytest.fail("read again"))
    assert SelectedRows(again, QCD, "train", 1200).num_rows == (label == 0).sum()


MISTAKES = {
    "unknown class": (
        lambda: Selection(("wx",)),
        r"expected classes out of qcd, w, top; found 'wx', did you mean 'w'\?",
    ),
    "unknown contamination": (lambda: Selection(("qcd",), (("z", 0.1),)), r"out of qcd, w, top; found 'z'$"),
    "too few": (
        lambda: Selection(("qcd",), (("w", 0.5),)),
        r"the split 'train' has \d+ jets of w, expected \d+ for S/B 0.5 with \d+ of qcd",
    ),
    "no class": (lambda: Selection(()), "names no class"),
    "twice": (lambda: Selection(("qcd",), (("qcd", 0.1),)), "names 'qcd' twice"),
    "negative": (lambda: Selection(("qcd",), (("w", -0.1),)), "expected S/B of 0 and above, found -0.1"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(jets, make, message):
    with pytest.raises(DataError, match=message):
        load(jets[0], make())


def test_a_split_without_the_class_is_told(jets):
    dataset, _ = jets
    with pytest.raises(DataError, match=r"the split 'val' has no jets of w, top, expected at least one"):
        dataset.loader("val", 8, selection=Selection(("w", "top")))
    with pytest.raises(DataError, match=r"'train' \(its leading 100 jets\) has no jets of w,"):
        load(dataset, Selection(("w",)), fraction=100 / 1200)
