"""Sweeps on a real two-CPU cluster; trials that need no jets come from `fake`."""

import json
import os
import signal
import sys
import threading

import pytest
from ray import cloudpickle

from jetsweep.errors import ResourceError
from jetsweep.search.cluster import demanded
from jetsweep.search.tune_run import run_sweep
from jetsweep.training.run import TrainResult

pytestmark = pytest.mark.ray
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # trials cannot import this file


def fake(spec, workdir, data_root, reporter, *, stop_requested):
    """Value falls with the trial's learning rate; 5e-3 crashes, 6e-3 diverges, 7e-3 kills its process."""
    lr = spec.training.optimizer.lr
    value = 1.0 - lr
    for epoch in range(1, spec.training.epochs + 1):
        if lr == 5e-3:
            raise RuntimeError("no such luck")
        if lr == 7e-3:
            os.kill(os.getpid(), signal.SIGKILL)
        because = "diverged" if lr == 6e-3 else "budget" if epoch == spec.training.epochs else ""
        metrics = {"epoch": epoch, "val/auc": float("nan") if lr == 6e-3 else value, "stopped_because": because}
        if reporter(metrics, None) or stop_requested():
            return TrainResult("asked", epoch, metrics, {}, None, 1, 0.0)
        if because:
            break
    return TrainResult(because, epoch, metrics, {}, "loss is NaN" if because == "diverged" else None, 1, 0.0)


def test_the_autoscaler_is_asked_for_room_while_a_sweep_runs(ray_cluster):
    from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
    from ray.experimental.internal_kv import _internal_kv_get

    def asked():
        return json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or "[]")

    with demanded([{"CPU": 1.0}, {"CPU": 1.0}]):
        assert asked() == [{"CPU": 1.0}, {"CPU": 1.0}]
    assert asked() == []


def test_every_end_of_a_trial_is_recorded_and_the_sweep_goes_on(ray_cluster, make_template, recorder, tmp_path):
    template = make_template(trials=5, sampler="grid", lr="{choice: [5e-3, 6e-3, 7e-3, 1e-3, 2e-3]}", epochs=3)
    result = run_sweep(template, tmp_path / "sweep", tmp_path, recorder, train=fake)
    assert recorder.ended == {
        0: ("FAILED", "error", "RuntimeError: no such luck"),
        1: ("PRUNED", "diverged", "loss is NaN"),
        2: ("FAILED", "error", "the trial's process died 4 times"),
        3: ("COMPLETE", "budget", None),
        4: ("COMPLETE", "budget", None),
    }
    assert recorder.sweep == ["started", "FINISHED"]
    assert [epoch for number, epoch in recorder.reports if number == 3] == [1, 2, 3]
    assert result.best is not None
    assert result.best.number == 3
    assert "no such luck" in (tmp_path / "sweep" / "trials" / "00000" / "error.txt").read_text()
    assert not (tmp_path / "sweep" / ".tune").exists()


def hang(spec, workdir, data_root, reporter, *, stop_requested):
    """Hangs after an epoch when it starts for the first time; 5e-3 always does."""
    first = not (workdir / "was-here").exists()
    (workdir / "was-here").touch()
    reporter({"epoch": 1, "val/auc": 0.5, "stopped_because": ""}, None)
    if first or spec.training.optimizer.lr == 5e-3:
        threading.Event().wait()
    return fake(spec, workdir, data_root, reporter, stop_requested=stop_requested)


def test_a_trial_that_hangs_starts_again_or_fails(ray_cluster, make_template, recorder, tmp_path):
    options = ("resources.stall_minutes=0.2", "resources.max_restarts=1")
    template = make_template(*options, trials=2, sampler="grid", lr="{choice: [5e-3, 1e-3]}", epochs=2)
    run_sweep(template, tmp_path / "sweep", tmp_path, recorder, train=hang)
    assert recorder.ended == {
        0: ("FAILED", "error", "the trial's process died 2 times (no epoch ended for 0.2 minutes)"),
        1: ("COMPLETE", "budget", None),
    }


def test_asha_stops_the_weaker_trial_and_it_ends_by_itself(ray_cluster, make_template, recorder, tmp_path):
    template = make_template(
        "resources.concurrent_trials=1",
        trials=3,
        sampler="grid",
        scheduler="asha",
        lr="{choice: [1e-3, 2e-3, 3e-3]}",
        epochs=9,
    )
    result = run_sweep(template, tmp_path / "sweep", tmp_path, recorder, train=fake)
    assert [(trial.status, trial.stopped_because, trial.epoch) for trial in result.trials] == [
        ("COMPLETE", "budget", 9),
        ("PRUNED", "scheduler", 1),
        ("PRUNED", "scheduler", 1),
    ]


def test_what_never_fits_is_refused_before_anything_is_made(ray_cluster, make_template, recorder, tmp_path):
    with pytest.raises(ResourceError, match="needs 3 workers"):
        run_sweep(make_template(workers=3), tmp_path / "sweep", tmp_path, recorder)
    assert not (tmp_path / "sweep").exists()
    assert recorder.sweep == []


def test_real_trials_with_asha(ray_cluster, make_template, recorder, tmp_path):
    template = make_template(trials=3, epochs=3, sampler="tpe", scheduler="asha")
    result = run_sweep(template, tmp_path / "sweep", tmp_path / "data", recorder)
    assert result.status == "FINISHED"
    assert {trial.status for trial in result.trials} <= {"COMPLETE", "PRUNED"}
    assert result.best is not None
    assert result.best.best["val/auc"] > 0.8
    for trial in result.trials:
        assert (trial.folder / "result.json").exists()


@pytest.mark.timeout(400)
def test_a_stopped_trial_of_two_workers_leaves_room_for_the_next(ray_cluster, make_template, recorder, tmp_path):
    """The worker groups fill the cluster, so one that leaked would keep the next trial from starting (ray#54305)."""
    from ray.util import placement_group_table

    template = make_template(
        trials=3, epochs=3, sampler="grid", scheduler="asha", workers=2, lr="{choice: [1e-2, 1e-7, 1e-8]}"
    )
    result = run_sweep(template, tmp_path / "sweep", tmp_path / "data", recorder)
    assert [trial.stopped_because for trial in result.trials] == ["budget", "scheduler", "scheduler"]
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}
