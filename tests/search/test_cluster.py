"""A cluster that was started for a sweep leaves no process behind, and one that `ray start` started can be joined."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from jetsweep.search.cluster import end_stragglers

# a process that calls itself as Ray's workers do, and does not end by itself
WORKER = """
import ctypes, time
ctypes.CDLL(None).prctl(15, b"ray::Straggler", 0, 0, 0)
print("ready", flush=True)
time.sleep(600)
"""


def start(raylet):
    env = os.environ | {"RAY_RAYLET_PID": raylet}
    process = subprocess.Popen([sys.executable, "-c", WORKER], env=env, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def test_workers_that_outlive_their_cluster_are_ended(monkeypatch):
    monkeypatch.setattr("jetsweep.search.cluster._EXIT_S", 0.1)
    mine, foreign = start("1234567"), start("7654321")
    try:
        end_stragglers({"1234567"})
        assert mine.wait(10) == -9
        assert psutil.Process(foreign.pid).status() != psutil.STATUS_ZOMBIE
        assert foreign.poll() is None
    finally:
        for process in (mine, foreign):
            process.kill()
            process.wait()
            process.stdout.close()


JOIN = """
from jetsweep.search.cluster import connected
with connected():
    import ray
    print("CPUs:", ray.cluster_resources()["CPU"])
"""


@pytest.fixture
def short_folder():
    """Paths of Ray's sockets may not be longer than 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.mark.ray
def test_a_cluster_that_asks_for_a_token_is_joined(short_folder):
    """As `ray start` starts it, with a home of its own for the token."""
    home = short_folder
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(home)}
    env["RAY_USAGE_STATS_ENABLED"] = "0"
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port=0", "--num-cpus=3"]
    command += ["--include-dashboard=false", f"--temp-dir={home / 'r'}"]
    with (home / "log").open("w") as log:
        head = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        address = home / "r" / "ray_current_cluster"
        while not address.exists() and head.poll() is None:
            time.sleep(0.2)
        assert address.exists(), (home / "log").read_text()
        env["RAY_ADDRESS"] = address.read_text().strip()
        joined = subprocess.run([sys.executable, "-c", JOIN], env=env, capture_output=True, text=True, timeout=120)
        assert "CPUs: 3.0" in joined.stdout, joined.stderr
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait(60)
