"""A sweep in MLflow: what its runs hold, and how they end on every way out."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jetsweep.data.dataset import open_dataset
from jetsweep.errors import JetsweepError, TrackingError
from jetsweep.tracking import start_tracking, sync_sweep, system_metrics
from jetsweep.tracking import tracker as tracker_module
from jetsweep.tracking.client import open_client
from jetsweep.tracking.store import MAX_PARAM_LENGTH, leaves, run_name
from jetsweep.tracking.system_metrics import SystemMetrics

specification = importlib.util.spec_from_file_location("jetsweep_test_folders", Path(__file__).parent / "folders.py")
by_hand = importlib.util.module_from_spec(specification)
specification.loader.exec_module(by_hand)


@pytest.fixture(scope="module")
def kept(toy_sweep):
    """Client, parent run and child runs by number of the toy sweep."""
    _, record = toy_sweep
    client = open_client(record["uri"])
    children = client.search_runs(
        [record["experiment_id"]], f"tags.`mlflow.parentRunId` = '{record['run_id']}'", max_results=10
    )
    return client, client.get_run(record["run_id"]), {int(r.data.tags["jetsweep.trial"]): r for r in children}


def artifacts(client, run, folder=None):
    return {item.path for item in client.list_artifacts(run.info.run_id, folder)}


def test_one_parent_and_one_child_for_each_trial_all_closed(kept):
    client, parent, children = kept
    assert parent.info.status == "FINISHED"
    assert {number: run.info.status for number, run in children.items()} == {
        0: "FINISHED",
        1: "FINISHED",
        2: "KILLED",
        3: "FAILED",
    }
    assert [children[n].data.tags["jetsweep.stopped_because"] for n in range(4)] == [
        "budget",
        "budget",
        "scheduler",
        "error",
    ]
    assert children[3].data.tags["jetsweep.error"] == "RuntimeError: out of luck"
    assert len(client.search_runs([parent.info.experiment_id])) == 5


def test_a_child_has_settings_metrics_by_epoch_and_its_result(kept, toy_sweep):
    client, _, children = kept
    params = children[1].data.params
    assert params["model.name"] == "efn"
    assert params["model.phi_sizes"] == "[16, 16]"
    assert params["training.optimizer.lr"] == params["drawn:training.optimizer.lr"] == "0.004"
    assert params["seed"] == "5"
    rows = [json.loads(line) for line in (toy_sweep[0] / "trials/00001/history.jsonl").read_text().splitlines()]
    for name in ("train/loss", "val/auc", "val/rejection_at_0.5"):
        points = client.get_metric_history(children[1].info.run_id, name)
        assert [(point.step, point.value) for point in points] == [(row["epoch"], row[name]) for row in rows]
    result = json.loads((toy_sweep[0] / "trials/00001/result.json").read_text())
    assert children[1].data.metrics["test/auc"] == result["test"]["test/auc"]
    assert children[1].data.metrics["parameters"] == result["parameters"]
    assert children[1].data.metrics["inference_us_per_jet"] == result["timing"]["inference_us_per_jet"]
    assert {"experiment.json", "result.json", "history.jsonl"} <= artifacts(client, children[1])
    assert {f"plots/{name}.{kind}" for name in ("loss", "roc", "score") for kind in ("png", "pdf")} == artifacts(
        client, children[1], "plots"
    )


def test_the_parent_has_lineage_environment_report_and_best_model(kept, toy_sweep):
    client, parent, children = kept
    dataset = open_dataset(next((toy_sweep[0].parents[1] / "data").glob("toy-*/")))
    for run in (parent, children[0]):
        inputs = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
        assert inputs.keys() == {"train", "validation", "test"}
        assert all(dataset.digest.startswith(d.digest) and len(d.digest) == 36 for d in inputs.values())
    assert len(parent.data.tags["mlflow.source.git.commit"]) == 40
    assert parent.data.tags["jetsweep.version.torch"].startswith("2.")
    assert parent.data.params["search.sampler"] == "tpe"
    assert parent.data.params["seed"] == "5"
    packages = Path(client.download_artifacts(parent.info.run_id, "packages.txt")).read_text()
    assert "\nnumpy==" in packages
    assert {"experiment.json", "experiment.yaml", "packages.txt"} <= artifacts(client, parent)
    assert artifacts(client, parent, "comparison") == {
        f"comparison/compare.{kind}" for kind in ("csv", "json", "html", "tex", "md")
    }
    plots = artifacts(client, parent, "plots")
    assert {"plots/learning-curves.png", "plots/roc.pdf", "plots/score.png", "plots/roc-comparison.pdf"} <= plots
    best = int(parent.data.tags["jetsweep.best_trial"])
    assert parent.data.metrics["best/test/auc"] == children[best].data.metrics["test/auc"]
    assert "| ★ efn |" in parent.data.tags["mlflow.note.content"]

    from jetsweep.training.checkpoint import load_checkpoint

    loaded = load_checkpoint(client.download_artifacts(parent.info.run_id, "best_model"))
    assert loaded.spec.model.name == children[best].data.tags["jetsweep.model"]
    assert loaded.classes == ("qcd", "top")


def statuses(uri):
    client = open_client(uri)
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {run.data.tags["jetsweep.kind"]: run.info.status for run in found}


def leave(sweeps, tmp_path, error, announce=False):
    """A sweep whose driver ends by `error` while a trial runs; `announce` as the search does on its way out."""
    template = sweeps.make_template(tmp_path)
    sweep_dir, tracker = sweeps.begin(template, tmp_path / "runs", tmp_path / "data")
    params, experiment = sweeps.draw(template, 0)

    def run():
        with tracker:
            tracker.sweep_started(sweeps.info(template, sweep_dir, tmp_path / "data"))
            tracker.trial_started(0, params, experiment, sweep_dir / "trials/00000")
            try:
                raise error
            finally:
                if announce:
                    tracker.trial_ended(0, "PRUNED", "interrupted", sweep_dir / "trials/00000", None)
                    tracker.sweep_ended("FAILED")

    with pytest.raises(type(error)):
        run()
    return tracker.uri


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("lost"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")]
)
def test_no_run_stays_open_when_the_driver_ends_by_an_exception(sweeps, tmp_path, error, status):
    assert statuses(leave(sweeps, tmp_path, error)) == {"sweep": status, "trial": status}


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("lost"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_sweep_that_tells_its_end_closes_as_it_ended(sweeps, tmp_path, error, status):
    assert statuses(leave(sweeps, tmp_path, error, announce=True)) == {"sweep": status, "trial": "KILLED"}


def test_the_interpreter_closes_what_nobody_closed(sweeps, tmp_path):
    code = f"""
import importlib.util, pathlib
spec = importlib.util.spec_from_file_location("sweeps", {sweeps.__file__!r})
sweeps = importlib.util.module_from_spec(spec); spec.loader.exec_module(sweeps)
root = pathlib.Path({str(tmp_path)!r})
template = sweeps.make_template(root)
sweep_dir, tracker = sweeps.begin(template, root / "runs", root / "data")
params, experiment = sweeps.draw(template, 0)
tracker.trial_started(0, params, experiment, sweep_dir / "trials/00000")
assert tracker._delivery.wait(300)
assert set(tracker.runs) == {{0}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert statuses(f"sqlite:///{tmp_path}/runs/mlflow.db") == {"sweep": "KILLED", "trial": "KILLED"}


def test_a_parent_that_cannot_be_filled_is_closed(sweeps, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlartifacts").write_text("a file where artifacts should go")
    template = sweeps.make_template(tmp_path)
    with pytest.raises(TrackingError, match="a run cannot be opened: "):
        sweeps.begin(template, tmp_path / "runs", tmp_path / "data")
    assert statuses(f"sqlite:///{tmp_path}/runs/mlflow.db") == {"sweep": "FAILED"}


def wait_until_delivered(tracker):
    assert tracker._delivery.wait(300)


def test_a_store_that_goes_away_loses_neither_the_sweep_nor_its_table(sweeps, tmp_path, monkeypatch):
    monkeypatch.setenv("JETSWEEP_TRACKING_WAIT_S", "0")
    template = sweeps.make_template(tmp_path)
    sweep_dir, tracker = sweeps.begin(template, tmp_path / "runs", tmp_path / "data")
    requests = []

    def gone(*arguments, **named):
        requests.append(arguments)
        raise ConnectionError("connection refused")

    with tracker, monkeypatch.context() as outage:
        sweeps.run_trial(tracker, template, sweep_dir, tmp_path / "data", 0)
        wait_until_delivered(tracker)
        assert tracker.undelivered() is None
        for name in ("log_batch", "create_run", "search_runs", "get_run", "log_artifact", "set_terminated"):
            outage.setattr(tracker._mirror.store.client, name, gone)
        outage.setattr(tracker_module, "is_reachable", lambda uri: False)
        sweeps.run_trial(tracker, template, sweep_dir, tmp_path / "data", 1)
        tracker.sweep_ended("FINISHED")
    # every request to a server that is gone may take many seconds
    assert len(requests) <= 3
    with pytest.raises(TrackingError) as told:
        tracker.check()
    assert str(told.value) == (
        f"tracking URI {tracker.uri}: not everything could be delivered (connection refused); "
        f"the results are complete in {sweep_dir}, and `jetsweep sync {sweep_dir}` delivers the rest"
    )
    assert len((sweep_dir / "compare.csv").read_text().splitlines()) == 3
    assert (sweep_dir / "plots" / "roc-comparison.pdf").exists()
    assert sync_sweep(sweep_dir).epochs == 2
    client = open_client(tracker.uri)
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert sweep.info.status == trials[0].info.status == trials[1].info.status == "FINISHED"
    assert sweep.data.tags["jetsweep.best_trial"] in ("0", "1")
    assert "plots/roc-comparison.pdf" in artifacts(client, sweep, "plots")
    for run in trials.values():
        assert [step for step, *_ in by_hand.histories(client, run)["val/auc"]] == [1, 2]
        assert "plots/roc.png" in artifacts(client, run, "plots")
    assert sync_sweep(sweep_dir).epochs == 0


def test_a_disk_that_is_full_for_a_while_ends_no_sweep(sweeps, tmp_path, monkeypatch):
    template = sweeps.make_template(tmp_path)
    sweep_dir, tracker = sweeps.begin(template, tmp_path / "runs", tmp_path / "data")
    with tracker:
        with monkeypatch.context() as full:

            def refuse(path, content):
                raise JetsweepError(f"{path}: cannot be written: No space left on device")

            full.setattr(tracker_module, "write_file", refuse)
            sweeps.run_trial(tracker, template, sweep_dir, tmp_path / "data", 0)
            assert not (sweep_dir / "trials/00000/outcome.json").exists()
        tracker.sweep_ended("FINISHED")
    assert json.loads((sweep_dir / "trials/00000/outcome.json").read_text())["status"] == "COMPLETE"
    assert (sweep_dir / "trials/00000/params.json").exists()
    tracker.check()
    sweep, trials = by_hand.runs_of(open_client(tracker.uri), sweep_dir)
    assert sweep.info.status == trials[0].info.status == "FINISHED"


def test_a_driver_killed_in_an_epoch_and_another_that_continues_its_runs(sweeps, tmp_path):
    code = f"""
import importlib.util, os, pathlib, signal
spec = importlib.util.spec_from_file_location("sweeps", {sweeps.__file__!r})
sweeps = importlib.util.module_from_spec(spec); spec.loader.exec_module(sweeps)
root = pathlib.Path({str(tmp_path)!r})
template = sweeps.make_template(root)
sweep_dir, tracker = sweeps.begin(template, root / "runs", root / "data")
tracker.sweep_started(sweeps.info(template, sweep_dir, root / "data"))
sweeps.run_trial(tracker, template, sweep_dir, root / "data", 0)
def die(number, metrics):
    assert tracker._delivery.wait(300)
    os.kill(os.getpid(), signal.SIGKILL)
tracker.trial_reported = die  # the row is in the history, nobody is told
sweeps.run_trial(tracker, template, sweep_dir, root / "data", 1)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    sweep_dir, template = tmp_path / "runs" / "toy", sweeps.make_template(tmp_path)
    before = json.loads((sweep_dir / "mlflow.json").read_text())
    client = open_client(before["uri"])
    _, trials = by_hand.runs_of(client, sweep_dir)
    assert trials[1].info.status == "RUNNING"
    ids = {number: run.info.run_id for number, run in trials.items()}

    with start_tracking(template, sweep_dir) as tracker:
        assert tracker.parent == before["run_id"]
        assert client.get_run(tracker.parent).info.status == "RUNNING"
        wait_until_delivered(tracker)
        _, trials = by_hand.runs_of(client, sweep_dir)
        assert (trials[0].info.status, trials[1].info.status) == ("FINISHED", "RUNNING")
        assert trials[1].data.metrics["epoch"] == 1
        sweeps.run_trial(tracker, template, sweep_dir, tmp_path / "data", 1)
        tracker.sweep_ended("FINISHED")
    tracker.check()
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert {number: run.info.run_id for number, run in trials.items()} == ids
    assert sweep.info.status == trials[0].info.status == trials[1].info.status == "FINISHED"
    assert sweep.data.tags["jetsweep.resumed"] == "1"
    for run in trials.values():
        found = by_hand.histories(client, run)
        assert [step for step, *_ in found["val/auc"]] == [step for step, *_ in found["lr"]] == [1, 2]
        assert [step for step, *_ in found["test/auc"]] == [2]
    (load,) = {tuple(s for s, *_ in p) for n, p in by_hand.histories(client, sweep).items() if n.startswith("system/")}
    assert load == tuple(range(len(load)))


def test_a_finished_sweep_that_is_extended_leaves_its_trials_alone(toy_sweep, sweeps, tmp_path):
    sweep_dir = tmp_path / "runs" / "toy"
    shutil.copytree(toy_sweep[0], sweep_dir)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sync_sweep(sweep_dir, uri)
    client = open_client(uri)
    before = by_hand.content(client, sweep_dir)
    template = sweeps.make_template(tmp_path)
    data_root = toy_sweep[0].parents[1] / "data"
    with start_tracking(template, sweep_dir, uri) as tracker:
        assert client.get_run(tracker.parent).info.status == "RUNNING"
        sweeps.run_trial(tracker, template, sweep_dir, data_root, 4)
        tracker.sweep_ended("FINISHED")
    tracker.check()
    after = by_hand.content(client, sweep_dir)
    assert {number: after[number] for number in range(4)} == {number: before[number] for number in range(4)}
    assert after[4][0] == after["sweep"][0] == "FINISHED"
    record = json.loads((sweep_dir / "mlflow.json").read_text())
    assert (record["uri"], list(record["mirrors"]), record["resumed"]) == (uri, [toy_sweep[1]["uri"]], 1)
    assert sync_sweep(sweep_dir).uri == uri


def test_a_deleted_experiment_is_refused(sweeps, tmp_path):
    template = sweeps.make_template(tmp_path)
    _, tracker = sweeps.begin(template, tmp_path / "runs", tmp_path / "data")
    with tracker:
        pass
    open_client(tracker.uri).delete_experiment(tracker._mirror.store.experiment_id)
    with pytest.raises(TrackingError, match="experiment 'toy' was deleted there"):
        sweeps.begin(template, tmp_path / "runs", tmp_path / "data", name="again")


def test_leaves_names_and_long_values():
    assert leaves({"a": {"b": 1, "c": None, "d": []}, "e": [1, 2]}) == {"a.b": 1, "e": [1, 2]}
    assert run_name("val/rejection@0.5") == "val/rejection_0.5"
    from jetsweep.tracking.store import _text

    cut = _text(list(range(5000)))
    assert len(cut) <= MAX_PARAM_LENGTH
    assert cut.endswith("… (cut, see experiment.json)")
    assert _text("x" * MAX_PARAM_LENGTH) == "x" * MAX_PARAM_LENGTH


def test_system_metrics_are_sampled():
    sampled, seen = threading.Event(), []

    def submit(values):
        seen.append(values)
        if len(seen) == 2:
            sampled.set()

    monitor = SystemMetrics(submit, interval_s=0.01)
    assert sampled.wait(60)
    monitor.close()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= seen[1].keys()
    count = len(seen)
    monitor.close()
    assert len(seen) == count


def test_a_long_sweep_is_sampled_less_often(monkeypatch):
    monkeypatch.setattr(system_metrics, "FREQUENT_SAMPLES", 2)
    monkeypatch.setattr(system_metrics, "FIRST_AFTER_S", 0.01)
    sampled, seen = threading.Event(), []

    def submit(values):
        seen.append(values)
        if len(seen) == 2:
            sampled.set()

    monitor = SystemMetrics(submit, interval_s=0.01, later_interval_s=3600.0)
    assert sampled.wait(60)
    monitor.close()
    assert len(seen) == 2
