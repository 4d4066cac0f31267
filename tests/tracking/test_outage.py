"""A real MLflow server that is killed in mid-sweep and comes back: nothing lost, nothing doubled, nobody waits."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from jetsweep.tracking import delivery as delivery_module
from jetsweep.tracking import sync_sweep, ui
from jetsweep.tracking.client import ENVIRONMENT, open_client

specification = importlib.util.spec_from_file_location("jetsweep_test_folders", Path(__file__).parent / "folders.py")
by_hand = importlib.util.module_from_spec(specification)
specification.loader.exec_module(by_hand)


@contextmanager
def server(root, port):
    """MLflow's server on a SQLite file; killed with all its processes at the end."""
    database = f"sqlite:///{root}/server.db"
    words = ["--backend-store-uri", database, "--artifacts-destination", str(root / "artifacts"), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *words, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (root / "server.log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            ui._wait(process, f"http://127.0.0.1:{port}", log)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Folder, port and address of a server whose database is migrated already."""
    monkeypatch.setattr(delivery_module, "ASK_AGAIN_S", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    open_client(f"sqlite:///{tmp_path}/server.db")
    port = free_port()
    return tmp_path, port, f"http://127.0.0.1:{port}"


def check(client, sweep_dir, numbers):
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert set(trials) == set(numbers)
    assert {run.info.status for run in (sweep, *trials.values())} == {"FINISHED"}
    for run in trials.values():
        found = by_hand.histories(client, run)
        once = [name for name in found if name.startswith("test/") or name in ("parameters", "train_seconds")]
        by_hand.check_steps(client, run, 2, {*once, "inference_us_per_jet", "single_jet_us"})
        assert "test/auc" in found
        assert "plots/roc.png" in {item.path for item in client.list_artifacts(run.info.run_id, "plots")}
    load = {name: p for name, p in by_hand.histories(client, sweep).items() if name.startswith("system/")}
    for points in load.values():
        assert [step for step, *_ in points] == list(range(len(points)))
    return load


def test_a_server_killed_in_mid_sweep_and_restarted(sweeps, place, capsys):
    root, port, uri = place
    template = sweeps.make_template(root)
    with server(root, port):
        sweep_dir, tracker = sweeps.begin(template, root / "runs", root / "data", uri)
        tracker.sweep_started(sweeps.info(template, sweep_dir, root / "data"))
        sweeps.run_trial(tracker, template, sweep_dir, root / "data", 0)
        params, experiment = sweeps.draw(template, 1)
        tracker.trial_started(1, params, experiment, sweep_dir / "trials/00001")
    # the server is gone: two trials are trained and told all the same
    for number in (1, 2):
        sweeps.run_trial(tracker, template, sweep_dir, root / "data", number)
    assert not tracker._delivery.is_done
    with server(root, port):
        tracker.sweep_ended("FINISHED")
        assert tracker.undelivered() is None
        client = open_client(uri)
        assert check(client, sweep_dir, {0, 1, 2})
        assert sync_sweep(sweep_dir).epochs == 0
    assert capsys.readouterr().out == ""  # MLflow has much to say about every run it closes


def test_a_server_that_stays_away_is_synced_later(sweeps, place, monkeypatch):
    monkeypatch.setenv("JETSWEEP_TRACKING_WAIT_S", "0")
    root, port, uri = place
    template = sweeps.make_template(root)
    with server(root, port):
        sweep_dir, tracker = sweeps.begin(template, root / "runs", root / "data", uri)
    with tracker:
        sweeps.run_trial(tracker, template, sweep_dir, root / "data", 0)
        tracker.sweep_ended("FINISHED")
    assert f"`jetsweep sync {sweep_dir}` delivers the rest" in tracker.undelivered()
    with server(root, port):
        assert sync_sweep(sweep_dir).epochs == 2
        check(open_client(uri), sweep_dir, {0})
