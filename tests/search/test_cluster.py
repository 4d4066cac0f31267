"""A cluster that was started for a sweep leaves no process behind."""

import os
import subprocess
import sys

import psutil

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
