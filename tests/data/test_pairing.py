"""Partners lie in the window around their jet, are drawn alike, and do not depend on ranks, restarts or batch sizes."""

from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jetsweep.data import open_dataset
from jetsweep.data._windows import Windows, hashed
from jetsweep.data.columns import ScalarColumns, resolve
from jetsweep.data.pairing import PairedLoader, PairingConfig
from jetsweep.data.selection import Selection
from jetsweep.errors import DataError

BY = PairingConfig(by=("mass", "pt"), window=(30.0, 80.0))


def make(by_hand, out, mass, pt, label):
    """Jets of one file; row i has i % 7 + 1 constituents of px = i."""
    table, writer = by_hand
    jets = table(len(mass)).drop_columns(["jet_pt", "label"])
    for name, x in {"jet_mass": mass, "jet_pt": pt}.items():
        jets = jets.append_column(name, pa.array(np.asarray(x, np.float32)))
    column = pa.DictionaryArray.from_arrays(pa.array(label.astype(np.int32)), pa.array(["qcd", "w"]))
    with writer(out, classes=("qcd", "w"), scalars={"jet_mass": "GeV", "jet_pt": "GeV"}) as sink:
        sink.write("train", jets.append_column("label", column))
    return open_dataset(out)


@pytest.fixture(scope="session")
def jets(by_hand, tmp_path_factory):
    random = np.random.default_rng(0)
    label = random.choice(2, 900, p=[0.6, 0.4])
    mass = np.where(label == 0, random.exponential(60, 900), random.normal(80, 20, 900))
    return make(by_hand, tmp_path_factory.mktemp("pairing") / "jets", mass, random.uniform(500, 700, 900), label)


def pairs(dataset, config=BY, size=48, ratio=1.0, rank=0, world_size=1, seed=5, main=None, **options):
    """The loader of background jets, and that of their partners."""
    settings = {"prefetch": 0, "seed": seed, "rank": rank, "world_size": world_size, "drop_last": True} | options
    chosen = {"selection": Selection(("qcd",)), "constituents": (), "scalars": ("jet_mass", "jet_pt")}
    main = dataset.loader("train", size, shuffle=True, **{**chosen, **(main or {})}, **settings)
    outliers = dataset.loader("train", 8, selection=Selection(("w",)), scalars=("jet_mass", "jet_pt"), **settings)
    names = resolve(dataset, config.by, "pairing.by")
    values = ScalarColumns(dataset, "train", names)
    return main, PairedLoader(config, main, outliers, values, values, ratio)


def rows_of(loader, epoch=0, start=0):
    return [batch.rows.tolist() for batch in loader.batches(epoch, start)]


@settings(max_examples=12)
@given(
    size=st.integers(30, 200),
    epoch=st.integers(0, 3),
    ratio=st.sampled_from([0.2, 0.5, 1.0, 3.0]),
    world=st.integers(1, 2),
    data=st.data(),
)
def test_ranks_and_restarts_give_the_same_partners(jets, size, epoch, ratio, world, data):
    main, partners = pairs(jets, size=size, ratio=ratio)
    batches = rows_of(partners, epoch)
    assert partners.num_steps == main.num_steps == len(batches)
    assert {len(rows) for rows in batches} == {round(ratio * min(size, main.num_rows))}
    assert set(chain(*batches)) <= set(partners.outliers.order(0).rows(0, 900))
    start = data.draw(st.integers(0, len(batches)))
    assert rows_of(partners, epoch, start) == batches[start:]
    ranks = [pairs(jets, size=size, ratio=ratio, rank=r, world_size=world)[1] for r in range(world)]
    parts = [rows_of(loader, epoch) for loader in ranks]
    assert all(chain(*parts))  # no rank is without partners
    assert [list(chain(*step)) for step in zip(*parts)] == batches


@pytest.mark.parametrize("ratio", [0.3, 1, 2])
def test_every_partner_belongs_to_its_jet(jets, ratio):
    half = torch.tensor(BY.window) / 2
    for rank in range(2):
        main, partners = pairs(jets, ratio=ratio, rank=rank, world_size=2, size=50)
        near = []
        for batch, of_batch in zip(main.batches(1), partners.batches(1), strict=True):
            assert (of_batch.targets["label"] == 1).all()
            pair = of_batch.targets["pair"]
            if ratio >= 1:
                assert pair.tolist() == np.repeat(np.arange(len(batch)), ratio).tolist()
            distance = [(of_batch.scalars[name] - batch.scalars[name][pair]).abs() for name in ("jet_mass", "jet_pt")]
            near.append((torch.stack(distance, 1) <= half + 1e-3).all(1))
            # what was read is what the row holds
            group = of_batch.groups["constituents"]
            assert torch.equal(group.lengths, of_batch.rows % 7 + 1)
            assert torch.equal(group.values[:, 0], of_batch.rows.repeat_interleave(group.lengths).float())
        share = torch.cat(near).float().mean()
        doublings = partners.record()["doublings"]
        assert share == pytest.approx(doublings["0"] / sum(doublings.values()), abs=0.06)
        assert 0.5 < share < 1


def test_partners_change_with_epoch_and_seed_but_not_with_the_batch_size(jets):
    def partner_of(**options):
        epoch = options.pop("epoch", 0)
        main, partners = pairs(jets, **options)
        found = {}
        for batch, of_batch in zip(main.batches(epoch), partners.batches(epoch)):
            found |= dict(zip(batch.rows.tolist(), of_batch.rows.tolist()))
        return found

    small, large = partner_of(size=16), partner_of(size=64)
    assert all(large[row] == small[row] for row in set(small) & set(large))
    for other in (partner_of(epoch=1), partner_of(seed=6)):
        both = set(small) & set(other)
        assert np.mean([small[row] != other[row] for row in both]) > 0.5


def test_a_row_that_comes_twice_has_two_partners(jets):
    from jetsweep.data.reweight import ReweightConfig

    config = ReweightConfig(variables={"mass": {"bins": 8, "range": (0.0, 400.0)}})
    reweighting = jets.reweighting(config, selection=Selection(("qcd",)))
    main, partners = pairs(jets, PairingConfig(window=(60.0,)), size=200, main={"reweighting": reweighting})
    differ = []
    for batch, of_batch in zip(main.batches(0), partners.batches(0)):
        same = batch.rows[1:] == batch.rows[:-1]
        differ += (of_batch.rows[1:] != of_batch.rows[:-1])[same].tolist()
    assert len(differ) > 10
    assert np.mean(differ) > 0.8


def brute_force(points, width, around):
    """Indices inside the smallest window that holds any, and the number of doublings."""
    width, level = np.array(width, float), 0
    while True:
        inside = np.flatnonzero((np.abs(points - around) <= width / 2).all(axis=1))
        if len(inside):
            return set(inside.tolist()), level
        width[len(width) - 1 - level % len(width)] *= 2
        level += 1


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    num=st.integers(1, 60),
    num_variables=st.integers(1, 3),
    width=st.floats(0.02, 5.0),
    whole=st.booleans(),
)
def test_windows_are_those_of_a_plain_search(seed, num, num_variables, width, whole):
    random = np.random.default_rng(seed)
    points, around = random.normal(0, 3, (num, num_variables)), random.normal(0, 6, (20, num_variables))
    if whole:  # many on the edges of windows and cells
        points, around, width = np.round(points), np.round(around), 2.0
    widths = np.linspace(width, 2 * width, num_variables)
    drawn, doublings = Windows(points, widths).draw(around, hashed(seed, np.arange(60)).reshape(20, 3))
    for i in range(20):
        inside, level = brute_force(points, widths, around[i])
        assert set(drawn[i].tolist()) <= inside
        assert doublings[i] == level


def test_all_outliers_of_a_window_are_drawn_alike():
    random = np.random.default_rng(1)
    points = random.uniform(-2, 2, (40, 2))
    inside = np.flatnonzero((np.abs(points) <= 1).all(axis=1))
    draws = 20_000
    drawn, _ = Windows(points, np.array([2.0, 2.0])).draw(np.zeros((draws, 2)), hashed(0, np.arange(draws))[:, None])
    expected = draws / len(inside)
    counts = np.bincount(drawn[:, 0], minlength=40)[inside]
    assert counts.sum() == draws
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < len(inside) + 5 * np.sqrt(2 * len(inside))


def test_the_record_says_how_often_windows_grew(jets):
    _, partners = pairs(jets)
    record = partners.record()
    assert record["by"] == ["jet_mass", "jet_pt"]
    assert record["looked_at"] == sum(record["doublings"].values()) == partners.main.num_rows
    grown = record["looked_at"] - record["doublings"]["0"]
    assert f"of {record['looked_at']:,} background jets {grown:,} (" in partners.sentence()
    assert "window 30 x 80 GeV" in partners.sentence()


def test_outliers_without_overlap_are_refused(by_hand, tmp_path):
    label = np.arange(200) % 2
    apart = make(by_hand, tmp_path / "apart", np.where(label == 1, 5000.0, 80.0), np.full(200, 600.0), label)
    with pytest.raises(
        DataError,
        match=r"no background jet has an outlier nearby, even in windows 64 times as wide: jet_mass of outliers is "
        r"5000 to 5000, of background jets 80 to 80$",
    ):
        pairs(apart, PairingConfig())
    pairs(apart, PairingConfig(window=(200.0,)))  # 64 times as wide is wide enough


def test_masses_that_are_not_finite(by_hand, tmp_path):
    label, mass = np.arange(200) % 2, np.full(200, 80.0)
    mass[[1, 3]] = np.nan
    dataset = make(by_hand, tmp_path / "outliers", mass, np.full(200, 600.0), label)
    _, partners = pairs(dataset, PairingConfig())
    assert partners.record()["not_finite"] == 2
    assert not set(chain(*rows_of(partners))) & {1, 3}
    mass[2] = np.inf
    dataset = make(by_hand, tmp_path / "background", mass, np.full(200, 600.0), label)
    with pytest.raises(DataError, match=r"expected finite jet_mass of all background jets, 1 have others"):
        pairs(dataset, PairingConfig())


def test_mistakes(jets):
    assert PairingConfig(by=("mass", "pt")).window == (10.0, 10.0)
    for wrong in ({"by": ["mass"], "window": [1, 2]}, {"by": []}, {"window": [0]}, {"windows": [1]}, {"by": "mass"}):
        with pytest.raises(ValidationError):
            PairingConfig.model_validate(wrong)
    with pytest.raises(DataError, match=r"pairing\.by: expected scalars .* found 'masss', did you mean 'mass'\?"):
        pairs(jets, PairingConfig(by=("masss",)))
    with pytest.raises(DataError, match=r"a ratio of 0.1 to 12 jets of a micro-batch gives 1 partners, .* 2 workers"):
        pairs(jets, size=12, ratio=0.1, world_size=2)
