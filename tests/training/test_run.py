"""A trial from spec to files, and resumed as if nothing had happened."""

import json
import math
import os

import numpy as np
import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.training import load_checkpoint, train
from jetsweep.training.checkpoint import read_state, read_weights
from jetsweep.training.history import read_history

DROPOUT = {"name": "pfn", "phi_sizes": [16, 16], "f_sizes": [16], "latent_dropout": 0.2, "f_dropout": 0.2}


def all_tensors(value, prefix=""):
    """Leaves of a nested state, so that two states can be compared bitwise."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from all_tensors(item, f"{prefix}/{key}")
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            yield from all_tensors(item, f"{prefix}/{key}")
    else:
        yield prefix, value


def assert_same_state(a, b):
    left, right = dict(all_tensors(a)), dict(all_tensors(b))
    assert left.keys() == right.keys()
    for key, value in left.items():
        if "seconds" in key or "epoch_s" in key:
            continue
        same = torch.equal(value, right[key]) if isinstance(value, torch.Tensor) else value == right[key]
        assert same, key


def stop_at(step):
    calls = iter(range(1000))
    return lambda: next(calls) == step


def test_files_and_result_of_a_trial(make_spec, data_root, tmp_path):
    rows = []
    result = train(make_spec(), tmp_path, data_root, lambda m, c: rows.append((m, c.exists())) or False)
    assert result.stopped_because == "budget"
    assert [row["epoch"] for row, _ in rows] == [1, 2, 3]
    assert all(saved for _, saved in rows)
    assert [row["stopped_because"] for row, _ in rows] == ["", "", "budget"]
    assert read_history(tmp_path / "history.jsonl") == [row for row, _ in rows]
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["test"] == result.test
    assert stored["best"]["val/loss"] == min(row["val/loss"] for row, _ in rows)
    assert result.timing["inference_us_per_jet"] > 0

    loaded = load_checkpoint(tmp_path)
    assert loaded.classes == ("qcd", "top")
    assert loaded.spec == make_spec()
    with np.load(tmp_path / "evaluation" / "test.npz") as arrays:  # allow_pickle is off
        assert np.array_equal(arrays["rows"], np.arange(len(arrays["rows"])))
        assert result.test["test/accuracy"] == np.mean(arrays["probability"].argmax(1) == arrays["label"])


RESUMED = {
    "plain": {},
    "ranger, average, accumulation": {
        "optimizer": {"name": "ranger", "lr": 3e-3, "lookahead_steps": 3}, "ema_decay": 0.9, "accumulate": 2,
        "schedule": {"name": "flat-decay"}, "clip_grad_norm": 1.0,
    },
    "muon": {"optimizer": {"name": "muon"}, "schedule": {"name": "one-cycle"}},
    "lion": {"optimizer": {"name": "lion"}},
    "radam": {"optimizer": {"name": "radam"}},
    "sgd": {"optimizer": {"name": "sgd"}, "precision": "bf16"},
    "adam": {"optimizer": {"name": "adam"}, "steps_per_epoch": 7},
}  # fmt: skip


@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
@pytest.mark.parametrize("interrupted_at", [2, 5, 9])
def test_resumed_run_is_bitwise_the_uninterrupted_one(make_spec, data_root, tmp_path, settings, interrupted_at):
    spec = make_spec(DROPOUT, epochs=3, batch_size=96, **settings)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(spec, whole, data_root)
    first = train(spec, parts, data_root, stop_requested=stop_at(interrupted_at))
    assert first.stopped_because == "asked"
    assert read_state(parts / "checkpoints" / "last")["progress"]["step"] == interrupted_at
    torch.rand(7), np.random.rand(3)  # noqa: NPY002  (must not matter)
    second = train(spec, parts, data_root)
    assert second.stopped_because == "budget"
    for name in ("last", "best"):
        assert_same_state(read_weights(whole / "checkpoints" / name), read_weights(parts / "checkpoints" / name))
        assert_same_state(read_state(whole / "checkpoints" / name), read_state(parts / "checkpoints" / name))
    assert_same_state(read_history(whole / "history.jsonl"), read_history(parts / "history.jsonl"))


def test_killed_between_checkpoints_continues_from_the_newest_inside_the_epoch(make_spec, data_root, tmp_path):
    class Killed(BaseException):
        pass

    def kill_at(step):
        calls = iter(range(1000))

        def ask():
            if next(calls) == step:
                raise Killed
            return False

        return ask

    spec = make_spec(DROPOUT, epochs=3, batch_size=96, checkpoint_every_steps=2, ema_decay=0.9)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(spec, whole, data_root)
    for at in (5, 4, 3):
        with pytest.raises(Killed):
            train(spec, parts, data_root, stop_requested=kill_at(at))
    train(spec, parts, data_root)
    assert_same_state(read_state(whole / "checkpoints" / "last"), read_state(parts / "checkpoints" / "last"))
    assert [row["epoch"] for row in read_history(parts / "history.jsonl")] == [1, 2, 3]


def test_reporter_stops_after_its_epoch_and_a_larger_budget_goes_on(make_spec, data_root, tmp_path):
    result = train(make_spec(), tmp_path, data_root, lambda m, c: m["epoch"] == 1)
    assert (result.stopped_because, result.epoch, result.test) == ("asked", 1, {})
    assert train(make_spec(), tmp_path, data_root).epoch == 3
    assert train(make_spec(epochs=5), tmp_path, data_root).epoch == 5
    assert [row["epoch"] for row in read_history(tmp_path / "history.jsonl")] == [1, 2, 3, 4, 5]


def test_patience_ends_training(make_spec, data_root, tmp_path):
    spec = make_spec(epochs=9, optimizer={"name": "sgd", "lr": 1e-12}, monitor={"patience": 2, "min_delta": 1.0})
    result = train(spec, tmp_path, data_root)
    assert (result.stopped_because, result.epoch, result.best["epoch"]) == ("patience", 3, 1)
    assert result.test
    assert train(spec, tmp_path, data_root).stopped_because == "patience"


def test_divergence_ends_the_trial_and_names_the_step(make_spec, data_root, tmp_path):
    rows = []
    spec = make_spec(epochs=3, optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"})
    result = train(spec, tmp_path, data_root, lambda m, c: rows.append(m) or False)
    assert result.stopped_because == "diverged"
    assert result.error is not None
    assert "not finite at step" in result.error
    assert rows[-1]["stopped_because"] == "diverged"
    assert math.isnan(rows[-1]["val/auc"])
    for weights in tmp_path.glob("checkpoints/*"):
        assert all(torch.isfinite(x).all() for x in read_weights(weights)[0].values())


def test_other_data_or_network_cannot_continue(make_spec, data_root, tmp_path):
    train(make_spec(epochs=1), tmp_path, data_root)
    with pytest.raises(JetsweepError, match="its model is"):
        train(make_spec(DROPOUT, epochs=2), tmp_path, data_root)
    assert train(make_spec(DROPOUT, epochs=2), tmp_path, data_root, resume=False).epoch == 2


def test_fp16_on_a_cpu_is_refused(make_spec, data_root, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("fp16 is fine here")
    with pytest.raises(JetsweepError, match="fp16 needs a CUDA device"):
        train(make_spec(precision="fp16", epochs=1), tmp_path, data_root)


def test_unknown_monitor_metric_names_the_known_ones(make_spec, data_root, tmp_path):
    with pytest.raises(JetsweepError, match=r"monitor.metric: expected one of .*val/auc.*, found 'val/acu'"):
        train(make_spec(epochs=1, monitor={"metric": "val/acu"}), tmp_path, data_root)


def test_full_disk_keeps_the_previous_checkpoint(make_spec, data_root, tmp_path, monkeypatch):
    train(make_spec(epochs=1), tmp_path, data_root)
    before = read_state(tmp_path / "checkpoints" / "last")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("JETSWEEP_DISK_WAIT_S", "0")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JetsweepError, match="No space left on device"):
        train(make_spec(epochs=2), tmp_path, data_root)
    assert_same_state(before, read_state(tmp_path / "checkpoints" / "last"))
    assert not list(tmp_path.rglob("*tmp*"))
