"""Training on background with a second stream of outliers: what each stream reads, exact resumption, several ranks."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist

from jetsweep.data.config import DataConfig, prepare
from jetsweep.data.pairing import PairingConfig
from jetsweep.data.reweight import ReweightConfig
from jetsweep.data.selection import STREAMS, Selection
from jetsweep.errors import DataError, JetsweepError
from jetsweep.models._jet_model import build_jet_model
from jetsweep.tasks import TASKS, Stream, TaskEntry, build_task
from jetsweep.tasks.tagging import Tagging, TaggingConfig
from jetsweep.training import TrialSpec, train
from jetsweep.training.check import check_data
from jetsweep.training.checkpoint import read_weights
from jetsweep.training.history import read_history
from jetsweep.training.loaders import fit_reweightings, statistics_loader, training_loaders
from jetsweep.training.world import World

QCD, TOP = Selection(("qcd",)), Selection(("top",))
OUTLIERS = {
    "plain": Stream("train", TOP, ratio=0.5),
    "paired": Stream("train", TOP, pairing=PairingConfig(by=("mass", "pt"), window=(60.0, 40.0))),
    "spread": Stream("train", TOP, ratio=0.3, pairing=PairingConfig(window=(60.0,))),
    "reweighted": Stream("train", TOP, reweight=ReweightConfig(to="qcd", variables={"mass": (0, 176, 190, 500)})),
    "second": Stream("train", dataset="outliers"),
}


class ExposureConfig(TaggingConfig):
    """Which of `OUTLIERS` is read."""

    name: str = "exposure"
    outliers: str = "plain"


class Exposure(Tagging):
    """Scores of background jets go to 0, of outliers to 1; every jet has its own loss, so ranks can add them up."""

    streams = ("main", "outliers")

    def stream(self, name):
        return Stream(selection=QCD) if name == "main" else OUTLIERS[self.config.outliers]

    def training_loss(self, phase, module, batches):
        main, outliers = batches["main"], batches["outliers"]
        assert (main.targets["label"] == 0).all()
        assert len(outliers) > 0
        per_outlier = (module(outliers) - 1).square()
        share = self.stream("outliers").ratio * len(main)  # ranks have more or less than this
        parts = {"background": module(main).square().mean(), "outliers": per_outlier.sum() / share}
        if "pair" in outliers.targets and len(main) == len(outliers):
            parts["pairs"] = torch.relu(module(main) - module(outliers) + 1).mean()
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}


ENTRY = TaskEntry(ExposureConfig, Exposure)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(TASKS._entries, "exposure", ENTRY)


@pytest.fixture
def make_exposure(make_spec):
    def make(outliers="plain", data=None, **training):
        tree = make_spec(**{"epochs": 2, "batch_size": 64, **training}).model_dump(mode="json")
        tree["task"] = {"name": "exposure", "outliers": outliers}
        tree["data"] |= data or {}
        return TrialSpec.model_validate(tree)

    return make


def weights_of(folder):
    return read_weights(folder / "checkpoints" / "last")[0]


def loaders_of(spec, data_root, rank=0, size=1):
    dataset = prepare(spec.data, data_root)
    task = build_task(spec.task, dataset.classes)
    model = build_jet_model(spec.model, 1, spec.data.max_constituents)
    reweightings = fit_reweightings(spec, task, dataset)
    return dataset, training_loaders(spec, task, model, dataset, World(rank, size, torch.device("cpu")), reweightings)


def rows_of(loader, epoch=0):
    return np.concatenate([batch.rows.numpy() for batch in loader.batches(epoch)])


@pytest.mark.parametrize(("outliers", "accumulate"), [("plain", 2), ("paired", 2), ("spread", 1), ("reweighted", 1)])
def test_resumed_run_is_bitwise_the_uninterrupted_one(make_exposure, data_root, tmp_path, outliers, accumulate):
    spec = make_exposure(outliers, accumulate=accumulate)
    train(spec, tmp_path / "whole", data_root)
    calls = iter(range(1000))
    first = train(spec, tmp_path / "parts", data_root, stop_requested=lambda: next(calls) == 5)
    assert first.stopped_because == "asked"
    assert train(spec, tmp_path / "parts", data_root).stopped_because == "budget"
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    record = json.loads((tmp_path / "parts" / STREAMS).read_text())
    counts = prepare(spec.data, data_root).class_counts("train")
    assert record["main"]["classes"] == {"qcd": counts["qcd"], "top": 0}
    assert record["outliers"]["classes"] == {"qcd": 0, "top": counts["top"]}
    extra = {"paired": {"pairing"}, "spread": {"pairing"}, "reweighted": {"reweighting"}}.get(outliers, set())
    assert {"pairing", "reweighting"} & record["outliers"].keys() == extra


def test_two_ranks_equal_one(two_ranks, make_exposure, data_root, tmp_path):
    specs = [make_exposure(outliers).model_dump(mode="json") for outliers in ("paired", "spread")]
    for number, spec in enumerate(specs):
        train(TrialSpec.model_validate(spec), tmp_path / "one" / str(number), data_root)
    two_ranks(_rank, (specs, tmp_path / "two", data_root, tmp_path / "rendezvous"))
    for number in ("0", "1"):
        curves = [read_history(tmp_path / folder / number / "history.jsonl") for folder in ("one", "two")]
        for a, b in zip(*curves, strict=True):
            for name in ("train/background", "train/outliers", "val/loss"):
                assert a[name] == pytest.approx(b[name], rel=1e-4)
        one, two = (weights_of(tmp_path / folder / number) for folder in ("one", "two"))
        for name, value in one.items():
            torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4)


def _rank(rank, specs, workdir, data_root, rendezvous):
    TASKS.add("exposure")(ENTRY)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        for number, spec in enumerate(specs):
            world = World(rank, 2, torch.device("cpu"))
            train(TrialSpec.model_validate(spec), workdir / str(number), data_root, world=world)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("outliers", ["plain", "paired", "reweighted"])
def test_streams_read_their_classes_and_their_share(make_exposure, data_root, outliers):
    spec = make_exposure(outliers, accumulate=2, data={"train_fraction": 0.5})
    dataset, loaders = loaders_of(spec, data_root)
    label = dataset.to_pandas("train")["label"].astype(str).to_numpy()
    half = round(0.5 * len(label))
    main, second = rows_of(loaders["main"]), rows_of(loaders["outliers"])
    assert set(label[main]) == {"qcd"}
    assert set(label[second]) == {"top"}
    assert max(main.max(), second.max()) < half
    assert loaders["main"].num_rows == (label[:half] == "qcd").sum()
    assert {len(batch) for batch in loaders["outliers"].batches(0)} == {round(32 * OUTLIERS[outliers].ratio)}


def test_features_are_scaled_by_background_alone(make_exposure, data_root):
    spec = make_exposure()
    dataset = prepare(spec.data, data_root)
    task = build_task(spec.task, dataset.classes)
    model = build_jet_model(spec.model, 1, spec.data.max_constituents)
    batches = list(statistics_loader(spec, task, model, dataset).batches(0))
    assert all((batch.targets["label"] == 0).all() for batch in batches)
    assert sum(map(len, batches)) == dataset.class_counts("train")["qcd"]


def test_outliers_take_on_the_spectrum_of_the_background(make_exposure, data_root):
    dataset, loaders = loaders_of(make_exposure("reweighted"), data_root)
    mass = dataset.to_pandas("train")["jet_mass"].to_numpy()
    label = dataset.to_pandas("train")["label"].astype(str).to_numpy()
    edges = [0, 176, 190, 500]
    outliers = np.concatenate([rows_of(loaders["outliers"], epoch) for epoch in range(3)])
    found, wanted, before = (
        np.histogram(x, edges, density=True)[0] * np.diff(edges)
        for x in (mass[outliers], mass[label == "qcd"], mass[label == "top"])
    )
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert np.abs(before - wanted).max() > 0.3


def test_outliers_from_a_second_dataset(make_exposure, data_root, tmp_path):
    data = {"outliers": {"source": {"name": "toy", "jets": 300, "seed": 9}}}
    spec = make_exposure("second", data=data, epochs=1)
    dataset, loaders = loaders_of(spec, data_root)
    assert loaders["outliers"].reader is dataset.outliers.reader("train")
    result = train(spec, tmp_path, data_root)
    assert result.stopped_because == "budget"
    record = json.loads((tmp_path / STREAMS).read_text())
    assert record["outliers"]["dataset"] == dataset.outliers.digest != record["main"]["dataset"] == dataset.digest
    assert prepare(spec.data.without_outliers(), data_root).outliers is None
    with pytest.raises(DataError, match=r"data\.outliers: the task reads outliers from a second dataset, found none"):
        check_data(make_exposure("second"), dataset=prepare(make_exposure().data, data_root))


MISTAKES = {
    "unknown class": (
        Stream(selection=Selection(("tops",))),
        r"classes out of qcd, top; found 'tops', did you mean",
    ),
    "no such split": (Stream("oe"), r"task 'exposure' needs the split 'oe', found \['test', 'train', 'val'\]"),
    "a leak": (Stream("test"), r"stream 'outliers': expected a split for training, found 'test'"),
    "too few signals": (
        Stream(selection=Selection(("qcd",), (("top", 5.0),))),
        r"'train' has \d+ jets of top, expected [\d,]+ for S/B 5 with \d+ of qcd",
    ),
}


@pytest.mark.parametrize(("stream", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_before_any_trial(make_exposure, data_root, monkeypatch, stream, message):
    monkeypatch.setitem(OUTLIERS, "plain", stream)
    spec = make_exposure()
    dataset = prepare(spec.data, data_root)
    with pytest.raises(DataError, match=message):
        check_data(spec, dataset)
    with pytest.raises(DataError, match=message):
        loaders_of(spec, data_root)


def test_batches_without_outliers_are_refused(make_exposure, data_root, monkeypatch):
    monkeypatch.setitem(OUTLIERS, "plain", Stream(selection=TOP, ratio=0.01))
    with pytest.raises(DataError, match=r"0.01 to 64 jets gives 0 in each of 2 micro-batches, expected at least 1"):
        loaders_of(make_exposure(accumulate=2), data_root)
    monkeypatch.setitem(OUTLIERS, "plain", Stream(selection=TOP, ratio=0.05))
    with pytest.raises(DataError, match=r"gives 3 in each of 1 micro-batches, expected at least 4 \(one per worker\)"):
        loaders_of(make_exposure(), data_root, size=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.0}, "a number above 0, found 0.0"),
        ({"ratio": 1.5, "pairing": PairingConfig()}, "at most 1 or an integer, found 1.5"),
        ({"pairing": PairingConfig(), "reweight": OUTLIERS["reweighted"].reweight}, "either paired, .* or reweighted"),
    ],
)
def test_impossible_streams(settings, message):
    with pytest.raises(JetsweepError, match=message):
        Stream(**settings)


def test_data_outliers_of_an_experiment():
    with pytest.raises(ValueError, match="expected either `source` or `path`, found neither"):
        DataConfig.model_validate({"source": "toy", "outliers": {}})


def test_outliers_that_no_stream_reads_are_refused(make_exposure, data_root):
    spec = make_exposure("plain", data={"outliers": {"source": {"name": "toy", "jets": 300, "seed": 7}}})
    with pytest.raises(DataError, match=r"data\.outliers: task 'exposure' reads no outliers, expected none"):
        check_data(spec, prepare(spec.data, data_root))
