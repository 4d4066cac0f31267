"""Device memory that runs out: one sentence, or the same training in smaller pieces."""

import json
import logging
import weakref

import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.models._jet_model import JetModel
from jetsweep.training import train
from jetsweep.training.checkpoint import read_weights
from jetsweep.training.config import TrainingConfig
from jetsweep.training.history import read_history
from jetsweep.training.memory import OutOfMemory, halved


@pytest.fixture
def limit(monkeypatch):
    """Let batches above a number of jets run out of memory: `limit(training=..., evaluation=...)`, after some calls."""

    def set_limit(training=10**9, evaluation=10**9, after=0):
        forward, calls = JetModel.forward, []

        def limited(self, batch):
            calls.append(len(batch))
            if len(batch) > (training if self.training else evaluation) and len(calls) > after:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(self, batch)

        monkeypatch.setattr(JetModel, "forward", limited)
        return calls

    return set_limit


def test_one_sentence_with_what_to_do(make_spec, data_root, tmp_path, limit):
    limit(training=50)
    with pytest.raises(
        OutOfMemory,
        match=r"^test: out of memory on cpu \(.* GiB\) with micro-batches of 96 jets \(batch_size=96, accumulate=1\); "
        r"raise training.accumulate, .* or set training.on_out_of_memory: halve$",
    ) as caught:
        train(make_spec(), tmp_path, data_root)
    assert isinstance(caught.value, JetsweepError)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # its frames would hold on to the memory


def test_nothing_of_the_failed_trial_stays_alive(make_spec, data_root, tmp_path, monkeypatch):
    alive = []

    def forward(self, batch):
        alive.append(weakref.ref(self))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(JetModel, "forward", forward)
        with pytest.raises(OutOfMemory):
            train(make_spec(), tmp_path, data_root)
    assert alive
    assert all(model() is None for model in alive)
    assert train(make_spec(), tmp_path, data_root).stopped_because == "budget"


@pytest.mark.parametrize("after", [0, 8])
def test_halve_goes_on_with_the_same_batch(make_spec, data_root, tmp_path, limit, caplog, after):
    spec = make_spec(accumulate=2)
    train(spec, tmp_path / "whole", data_root)
    calls = limit(training=24, after=after)
    rows = []
    with caplog.at_level(logging.WARNING, "jetsweep"):
        result = train(
            make_spec(on_out_of_memory="halve", accumulate=2), tmp_path / "pieces", data_root,
            lambda m, c: rows.append(m["epoch"]) or False,
        )  # fmt: skip
    assert (result.stopped_because, result.epoch, result.accumulate) == ("budget", 3, 4)
    assert rows == [1, 2, 3]
    assert 48 in calls
    assert json.loads((tmp_path / "pieces" / "result.json").read_text())["accumulate"] == 4
    assert json.loads((tmp_path / "pieces" / "experiment.json").read_text())["training"]["accumulate"] == 2
    assert [record.message.split("; ")[-1] for record in caplog.records] == ["trying smaller ones"]
    whole, pieces = (read_history(tmp_path / folder / "history.jsonl") for folder in ("whole", "pieces"))
    assert [row["step"] for row in whole] == [row["step"] for row in pieces]
    for a, b in zip(whole, pieces, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)


def test_a_later_attempt_begins_with_the_pieces_that_fitted(make_spec, data_root, tmp_path, limit):
    limit(training=24)
    train(make_spec(on_out_of_memory="halve", epochs=1), tmp_path, data_root)
    calls = limit(training=24)
    assert train(make_spec(on_out_of_memory="halve", epochs=2), tmp_path, data_root).accumulate == 4
    assert max(calls[:5]) == 24


def test_evaluation_gets_smaller_batches_of_its_own(make_spec, data_root, tmp_path, limit):
    train(make_spec(), tmp_path / "whole", data_root)
    limit(evaluation=40)
    with pytest.raises(OutOfMemory, match=r"evaluation batches of 1000 jets; lower training.eval_batch_size"):
        train(make_spec(), tmp_path / "fail", data_root)
    result = train(make_spec(on_out_of_memory="halve"), tmp_path / "pieces", data_root)
    assert (result.stopped_because, result.accumulate) == ("budget", 1)
    whole, pieces = (read_weights(tmp_path / folder / "checkpoints" / "last")[0] for folder in ("whole", "pieces"))
    assert all(torch.equal(value, pieces[name]) for name, value in whole.items())


def test_one_jet_too_many_ends_the_trial(make_spec, data_root, tmp_path, limit):
    limit(training=0)
    with pytest.raises(OutOfMemory, match=r"micro-batches of 1 jets .*; choose a smaller model or fewer constituents"):
        train(make_spec(on_out_of_memory="halve"), tmp_path, data_root)


def test_pieces_are_equal_and_every_worker_gets_a_jet():
    training = TrainingConfig(batch_size=90, accumulate=1)
    sizes = []
    while (training := halved(training, 2, evaluating=False)) is not None:
        sizes.append(training.accumulate)
    assert sizes == [2, 5, 10, 30, 45]
    training, sizes = TrainingConfig(eval_batch_size=9), []
    while (training := halved(training, 2, evaluating=True)) is not None:
        sizes.append(training.eval_batch_size)
    assert sizes == [4, 2]
