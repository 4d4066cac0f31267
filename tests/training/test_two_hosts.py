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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two hosts of one CPU each, whose raylets know each other: what to put before a command to run it on the first."""
    hosts = [f"jets{os.getpid()}{letter}" for letter in "ab"]
    common = ["--num-cpus=1", "--block", "--disable-usage-stats"]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"MODE": "token", "TOKEN": secrets.token_hex(32)}.items():
            patch.setenv(f"RAY_AUTH_{name}", value)
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
            log = tmp_path_factory.mktemp("hosts") / f"{name}.log"
            _start(stack, log, *before, BIN / "ray", "start", *options, until="Ray runtime started")
        yield within[0]


def _run(cluster, folder, *command, **env):
    env = os.environ | {"RAY_ADDRESS": "10.77.0.1:6379", **env}
    command = [*cluster, *command]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)


def test_workers_on_two_hosts_train_one_network(cluster, tmp_path):
    (tmp_path / "apart.yaml").write_text(EXPERIMENT)
    done = _run(cluster, tmp_path, BIN / "jetsweep", "run", tmp_path / "apart.yaml", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    trial = tmp_path / "runs" / "apart" / "trials" / "00000"
    assert not (trial / "restarts.jsonl").exists(), "the first attempt found the other host"
    assert [json.loads(line)["epoch"] for line in (trial / "history.jsonl").read_text().splitlines()] == [1, 2]


WORKERS_SEE = """
import os, ray
from jetsweep.search.cluster import connected
with connected():
    names = ("MALLOC_ARENA_MAX", "JETSWEEP_CACHE")
    see = ray.remote(num_cpus=1)(lambda: {name: os.environ.get(name) for name in names})
    print([ray.get(see.options(label_selector={"ray.io/node-id": node["NodeID"]}).remote()) for node in ray.nodes()])
"""


def test_workers_of_a_foreign_cluster_get_the_settings(cluster, tmp_path):
    done = _run(cluster, tmp_path, sys.executable, "-c", WORKERS_SEE, JETSWEEP_CACHE="/scratch")
    assert done.stdout.strip() == str([{"MALLOC_ARENA_MAX": "1", "JETSWEEP_CACHE": "/scratch"}] * 2), done.stderr
