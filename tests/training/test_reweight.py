"""Trials on reweighted jets: their record, exact resumption, what is refused."""

import json

import pytest
import torch

from jetsweep.data.config import prepare
from jetsweep.errors import DataError
from jetsweep.tasks import build_task
from jetsweep.training import TrialSpec, train
from jetsweep.training.checkpoint import read_weights
from jetsweep.training.loaders import fit_reweightings

VARIABLES = {"pt": {"bins": 3, "range": [500, 800]}, "mass": [0, 60, 400]}


@pytest.fixture
def make_reweighted(make_spec):
    def make(task=None, reweight=None, **training):
        tree = make_spec(epochs=2, **training).model_dump(mode="json")
        tree["data"]["reweight"] = {"to": "flat", "variables": VARIABLES, **(reweight or {})}
        tree["task"] |= task or {}
        return TrialSpec.model_validate(tree)

    return make


def weights_of(folder):
    return read_weights(folder / "checkpoints" / "last")[0]


@pytest.mark.parametrize("method", ["sample", "weight"])
def test_resumed_run_is_bitwise_the_uninterrupted_one(make_reweighted, data_root, tmp_path, method):
    spec = make_reweighted(reweight={"method": method})
    train(spec, tmp_path / "whole", data_root)
    calls = iter(range(1000))
    first = train(spec, tmp_path / "parts", data_root, stop_requested=lambda: next(calls) == 3)
    assert first.stopped_because == "asked"
    assert train(spec, tmp_path / "parts", data_root).stopped_because == "budget"
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    record = json.loads((tmp_path / "parts" / "reweighting.json").read_text())
    assert record["method"] == method
    assert record["variables"]["jet_pt"] == [500, 600, 700, 800]
    dataset = prepare(spec.data, data_root)
    counts = dataset.class_counts("train")
    assert {name: c["used"] + c["outside"] + c["unmatched"] for name, c in record["classes"].items()} == counts
    assert record["jets"] == sum(counts.values())


def test_only_training_jets_are_reweighted(make_reweighted, make_spec, data_root, tmp_path):
    frozen = {"optimizer": {"name": "sgd", "lr": 1e-30}, "schedule": {"name": "constant"}}
    rows = {}
    for name, spec in {"plain": make_spec(epochs=2, **frozen), "flat": make_reweighted(**frozen)}.items():
        train(spec, tmp_path / name, data_root, lambda m, c, name=name: rows.__setitem__(name, m) or False)
    assert rows["plain"]["val/loss"] == pytest.approx(rows["flat"]["val/loss"], rel=1e-6)
    assert rows["plain"]["train/loss"] != pytest.approx(rows["flat"]["train/loss"], rel=1e-6)


def test_weights_that_the_task_does_not_use_are_refused(make_reweighted, data_root):
    spec = make_reweighted(task={"use_weights": False}, reweight={"method": "weight"})
    dataset = prepare(spec.data, data_root)
    with pytest.raises(DataError, match=r"data\.reweight\.method: weight expects task\.use_weights: true, found false"):
        fit_reweightings(spec, build_task(spec.task, dataset.classes), dataset)
    allowed = make_reweighted(task={"use_weights": False})
    assert list(fit_reweightings(allowed, build_task(allowed.task, dataset.classes), dataset)) == ["main"]


def test_a_mistake_reaches_every_rank_before_training(make_reweighted, data_root, tmp_path):
    spec = make_reweighted(reweight={"variables": {"jet_ptt": [0, 1]}})
    with pytest.raises(DataError, match=r"data\.reweight\.variables: .*found 'jet_ptt', did you mean 'jet_pt'\?"):
        train(spec, tmp_path, data_root)
    assert not (tmp_path / "result.json").exists()
