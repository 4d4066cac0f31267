"""Experiments, machines and tracking stores that no sweep can begin with: one sentence, exit code 2, nothing made.

Every mistake in an experiment file is in tests/experiment/test_mistakes.py; a closed port through a process of its own
in tests/tracking/test_client.py; a misspelt key through one in tests/cli/test_main.py; a disk that fills up while
trials run in tests/training/test_full_disk.py.
"""

import socket
import sqlite3
import sys
from contextlib import closing, nullcontext

import pytest

from jetsweep.data import make_dataset
from jetsweep.tracking import client


@pytest.fixture
def refuse_run(refuse, no_ray, place):
    """Refused before a dataset is made or Ray is started."""
    return lambda *arguments: refuse("run", "toy.yaml", *arguments)


@pytest.fixture
def closed_port():
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.fixture
def mute_port(monkeypatch):
    """A port at which somebody accepts and never says a word."""
    monkeypatch.setattr(client, "SERVER_TIMEOUT_S", 0.3)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        yield mute.getsockname()[1]


# tracking


def test_a_database_in_a_folder_that_cannot_be_made(place, refuse_run):
    (place / "file").write_text("")
    uri = f"sqlite:///{place}/file/x/mlflow.db"
    assert refuse_run("--tracking-uri", uri) == (
        f"tracking URI {uri}: {place}/file/x/mlflow.db cannot be written: Not a directory"
    )
    assert refuse_run("--runs", "file/x").endswith("file/x/mlflow.db cannot be written: Not a directory")


def test_a_server_that_is_not_there(refuse, refuse_run, closed_port):
    uri = f"http://127.0.0.1:{closed_port}"
    told = f"tracking URI {uri}: the server does not answer within 5 s ([Errno 111] Connection refused)"
    assert refuse_run("--tracking-uri", uri) == told
    assert refuse("compare", "--tracking-uri", uri, "--filter", "metrics.x > 0") == told


def test_a_server_that_says_nothing(refuse, refuse_run, mute_port):
    uri = f"http://127.0.0.1:{mute_port}"
    told = f"tracking URI {uri}: the server does not answer within 0.3 s (timed out)"
    assert refuse_run("--tracking-uri", uri) == told
    assert refuse("compare", "--tracking-uri", uri, "--filter", "metrics.x > 0") == told


def test_a_database_server_that_is_not_there_and_its_password(refuse_run, closed_port):
    sentence = refuse_run("--tracking-uri", f"postgresql://me:secret@127.0.0.1:{closed_port}/runs")
    assert sentence.startswith(
        f"tracking URI postgresql://me:…@127.0.0.1:{closed_port}/runs: the database does not ans"
    )


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("ftp://server/x", "the scheme 'ftp'"),
        ("sqlitee:///runs.db", "the scheme 'sqlitee'"),
        ("sqlite://runs.db", "no path"),
        ("mlruns", "a folder; MLflow no longer keeps runs in files"),
        ("http://[::1", "no address: Invalid IPv6 URL"),
        ("postgresql://server:99999/runs", "no address: Port out of range 0-65535"),
    ],
)
def test_what_is_no_tracking_uri(refuse_run, uri, found):
    assert refuse_run("--tracking-uri", uri) == (
        f"tracking URI {uri}: expected sqlite:///relative/path, sqlite:////absolute/path, http(s)://… or a database, "
        f"found {found}"
    )


# experiments


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("training.optimizer.lr", "{log: [1e-2, 1e-4]}", ": log: expected low at most high, found [0.01, 0.0001]"),
        ("model", "pfnn", ".name: unknown model 'pfnn'; there are dnn, .*, did you mean 'pfn'?"),
        ("search.objectives", "[{metric: val/auk}]", "[0].metric: expected one of .*, did you mean 'val/auc'?"),
        ("training.monitor", "{metric: test/auc}", ".metric: expected one of the metrics val/loss, .*found 'test/auc'"),
        ("training.epoch", "3", ": expected one of the keys .*, found 'epoch', did you mean 'epochs'?"),
    ],
    ids=["low above high", "model", "objective", "monitor", "key"],
)
def test_a_mistake_on_the_command_line(refuse, no_ray, verb, key, value, told):
    before, _, after = told.partition(".*")
    sentence = refuse(verb, "toy.yaml", "-o", f"{key}={value}")
    assert sentence.startswith(f"-o {key}={value}: {key}{before}")
    assert sentence.endswith(after)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: toy.yaml\nsearch: {trials: [3}\n", "2: expected YAML, found a mistake: expected ',' or ']'"),
        ("extends: toy.yaml\nname: a\nname: b\n", "3: name: expected each key once, found it again"),
        ("extends: toy.yaml\nsearch:\n  trails: 3\n", "3: search.trails: expected one of the keys "),
        ("", "1: expected a mapping with name, task, data and model, found an empty file"),
    ],
    ids=["broken", "twice", "misspelt", "empty"],
)
def test_a_mistake_in_the_file(place, refuse, no_ray, text, told):
    (place / "bad.yaml").write_text(text)
    assert refuse("run", "bad.yaml").startswith(f"bad.yaml:{told}")


# machines


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_more_than_the_machine_has(refuse, no_ray, monkeypatch, verb):
    monkeypatch.setattr("jetsweep.search.concurrency.local_nodes", lambda: [{"CPU": 2.0}])
    for setting, told in (
        ("workers=99", ": a trial needs 99 workers of 1 CPU each, the cluster has 1 node of 2 CPU and 0 GPU"),
        ("cpus_per_worker=99", ": a trial needs 1 worker of 99 CPU, the cluster has 1 node of 2 CPU and 0 GPU"),
        ("gpus_per_worker=1", ": a trial needs 1 worker of 1 CPU and 1 GPU, the cluster has 1 node of 2 CPU and 0 GPU"),
        (
            "concurrent_trials=99",
            ".concurrent_trials: 99 asked for, but trials of 1 worker of 1 CPU fit 2 at once on 1 node of 2 CPU and 0 "
            "GPU; use 2 or auto",
        ),
    ):
        assert refuse(verb, "toy.yaml", "-o", f"resources.{setting}") == f"resources{told}"


# disks that are full when the sweep begins


@pytest.fixture
def begin(refuse, place, monkeypatch):
    """Refused where the sweep begins, its data being there: everything before its first trial, and no Ray."""
    monkeypatch.setattr("jetsweep.search.cluster.connected", lambda address=None: nullcontext())
    monkeypatch.setattr("jetsweep.search.concurrency.cluster_nodes", lambda: [{"CPU": 2.0}])
    data = make_dataset("toy", place.parent / "toy", jets=200).path
    return lambda *arguments: refuse("run", "toy.yaml", "-o", f"data={{path: {data}}}", *arguments)


@pytest.mark.parametrize("free", [0, 4, 8])
def test_no_room_for_a_sweep(begin, small_disk, tmp_path, free):
    disk = small_disk(64)
    (disk / "runs").mkdir()
    (disk / "ballast").write_bytes(bytes((64 - free) * 1024))
    sentence = begin("--runs", disk / "runs", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert sentence.startswith(f"{disk}/runs/toy/")
    assert sentence.endswith(": cannot be written: No space left on device")
    assert list((disk / "runs").iterdir()) == []
    assert statuses(tmp_path / "mlflow.db") == []


def test_no_room_for_the_database(begin, small_disk):
    runs = small_disk(300)
    sentence = begin("--runs", runs)
    assert sentence.startswith(f"tracking URI sqlite:///{runs}/mlflow.db: cannot be used: ")
    assert sentence.endswith("database or disk is full")
    assert list(runs.iterdir()) == []


def statuses(database):
    """Of the runs in a database, empty if there is none."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        return [status for (status,) in connection.execute("SELECT status FROM runs")]


# packages


def test_a_model_whose_package_is_missing(refuse_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lgatr", None)
    sentence = "model.name: lgatr needs the package lgatr, not installed: pip install 'jetsweep[lgatr]'"
    assert refuse_run("-o", "model=lgatr") == sentence
    assert refuse_run("-o", "model={choice: [pfn, lgatr]}") == sentence
