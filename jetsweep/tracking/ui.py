"""Web pages on what sweeps left, for as long as somebody looks: MLflow's, and Optuna's dashboard."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import IO, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from jetsweep.errors import TrackingError
from jetsweep.tracking.client import ENVIRONMENT, is_reachable, local_uri, open_client, sqlite_path

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0

_PAGE = "runs?workflowType=machine_learning"
"""MLflow 3 opens on its pages for language models otherwise."""

Show = Callable[[str, list[tuple[str, str]]], None]


def serve(runs_root: Path, port: int, show: Show) -> int:
    """Run MLflow's server until it is interrupted.

    Parameters
    ----------
    runs_root : Path
        Folder of sweeps, with ``mlflow.db``.
    port : int
    show : callable
        Called with the address, and with name and address of each experiment, once the server answers.

    Returns
    -------
    int
        Exit code: 0 after an interrupt.

    Raises
    ------
    TrackingError
        If there is no database, the port is taken, or the server does not start.
    """
    uri = local_uri(runs_root)
    if not sqlite_path(uri).exists():
        raise TrackingError(f"{runs_root}: expected mlflow.db of earlier sweeps, found none; is --runs right?")
    _check_free(port)
    # migrated here, before the server's several processes open it; and asked while nobody else does
    experiments = [(e.name, e.experiment_id) for e in open_client(uri).search_experiments() if e.name != "Default"]
    address = f"http://{HOST}:{port}"
    words = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    artifacts = (sqlite_path(uri).parent / "mlartifacts").as_uri()
    environment = {
        **ENVIRONMENT,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of evaluations of language models
        **os.environ,
    }
    command = [sys.executable, "-m", "mlflow", "server", *words, "--default-artifact-root", artifacts]
    with tempfile.TemporaryFile("w+") as log, _terminate_as_interrupt():
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(server, address, log)
            show(address, [(name, f"{address}/#/experiments/{number}/{_PAGE}") for name, number in experiments])
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()
            server.wait()


def serve_study(sweep_dir: Path, port: int, show: Callable[[str], None]) -> int:
    """Run Optuna's dashboard on a sweep's study until it is interrupted; the study can be looked at, not changed.

    Parameters
    ----------
    sweep_dir : Path
        Of a sweep that runs or ran.
    port : int
        0 for any that is free.
    show : callable
        Called with the address once the dashboard answers.

    Returns
    -------
    int
        Exit code: 0 after an interrupt.

    Raises
    ------
    TrackingError
        If there is no study, the port is taken, or the dashboard is not installed.
    """
    from importlib.util import find_spec

    from jetsweep.tracking.study import read_storage

    if find_spec("optuna_dashboard") is None:
        raise TrackingError(
            "optuna-dashboard: expected it to be installed, it is not; get it with pip install 'jetsweep[dashboard]'"
        )
    storage = read_storage(sweep_dir)
    from optuna_dashboard import wsgi

    try:
        server = make_server(HOST, port, wsgi(storage), _ThreadedServer, _QuietHandler)
    except OSError as error:
        raise TrackingError(f"port {port} of {HOST}: {error.strerror}; choose another with --port") from error
    with server, _terminate_as_interrupt():
        try:
            show(f"http://{HOST}:{server.server_port}")
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is not for every request."""


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the server with us, as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(f"port {port} of {HOST}: {error.strerror}; choose another with --port") from error


def _wait(server: subprocess.Popen[bytes], address: str, log: IO[str]) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not is_reachable(address):
        if server.poll() is not None:
            log.seek(0)
            last = (log.read().strip().splitlines() or ["no message"])[-1]
            raise TrackingError(f"MLflow's server ended with code {server.returncode}: {last}")
        if time.monotonic() > end:
            raise TrackingError(f"MLflow's server does not answer at {address} after {START_TIMEOUT_S:g} s")
        time.sleep(0.2)
