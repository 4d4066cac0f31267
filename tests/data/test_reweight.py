"""Training jets flat in their variables or like a reference class, by weight and by resampling."""

from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jetsweep.data import open_dataset
from jetsweep.data.derived import DerivedColumns
from jetsweep.data.order import EpochOrder, ResampledOrder
from jetsweep.data.reweight import ReweightConfig, Reweighting
from jetsweep.data.selection import Selection
from jetsweep.errors import DataError, ExperimentError
from jetsweep.experiment import load_experiment

AXES = {"pt": {"bins": 4, "range": [500, 900]}, "jet_eta": [-1, 0, 1]}


def make(by_hand, out, rows=900, weight=None, is_top=None, **kinematics):
    """Jets of random kinematics, tops harder than QCD jets; (dataset, columns by name)."""
    table, writer = by_hand
    random = np.random.default_rng(0)
    jets = table(rows)
    label = jets["label"].combine_chunks().indices.to_numpy() if is_top is None else is_top.astype(np.int32)
    columns = {
        "jet_pt": np.where(label == 1, random.uniform(480, 900, rows), 500 + random.exponential(150, rows)),
        "jet_eta": random.normal(0, 0.5, rows),
    } | kinematics
    if weight is not None:
        columns["weight"] = weight
    columns = {name: x.astype(np.float32) for name, x in columns.items()}
    jets = jets.drop_columns(["jet_pt", "label"])
    for name, x in columns.items():
        jets = jets.append_column(name, pa.array(x))
    jets = jets.append_column("label", pa.DictionaryArray.from_arrays(pa.array(label), pa.array(["qcd", "top"])))
    with writer(out, scalars=dict.fromkeys(columns, "")) as sink:
        sink.write("train", jets)
        sink.write("val", jets.slice(0, 30))
    return open_dataset(out), columns | {"label": label}


@pytest.fixture
def jets(by_hand, tmp_path):
    return make(by_hand, tmp_path / "jets", weight=np.random.default_rng(1).uniform(0.1, 2.0, 900))


def fit(dataset, **changes):
    return dataset.reweighting(ReweightConfig.model_validate({"variables": AXES, **changes}))


@pytest.fixture(scope="session")
def reweighted(by_hand, tmp_path_factory):
    dataset, _ = make(by_hand, tmp_path_factory.mktemp("reweighted") / "jets", rows=300)
    return dataset, fit(dataset)


def histograms(columns, rows, weight=None):
    """Sum of weights in the bins of `AXES`, for each class."""
    edges = [np.linspace(500, 900, 5), np.array([-1, 0, 1])]
    found = []
    for label in (0, 1):
        mine = rows[columns["label"][rows] == label]
        of_mine = None if weight is None else weight[columns["label"][rows] == label]
        found.append(np.histogram2d(columns["jet_pt"][mine], columns["jet_eta"][mine], bins=edges, weights=of_mine)[0])
    return found


def inside(columns):
    return (columns["jet_pt"] >= 500) & (columns["jet_pt"] < 900) & (np.abs(columns["jet_eta"]) < 1)


def batches(dataset, reweighting, size=64, epoch=0, start=0, **options):
    loader = dataset.loader(
        "train", size, shuffle=True, seed=3, prefetch=0, reweighting=reweighting, constituents=(), **options
    )
    return list(loader.batches(epoch, start))


def weighted(dataset, **changes):
    """Rows of an epoch and their weights, in order of rows."""
    parts = batches(dataset, fit(dataset, method="weight", **changes))
    rows, weight = (np.concatenate([getattr(b, name).numpy() for b in parts]) for name in ("rows", "weight"))
    order = np.argsort(rows)
    return rows[order], weight[order]


def test_weights_make_every_class_flat(jets):
    dataset, columns = jets
    rows, weight = weighted(dataset)
    assert rows.tolist() == list(range(900))
    qcd, top = histograms(columns, rows, weight)
    np.testing.assert_allclose(qcd, qcd[0, 0], rtol=1e-4)
    np.testing.assert_allclose(top, qcd, rtol=1e-4)
    assert np.array_equal(weight == 0, ~inside(columns))
    np.testing.assert_allclose(weight.mean(), columns["weight"].mean(), rtol=1e-4)
    # jets of one bin keep their weights relative to each other
    alike = np.flatnonzero(
        (columns["label"] == 0) & (columns["jet_pt"] < 600) & (columns["jet_eta"] < 0) & (weight > 0)
    )
    ratio = weight[alike] / columns["weight"][alike]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_weights_give_a_class_the_shape_of_another(jets):
    dataset, columns = jets
    qcd, top = histograms(columns, *weighted(dataset, to="top", class_weights={"qcd": 3}))
    before = histograms(columns, np.arange(900), columns["weight"])[1]
    np.testing.assert_allclose(top / top.sum(), before / before.sum(), rtol=1e-4)
    np.testing.assert_allclose(qcd, 3 * top, rtol=1e-4)


def test_a_percentile_limits_the_weight_of_rare_jets(jets):
    dataset, columns = jets
    content = histograms(columns, np.arange(900), columns["weight"])[0]
    qcd = histograms(columns, *weighted(dataset, percentile=40))[0]
    expected = np.minimum(content, np.percentile(content, 40))
    np.testing.assert_allclose(qcd / qcd.sum(), expected / expected.sum(), rtol=1e-4)


@pytest.mark.parametrize(("to", "percentile"), [("flat", 10), ("flat", 35), ("top", 10), ("top", 40)])
def test_factors_are_those_of_weaver(by_hand, tmp_path, to, percentile):
    from types import SimpleNamespace

    import awkward as ak
    from weaver.utils.data.preprocess import WeightMaker

    dataset, columns = make(by_hand, tmp_path / "jets", rows=2000)
    kept = {name: x[inside(columns)] for name, x in columns.items()}
    order = ["top", "qcd"]
    maker = WeightMaker.__new__(WeightMaker)
    maker._data_config = SimpleNamespace(
        reweight_branches=("jet_pt", "jet_eta"),
        reweight_bins=([500, 600, 700, 800, 900], [-1, 0, 1]),
        reweight_discard_under_overflow=True,
        reweight_basewgt=None,
        reweight_method="flat" if to == "flat" else "ref",
        reweight_threshold=percentile,
        reweight_classes=order,
        class_weights=[1.0, 0.5],
    )
    table = {"jet_pt": kept["jet_pt"], "jet_eta": kept["jet_eta"], "top": kept["label"], "qcd": 1 - kept["label"]}
    peer = maker.make_weights(ak.Array(table))
    ours = fit(dataset, to=to, percentile=percentile, class_weights={"qcd": 0.5}).factors
    theirs = np.stack([peer["qcd"].ravel(), peer["top"].ravel()])
    np.testing.assert_allclose(ours / ours.max(), theirs / theirs.max(), rtol=1e-5)


def test_sampling_is_flat_over_many_epochs(jets):
    dataset, columns = jets
    reweighting = fit(dataset)
    drawn = [batches(dataset, reweighting, epoch=epoch) for epoch in range(40)]
    assert all(batch.weight is None for batch in chain.from_iterable(drawn))
    rows = np.concatenate([batch.rows.numpy() for batch in chain.from_iterable(drawn)])
    assert len(rows) == 40 * reweighting.num_draws == 40 * inside(columns).sum()
    assert inside(columns)[rows].all()
    for content in histograms(columns, rows):
        np.testing.assert_allclose(content, len(rows) / 16, rtol=0.05)
    # systematic: no jet comes more or less often than its weight says, by a whole draw
    often = np.bincount(np.concatenate([b.rows.numpy() for b in drawn[0]]), minlength=900)
    expected = reweighting.of_rows(np.arange(900))
    expected *= reweighting.num_draws / expected.sum()
    assert (np.abs(often - expected) < 1 + 1e-6).all()


@settings(max_examples=15)
@given(size=st.integers(20, 400), epoch=st.integers(0, 5), world=st.integers(1, 4), data=st.data())
def test_ranks_and_resumption(reweighted, size, epoch, world, data):
    dataset, reweighting = reweighted
    whole = [batch.rows.tolist() for batch in batches(dataset, reweighting, size, epoch)]
    ranks = [batches(dataset, reweighting, size, epoch, rank=rank, world_size=world) for rank in range(world)]
    assert [list(chain.from_iterable(b.rows.tolist() for b in step)) for step in zip(*ranks, strict=True)] == whole
    start = data.draw(st.integers(0, len(whole)))
    assert [batch.rows.tolist() for batch in batches(dataset, reweighting, size, epoch, start)] == whole[start:]


@settings(max_examples=50)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-9, 0.3, 1.0, 7.5, 1e9]), min_size=1, max_size=60),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_resampling_draws_what_was_promised(weights, seed, data):
    weights = np.array(weights)
    if not weights.any():
        weights[0] = 1.0
    cuts = data.draw(st.sets(st.integers(0, len(weights))))
    edges = np.array(sorted({0, len(weights)} | cuts))
    parts = [weights[a:b] for a, b in pairwise(edges)]
    sums = np.array([np.cumsum(part)[-1] for part in parts])
    num_draws = data.draw(st.integers(1, 200))
    order = ResampledOrder(edges, seed, 1, False, sums=sums, weights=parts.__getitem__, num_draws=num_draws)
    rows = order.rows(0, num_draws + 5)
    assert len(rows) == num_draws
    assert (weights[rows] > 0).all()
    assert (np.diff(rows) >= 0).all()
    assert (np.abs(np.bincount(rows, minlength=len(weights)) - weights * num_draws / weights.sum()) < 1 + 1e-3).all()
    middle = num_draws // 2
    assert np.array_equal(np.concatenate([order.rows(0, middle), order.rows(middle, num_draws)]), rows)


def test_epochs_are_drawn_anew_and_repeat(jets):
    dataset, _ = jets
    reweighting = fit(dataset)

    def rows(epoch):
        return dataset.loader("train", 64, shuffle=True, reweighting=reweighting).order(epoch).rows(0, 900)

    assert np.array_equal(rows(1), rows(1))
    assert not np.array_equal(np.sort(rows(0)), np.sort(rows(1)))


def test_without_reweighting_nothing_changes(jets):
    loader = jets[0].loader("train", 64, shuffle=True, constituents=())
    assert type(loader.order(0)) is EpochOrder
    batch = next(loader.batches(0))
    assert np.array_equal(batch.weight, jets[1]["weight"][batch.rows])


def test_sums_are_kept_beside_the_shards(jets, monkeypatch):
    dataset, _ = jets
    first = fit(dataset)
    (kept,) = Path(dataset.folder, "derived", "reweight").iterdir()
    assert kept.suffix == ".npz"
    monkeypatch.setattr(Reweighting, "_computed", None)
    again = fit(open_dataset(dataset.path), method="weight")
    assert np.array_equal(again.factors, first.factors)
    assert again.record()["classes"] == first.record()["classes"]
    with pytest.raises(TypeError):  # other bins are other sums
        fit(dataset, variables={"pt": [500, 900]})


def test_only_leading_rows_count(jets):
    dataset, columns = jets
    reweighting = dataset.reweighting(ReweightConfig(variables=AXES), fraction=0.3)
    rows = np.concatenate([b.rows.numpy() for b in batches(dataset, reweighting, fraction=0.3)])
    assert rows.max() < 270
    assert len(rows) == reweighting.num_draws == inside(columns)[:270].sum()


def test_high_level_variables_are_derived(jets, monkeypatch):
    values = np.arange(900)[:, None] % 10 * np.ones(15, np.float32)  # compiling the real ones takes long
    monkeypatch.setattr(DerivedColumns, "_compute", lambda self, low, high: values[low:high])
    reweighting = fit(jets[0], variables={"ecf1": [2, 4]})
    assert np.array_equal(
        reweighting.of_rows(np.arange(900)) > 0, (np.arange(900) % 10 >= 2) & (np.arange(900) % 10 < 5)
    )


def test_the_record_counts_every_jet(jets):
    dataset, columns = jets
    reweighting = fit(dataset, to="qcd")
    record = reweighting.record()
    for label, of_class in enumerate(record["classes"].values()):
        mine = columns["label"] == label
        assert of_class["outside"] == (mine & ~inside(columns)).sum()
        assert of_class["used"] + of_class["unmatched"] == (mine & inside(columns)).sum()
        weight = reweighting.of_rows(np.flatnonzero(mine))
        assert of_class["effective"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum(), abs=0.1)
    assert record["variables"]["jet_pt"] == [500, 600, 700, 800, 900]
    outside = (~inside(columns)).sum()
    assert f"left out: {outside:,} outside the bins" in reweighting.sentence()


@pytest.mark.parametrize("method", ["sample", "weight"])
def test_selected_jets_take_on_the_spectrum_of_a_class_that_is_not_read(jets, method):
    dataset, columns = jets
    tops = Selection(("top",))
    config = ReweightConfig.model_validate({"variables": AXES, "to": "qcd", "method": method})
    reweighting = dataset.reweighting(config, selection=tops)
    parts = chain(*(batches(dataset, reweighting, epoch=epoch, selection=tops) for epoch in range(4)))
    pairs = [(b.rows.numpy(), np.ones(len(b)) if b.weight is None else b.weight.numpy()) for b in parts]
    rows, weight = (np.concatenate(x) for x in zip(*pairs))
    assert (columns["label"][rows] == 1).all()
    found = histograms(columns, rows, weight)[1]
    wanted = histograms(columns, np.arange(900), columns["weight"])[0] * (found > 0)
    np.testing.assert_allclose(found / found.sum(), wanted / wanted.sum(), atol=1e-4 if method == "weight" else 0.02)
    (of_top,) = reweighting.record()["classes"].values()
    assert sum(of_top[key] for key in ("used", "outside", "unmatched")) == (columns["label"] == 1).sum()
    if method == "weight":  # the mean weight of selected jets stays what it was
        np.testing.assert_allclose(weight.mean(), columns["weight"][columns["label"] == 1].mean(), rtol=1e-4)
    with pytest.raises(DataError, match=r"the reweighting is of top, the loader of None"):
        batches(dataset, reweighting)


def test_jets_mixed_in_are_reweighted_and_no_others_of_their_class(jets):
    dataset, columns = jets
    mixed = Selection(("qcd",), (("top", 0.2),))
    few = np.flatnonzero(columns["label"] == 1)[: round(0.2 * (columns["label"] == 0).sum())]
    reweighting = dataset.reweighting(ReweightConfig.model_validate({"variables": AXES}), selection=mixed)
    drawn = np.concatenate([batch.rows for batch in batches(dataset, reweighting, selection=mixed)])
    tops = drawn[columns["label"][drawn] == 1]
    assert set(tops) <= set(few[inside(columns)[few]])
    assert len(tops) / len(drawn) == pytest.approx(0.5, abs=0.02)  # classes have the same sum of weights


def test_several_classes_together_are_the_reference(jets):
    dataset, columns = jets
    qcd, top = histograms(columns, *weighted(dataset, to=["qcd", "top"]))
    wanted = sum(histograms(columns, np.arange(900), columns["weight"]))
    for found in (qcd, top):
        np.testing.assert_allclose(found / found.sum(), wanted / wanted.sum(), rtol=1e-4)


def test_no_jet_counts_more_than_the_largest_factor(jets):
    dataset, columns = jets
    content = histograms(columns, np.arange(900), columns["weight"])[0]
    mean = content.mean()  # of the flat factors mean / content over all jets is 1
    for largest, highest in ((None, mean / content.min()), (1.5, 1.5)):
        _, weight = weighted(dataset, max_factor=largest)
        used = (columns["label"] == 0) & (weight > 0)
        factor = weight[used] / columns["weight"][used]
        assert factor.max() / factor.min() == pytest.approx(highest / (mean / content.max()), rel=1e-3)


MISTAKES = {
    "unknown variable": (
        {"variables": {"pts": [0, 1]}},
        r"data\.reweight\.variables: expected scalars of the dataset, jet_pt, .*; found 'pts', did you mean 'pt'\?",
    ),
    "a variable twice": ({"variables": {"pt": [0, 1], "jet_pt": [0, 1]}}, r"each variable once, found jet_pt again"),
    "unknown reference": ({"to": "topp"}, r"data\.reweight\.to: expected one of flat, qcd, top, found 'topp', did you"),
    "unknown weight": ({"class_weights": {"w": 1}}, r"reweight\.class_weights: expected one of qcd, top, found 'w'$"),
    "no weight": ({"class_weights": {"qcd": 0, "top": 0}}, r"expected a class with a weight above 0, found none"),
    "all outside": (
        {"variables": {"pt": [1, 2]}},
        r"none of the 900 training jets is inside the bins of jet_pt \(jet_pt is 4",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_of_the_experiment(jets, changes, message):
    with pytest.raises(DataError, match=message):
        fit(jets[0], **changes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"weight": np.zeros(900)}, r"the weights of all 900 training jets are 0, expected some above"),
        ({"weight": np.where(np.arange(900) < 7, -1.0, 1.0)}, r"expected weights of 0 and above, 7 training jets have"),
        ({"is_top": np.zeros(900)}, r"class 'top' has no training jets .* inside the bins; class_weights: \{top: 0\}"),
    ],
    ids=["all zero", "negative", "empty class"],
)
def test_mistakes_of_the_dataset(by_hand, tmp_path, columns, message):
    dataset, _ = make(by_hand, tmp_path / "jets", **columns)
    with pytest.raises(DataError, match=message):
        fit(dataset)
    if "weight" in columns:  # they are not asked for
        assert dataset.reweighting(ReweightConfig(variables=AXES), use_weights=False).num_draws > 0
    else:
        assert fit(dataset, class_weights={"top": 0}).num_draws > 0


def test_classes_without_a_common_bin_cannot_match(by_hand, tmp_path):
    dataset, _ = make(by_hand, tmp_path / "jets", jet_pt=np.where(np.arange(900) % 2 == 1, 550.0, 650.0))
    with pytest.raises(DataError, match=r"class 'qcd' has no training jets \(of positive weight\) in the bins of top"):
        fit(dataset, to="top")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variables": {}}, "at least 1 item"),
        ({"variables": {"pt": [2, 1]}}, r"two finite edges in ascending order, found \[2.0, 1.0\]"),
        ({"variables": {"pt": [1]}}, r"two finite edges"),
        ({"variables": {"pt": [0, float("inf")]}}, r"two finite edges"),
        ({"variables": {"pt": {"bins": 3}}}, r"a list of edges, or bins and range"),
        ({"variables": {"pt": {"bins": 3, "range": [0, 1], "edges": [0, 1]}}}, r"found both"),
        (
            {"variables": {"pt": {"bins": 1000, "range": [0, 1]}, "eta": {"bins": 101, "range": [0, 1]}}},
            r"at most 100,000",
        ),
        ({"variables": AXES, "class_weights": {"top": -1}}, "greater than or equal to 0"),
        ({"variables": AXES, "method": "throw"}, "'weight' or 'sample'"),
    ],
)
def test_mistakes_of_the_section(settings, message):
    with pytest.raises(ValidationError, match=message):
        ReweightConfig.model_validate(settings)


def test_a_wrong_key_of_an_axis_is_told_with_its_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: x\ntask: tagging\nmodel: pfn\ndata:\n  source: toy\n  reweight:\n    variables:\n"
        "      pt: {bins: 3, rang: [0, 1]}\n"
    )
    with pytest.raises(
        ExperimentError,
        match=r"yaml:8: data\.reweight\.variables\.pt\.rang: expected one of the keys bins, edges, range, found 'rang'",
    ):
        load_experiment(file)
