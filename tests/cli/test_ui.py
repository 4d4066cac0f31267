"""`jetsweep ui`: a server that is there until it is interrupted."""

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from jetsweep.cli.ui import ui
from jetsweep.errors import TrackingError
from jetsweep.experiment.schema import SearchConfig
from jetsweep.search.study import open_study
from jetsweep.tracking.ui import serve, serve_study


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_answers_and_ends_with_us(toy_sweep, number):
    port = free_port()
    command = [sys.executable, "-m", "jetsweep.cli.main", "ui", "--runs", toy_sweep[0].parent, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port} (Ctrl-C ends it)" in process.stdout.readline()
        experiment = process.stdout.readline()
        assert experiment.startswith(f"  toy: http://127.0.0.1:{port}/#/experiments/")
        with urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            assert b"MLflow" in page.read()
    finally:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == ""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_no_database(tmp_path):
    with pytest.raises(TrackingError, match=r"expected mlflow.db of earlier sweeps, found none; is --runs right\?"):
        serve(tmp_path, free_port(), lambda *arguments: None)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken(toy_sweep):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=rf"port {port} of 127.0.0.1: Address already in use; choose another"):
            serve(toy_sweep[0].parent, port, lambda *arguments: None)


@pytest.fixture
def study(tmp_path):
    """Folder of sweeps with an older sweep and one whose study has a complete trial."""
    for name in ("older", "tops"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "experiment.json").write_text("{}")
        made = open_study(tmp_path / name, SearchConfig())
    made.tell(made.ask(), 0.9)
    return tmp_path


@pytest.mark.parametrize(("words", "number"), [([], signal.SIGINT), (["tops"], signal.SIGTERM)])
def test_the_dashboard_shows_a_study_and_cannot_change_it(study, words, number):
    pytest.importorskip("optuna_dashboard")
    port = free_port()
    options = ["--optuna", *words, "--runs", study, "--port", str(port)]
    command = [sys.executable, "-m", "jetsweep.cli.main", "ui", *options]
    before = (study / "tops" / "study.log").read_bytes()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{port}"
        assert process.stdout.readline() == f"Optuna on {study}/tops: {address} (Ctrl-C ends it)\n"
        with urlopen(f"{address}/api/studies", timeout=60) as answer:
            (found,) = json.load(answer)["study_summaries"]
        assert found["study_name"] == "sweep"
        with pytest.raises(HTTPError, match="500"):
            urlopen(Request(f"{address}/api/studies/0", method="DELETE"), timeout=60)
        with urlopen(f"{address}/dashboard/", timeout=60) as page:
            assert b"Optuna Dashboard" in page.read()
    finally:
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (study / "tops" / "study.log").read_bytes() == before
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_mistakes_about_the_dashboard(study, monkeypatch):
    runs = study / "none"
    with pytest.raises(TrackingError, match=r"expected sweeps with a study, found none; is --runs right\?"):
        ui(None, optuna=True, runs=runs, port=1)
    with pytest.raises(TrackingError, match=r"other: expected a sweep with a study \(study.log\), found none"):
        ui("other", optuna=True, runs=study, port=1)
    with pytest.raises(TrackingError, match="expected a sweep together with --optuna, found 'tops' alone"):
        ui("tops", runs=study, port=1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(TrackingError, match="Address already in use; choose another with --port"):
            serve_study(study / "tops", other.getsockname()[1], print)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrackingError, match=r"it is not; get it with pip install 'jetsweep\[dashboard\]'"):
        serve_study(study / "tops", 0, print)
