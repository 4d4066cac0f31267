"""A trial whose workers are on two hosts with networks of their own: two network namespaces of this machine."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.ray

BIN = Path(sys.executable).parent
EXPERIMENT = """\
name: apart
seed: 1
task: {name: tagging, signal: top}
data: {source: {name: toy, jets: 1000}, max_constituents: 16}
model: {name: pfn, phi_sizes: [8], f_sizes: [8]}
training: {epochs: 2, batch_size: 100}
search: {trials: 1}
resources: {workers: 2, cpus_per_worker: 1}
"""


def _ip(*words):
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', '') or error}")


def _kill(process):
    """With its children: asked to end, Ray takes a quarter of a minute."""
    for child in [*psutil.Process(process.pid).children(recursive=True), process]:
        child.kill()


def _start(stack, log, *command, until):
    """A process that is ended with all its children; waits for what it says."""
    with log.open("w") as file:
        process = stack.enter_context(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))
    stack.callback(_kill, process)
    end = time.monotonic() + 60
    while until not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two hosts of one CPU each, whose raylets know each other: what to put before a command to run it on the first."""
    hosts = [f"jets{os.getpid()}{letter}" for letter in "ab"]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    common = ["--num-cpus=1", "--block", "--disable-usage-stats"]
    with ExitStack() as stack:
        for host in hosts:
            _ip("netns", "add", host)
            stack.callback(subprocess.run, ["ip", "netns", "delete", host])
        _ip("link", "add", hosts[0], "netns", hosts[0], "type", "veth", "peer", "name", hosts[1], "netns", hosts[1])
        for number, host in enumerate(hosts, start=1):
            _ip("-n", host, "address", "add", f"10.77.0.{number}/24", "dev", host)
            for device in (host, "lo"):
                _ip("-n", host, "link", "set", device, "up")
        # sockets below pytest's folders would have names that are too long
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jets", ignore_cleanup_errors=True))
        within = [["ip", "netns", "exec", host] for host in hosts]
        head = ["--head", "--port=6379", "--node-ip-address=10.77.0.1", f"--temp-dir={folder}"]
        head += ["--include-dashboard=false", *common]
        other = ["--address=10.77.0.1:6379", "--node-ip-address=10.77.0.2", *common]
        for name, before, options in zip(("head", "other"), within, (head, other)):
            log = tmp_path / f"{name}.log"
            _start(stack, log, *before, BIN / "ray", "start", *options, until="Ray runtime started")
        yield within[0]


def test_workers_on_two_hosts_train_one_network(cluster, tmp_path):
    (tmp_path / "apart.yaml").write_text(EXPERIMENT)
    command = [*cluster, BIN / "jetsweep", "run", tmp_path / "apart.yaml", "--runs", tmp_path / "runs"]
    env = os.environ | {"RAY_ADDRESS": "10.77.0.1:6379"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    trial = tmp_path / "runs" / "apart" / "trials" / "00000"
    assert not (trial / "restarts.jsonl").exists(), "the first attempt found the other host"
    assert [json.loads(line)["epoch"] for line in (trial / "history.jsonl").read_text().splitlines()] == [1, 2]
