"""Tracking URIs: where they come from, and how unusable ones are refused."""

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from jetsweep.errors import TrackingError
from jetsweep.tracking import check_tracking, client
from jetsweep.tracking.client import artifact_location, check_uri, is_reachable, open_client, resolve_uri


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_flag_before_environment_before_file_before_sqlite(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert resolve_uri("http://flag", "http://file", tmp_path) == "http://flag"
    assert resolve_uri(None, "http://file", tmp_path) == "http://environment"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert resolve_uri(None, "http://file", tmp_path) == "http://file"
    assert resolve_uri(None, None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///a.db", None, tmp_path) == f"sqlite:///{tmp_path}/a.db"


def test_artifacts_lie_beside_a_local_database():
    assert artifact_location("sqlite:////x/my runs/mlflow.db", "top") == "file:///x/my%20runs/mlartifacts/top"
    assert artifact_location("http://server", "top") is None


def test_opening_migrates_the_database_and_sets_mlflow_up(tmp_path, monkeypatch):
    for name in client.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    open_client(f"sqlite:///{tmp_path}/mlflow.db")
    # no second migration: processes that open it now find all tables
    import sqlite3

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    database.close()
    assert {"runs", "latest_metrics", "alembic_version"} <= tables
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"  # the user's
    for name in client.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: (folder / "x").write_text(""), "x/y/mlflow.db cannot be written: Not a directory"),
        (lambda folder: (folder / "x/y/mlflow.db").mkdir(parents=True), "mlflow.db cannot be written: Is a directory"),
        (
            lambda folder: [(folder / "x/y").mkdir(parents=True), (folder / "x/y/mlflow.db").write_text("hello " * 99)],
            "mlflow.db is no SQLite database: file is not a database",
        ),
    ],
)
def test_a_database_that_cannot_be_written_is_refused(tmp_path, make, told):
    make(tmp_path)
    uri = f"sqlite:///{tmp_path}/x/y/mlflow.db"
    with pytest.raises(TrackingError) as error:
        open_client(uri)
    assert str(error.value).startswith(f"tracking URI {uri}: ")
    assert str(error.value).endswith(told)
    assert "\n" not in str(error.value)


def test_asking_makes_no_database(tmp_path):
    check_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_closed_port_is_refused(scheme):
    with pytest.raises(TrackingError, match=r"does not answer within 5 s \(.*Connection refused"):
        check_uri(f"{scheme}://127.0.0.1:{free_port()}/x")


def test_a_password_is_not_repeated():
    with pytest.raises(TrackingError) as error:
        check_uri(f"postgresql://me:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(error.value)


def test_a_server_that_accepts_and_says_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(client, "SERVER_TIMEOUT_S", 0.3)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(TrackingError, match=r"does not answer within 0.3 s \(.*timed out"):
            check_uri(uri)


@pytest.mark.parametrize(("status", "is_there"), [(401, True), (404, True), (502, False), (503, False)])
def test_a_server_counts_as_there_when_it_answers_itself(status, is_there):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert is_reachable(f"http://127.0.0.1:{server.server_port}") is is_there
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("uri", "told"), [("mlruns", "found a folder"), ("file:///tmp/x", "found a folder")])
def test_a_folder_is_refused(uri, told):
    with pytest.raises(TrackingError, match=told):
        check_uri(uri)


def test_a_scheme_that_mlflow_does_not_know_is_refused():
    with pytest.raises(TrackingError, match=r"tracking URI ftp://x/y: expected sqlite.*found the scheme .ftp.$"):
        open_client("ftp://x/y")


def test_a_sweep_is_refused_before_anything_is_made(sweeps, tmp_path):
    template = sweeps.make_template(tmp_path / "file")
    with pytest.raises(TrackingError, match="does not answer"):
        check_tracking(template, f"http://127.0.0.1:{free_port()}", tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_time_to_wait_that_is_none_is_refused(sweeps, tmp_path, monkeypatch):
    monkeypatch.setenv("JETSWEEP_TRACKING_WAIT_S", "a minute")
    with pytest.raises(TrackingError, match="JETSWEEP_TRACKING_WAIT_S: expected seconds, found 'a minute'"):
        check_tracking(sweeps.make_template(tmp_path / "file"), None, tmp_path / "runs")


def test_the_command_line_says_one_sentence_and_leaves_nothing(tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    ended = subprocess.run(
        [sys.executable, "-m", "jetsweep.cli.main", "run", "toy.yaml", "--tracking-uri", uri],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"jetsweep: tracking URI {uri}: the server does not answer within 5 s")
    assert list(tmp_path.iterdir()) == []
