"""The fault matrix: a sweep of two-worker trials is hurt at a random moment, and must end as if it had not been.

``python tests/faults/matrix.py [--seeds 5] [--trials 12] [--faults worker …]`` prints a markdown table. Each run is
`jetsweep run` as a user starts it, with real processes; where its driver dies, `jetsweep resume` goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

EXPERIMENT = """
name: hurt
task: {{name: tagging, signal: top}}
data: {{source: {{name: toy, jets: {jets}, seed: 1}}, max_constituents: 16}}
model: {{name: pfn, phi_sizes: [16, 16], f_sizes: [16]}}
training: {{epochs: {epochs}, batch_size: 96, optimizer: {{name: adamw, lr: {{log: [1e-3, 1e-2]}}}}}}
search: {{trials: {trials}, sampler: tpe, scheduler: none, seed: {seed}}}
resources: {{workers: {workers}, cpus_per_worker: {cpus}, gpus_per_worker: 0}}
"""
EPOCHS = 6
JETS = (10_000, 600)
"""For trials in one process, and in several: those start slowly, and shall not be over before they are hurt."""
MARK = "JETSWEEP_FAULT_RUN"
"""Environment variable that every process of a run inherits."""

RUN_TIMEOUT_S = 900.0
DISK = "64m"


@dataclass
class Hurt:
    """One run: its folders, its processes, and what was found at its end.

    Parameters
    ----------
    folder : Path
    trials : int
    seed : int
    workers : int
        Of each trial.
    away_s, full_s : float
        Seconds for which the MLflow server is away, and for which the disk is full.
    """

    folder: Path
    trials: int
    seed: int
    workers: int = 2
    away_s: float = 60.0
    full_s: float = 20.0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    env: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.runs = self.folder / "runs"
        self.file = self.folder / "hurt.yaml"
        self.file.write_text(
            EXPERIMENT.format(
                trials=self.trials,
                epochs=EPOCHS,
                seed=self.seed,
                workers=self.workers,
                cpus=1 / self.workers,
                jets=JETS[self.workers > 1],
            )
        )
        self.env = {
            **os.environ,
            MARK: self.mark,
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "JETSWEEP_DATA": str(self.folder / "data"),
            "JETSWEEP_TRACKING_WAIT_S": "120",
        }
        self.env.pop("RAY_ADDRESS", None)

    @property
    def sweep(self) -> Path:
        """The sweep's folder."""
        return self.runs / "hurt"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a `jetsweep` command in a session of its own."""
        command = [sys.executable, "-m", "jetsweep.cli.main", *words, "--runs", str(self.runs)]
        return self.spawn(command, "log.txt")

    def spawn(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, with its output in a file."""
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(command, env=self.env, stdout=file, stderr=file, start_new_session=True)

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Living processes of the run whose command line holds `title`."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                if process.environ().get(MARK) == self.mark and title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def epochs_written(self) -> int:
        """Epochs of all trials so far."""
        files = self.sweep.glob("trials/*/history.jsonl")
        return sum(len(path.read_text().splitlines()) for path in files)

    def wait_for_moment(self, driver: subprocess.Popen[bytes]) -> None:
        """Wait for a random epoch of the sweep, and a random while after it."""
        epoch = self.random.randint(1, max(1, self.trials * EPOCHS // 2))
        while self.epochs_written() < epoch and driver.poll() is None:
            time.sleep(0.1)
        # a short sweep would be over before a longer while
        time.sleep(self.random.uniform(0.0, 0.1 * self.trials))

    def kill(self, *titles: str) -> bool:
        """Kill -9 one random process of a kind; whether there was one within a while."""
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            found = [process for title in titles for process in self.processes(title)]
            if found:
                victim = self.random.choice(sorted(found, key=lambda process: process.pid))
                self.log.append(f"killed {victim.pid}")
                victim.kill()
                return True
            time.sleep(0.1)
        return False


Fault = Callable[[Hurt, subprocess.Popen[bytes]], None]


def _kill_one(*titles: str) -> Fault:
    def fault(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
        hurt.wait_for_moment(driver)
        if not hurt.kill(*titles):
            raise AssertionError(f"no process called {titles[0]} was there to be killed")

    return fault


def _kill_driver(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
    hurt.wait_for_moment(driver)
    driver.kill()


def _interrupt(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
    hurt.wait_for_moment(driver)
    driver.send_signal(signal.SIGINT)


def _terminate_everything(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
    hurt.wait_for_moment(driver)
    for process in hurt.processes():
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)


def _fill_disk(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
    hurt.wait_for_moment(driver)
    filler = hurt.runs / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    time.sleep(hurt.full_s)
    filler.unlink()


def _kill_server(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
    hurt.wait_for_moment(driver)
    for process in hurt.processes("mlflow"):
        with contextlib.suppress(psutil.Error):
            process.kill()
    time.sleep(hurt.away_s)
    _start_server(hurt)


def _kill_node(hurt: Hurt, driver: subprocess.Popen[bytes]) -> None:
    hurt.wait_for_moment(driver)
    second = json.loads((hurt.folder / "second.json").read_text())
    process = psutil.Process(second["raylet"])
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    process.kill()


FAULTS: dict[str, Fault] = {
    "worker": _kill_one("RayTrainWorker"),
    "trial": _kill_one("ray::TrialActor", "ray::ResourceTrainable"),
    "controller": _kill_one("TrainController"),
    "driver": _kill_driver,
    "ctrl-c": _interrupt,
    "node": _kill_node,
    "server": _kill_server,
    "disk": _fill_disk,
    "sigterm": _terminate_everything,
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start_server(hurt: Hurt) -> None:
    port = int(hurt.env["MLFLOW_TRACKING_URI"].rpartition(":")[2])
    store = f"sqlite:///{hurt.folder / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    command += ["--default-artifact-root", str(hurt.folder / "artifacts"), "--workers", "1"]
    hurt.servers.append(hurt.spawn(command, "server.txt"))
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise AssertionError("the MLflow server did not start")


@contextlib.contextmanager
def surroundings(hurt: Hurt, fault: str) -> Iterator[None]:
    """What a fault needs beside the sweep: a server, a small disk, a cluster of two nodes."""
    with contextlib.ExitStack() as stack:
        if fault == "server":
            hurt.env["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{free_port()}"
            _start_server(hurt)
        if fault == "disk":
            hurt.runs.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(hurt.runs)], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(hurt.runs)], check=True)
        if fault == "node":
            stack.enter_context(_two_nodes(hurt))
        try:
            yield
        finally:
            for process in hurt.processes("mlflow"):
                process.kill()
            for server in hurt.servers:
                server.wait()


@contextlib.contextmanager
def _two_nodes(hurt: Hurt) -> Iterator[None]:
    """A cluster of two raylets on this machine, with the first as its head."""
    code = (
        "import json, sys, time; from ray.cluster_utils import Cluster\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'include_dashboard': False})\n"
        "second = cluster.add_node(num_cpus=1)\n"
        "raylet = second.all_processes['raylet'][0].process.pid\n"
        "print(json.dumps({'address': cluster.address, 'raylet': raylet}), flush=True)\n"
        "sys.stdin.read(); cluster.shutdown()\n"
    )
    env = {**hurt.env, MARK: hurt.mark + "-cluster"}  # the cluster outlives the sweep
    command = [sys.executable, "-c", code]
    with (hurt.folder / "cluster.txt").open("wb") as log:
        cluster = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            assert cluster.stdout is not None
            line = cluster.stdout.readline()
            if not line:
                raise AssertionError(f"no cluster: {(hurt.folder / 'cluster.txt').read_text()[-2000:]}")
            said = json.loads(line)
            (hurt.folder / "second.json").write_text(json.dumps(said))
            hurt.env["RAY_ADDRESS"] = said["address"]
            yield
        finally:
            cluster.communicate(timeout=60)


def run_hurt(
    folder: Path,
    fault: str,
    seed: int,
    trials: int,
    workers: int = 2,
    away_s: float = 60.0,
    full_s: float = 20.0,
) -> tuple[Hurt, list[str]]:
    """Run one sweep with one fault.

    Parameters
    ----------
    folder : Path
    fault : str
        A key of `FAULTS`.
    seed : int
        Of the sampler, and of the moment of the fault.
    trials, workers, away_s, full_s : int, int, float, float
        As `Hurt` has them.

    Returns
    -------
    hurt, wrong : Hurt, list of str
        What is wrong at the end, [] if nothing.
    """
    folder.mkdir(parents=True)
    hurt = Hurt(folder, trials, seed, workers, away_s, full_s)
    with surroundings(hurt, fault):
        began = time.monotonic()
        process = hurt.start("run", str(hurt.file))
        try:
            FAULTS[fault](hurt, process)
            code = _wait(process)
            while code != 0 and hurt.resumed < 3:
                hurt.resumed += 1
                process = hurt.start("resume", "hurt")
                code = _wait(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        hurt.seconds = time.monotonic() - began
        wrong = [] if code == 0 else [f"the last command ended with {code}"]
        wrong += check(hurt, fault)
    return hurt, wrong


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it hangs: nothing ended within {RUN_TIMEOUT_S:g} s") from None


def check(hurt: Hurt, fault: str) -> list[str]:
    """Everything that must hold at the end, as sentences about what does not."""
    return [*_check_study(hurt), *_check_runs(hurt), *_check_processes(hurt, fault), *_check_groups(hurt, fault)]


def _check_study(hurt: Hurt) -> Iterator[str]:
    from jetsweep.tracking.study import read_study

    states = [trial.state.name for trial in read_study(hurt.sweep).trials]
    if states != ["COMPLETE"] * hurt.trials:
        yield f"the study's trials are {states}"


def _check_runs(hurt: Hurt) -> Iterator[str]:
    from jetsweep.tracking.client import open_client

    client: Any = open_client(hurt.env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{hurt.runs / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "hurt"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    if len(runs) != hurt.trials + 1 or len(children) != hurt.trials:
        yield f"{len(runs)} runs of which {len(children)} trials, expected {hurt.trials + 1} and {hurt.trials}"
    states = {run.info.status for run in runs}
    if states != {"FINISHED"}:
        yield f"runs are {sorted(states)}"
    if len({json.dumps(run.data.params, sort_keys=True) for run in children}) != len(children):
        yield "two runs have the same parameters"
    for run in children:
        for metric in ("val/auc", "val/loss", "train/loss"):
            steps = [point.step for point in client.get_metric_history(run.info.run_id, metric)]
            if sorted(steps) != list(range(1, EPOCHS + 1)):
                yield f"{metric} of {run.info.run_name} has the steps {sorted(steps)}"


def _check_processes(hurt: Hurt, fault: str) -> Iterator[str]:
    give_up = time.monotonic() + 20
    while (left := hurt.processes("ray::")) and time.monotonic() < give_up:
        # one of Ray's own stays as long as the cluster, which is not the sweep's
        if fault == "node" and all("_AutoscalingCoordinatorActor" in " ".join(p.cmdline()) for p in left):
            return
        time.sleep(0.5)
    for process in left:
        with contextlib.suppress(psutil.Error):
            yield f"still there: {' '.join(process.cmdline())[:80]}"


def _check_groups(hurt: Hurt, fault: str) -> Iterator[str]:
    if fault != "node":  # the cluster ended with the sweep
        return
    code = (
        "import json, ray; from ray.util import placement_group_table\n"
        "ray.init(log_to_driver=False, logging_level='ERROR')\n"
        "print(json.dumps(sorted({group['state'] for group in placement_group_table().values()})))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=hurt.env, capture_output=True, text=True, check=True)
    states = json.loads(done.stdout.splitlines()[-1])
    if states not in ([], ["REMOVED"]):
        yield f"placement groups are {states}"


def main() -> None:
    """Run the matrix and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=12)
    given = parser.parse_args()
    print("| fault | seed | resumed | seconds | outcome |\n|---|---:|---:|---:|---|", flush=True)
    bad = 0
    for fault in given.faults:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            root = Path(tempfile.mkdtemp(prefix="jetsweep-fault-"))
            try:
                hurt, wrong = run_hurt(root / fault, fault, seed, given.trials)
                row = f"{hurt.resumed} | {hurt.seconds:.0f}"
            except AssertionError as error:
                wrong, row = [str(error)], "|"
            bad += bool(wrong)
            where = f" (in {root})" if wrong else ""
            if not wrong:
                shutil.rmtree(root, ignore_errors=True)
            print(f"| {fault} | {seed} | {row} | {'; '.join(wrong) or 'as if nothing had been'}{where} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
