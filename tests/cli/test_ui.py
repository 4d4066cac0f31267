"""`jetsweep ui`: a server that is there until it is interrupted."""

import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

from jetsweep.errors import TrackingError
from jetsweep.tracking.ui import serve


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
