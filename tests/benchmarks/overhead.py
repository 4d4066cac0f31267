"""What the platform costs: an epoch against the bare loop's, the way to the first step, a trial that does nothing.

``python tests/benchmarks/overhead.py [rounds]`` prints markdown tables: median over rounds (smallest to largest). Let
nothing else run on the machine meanwhile: epochs of the two are compared one run after the other. With ``--spare-core``
it prints the first table alone, of trials on a running Ray cluster that leaves one core to the platform.
"""

import argparse
import io
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jetsweep.data.config import prepare
from jetsweep.experiment import ExperimentTemplate, load_experiment
from jetsweep.search.cluster import connected
from jetsweep.search.concurrency import cluster_nodes, plan_concurrency, usable_cpus
from jetsweep.search.listener import Listeners
from jetsweep.search.progress import Progress
from jetsweep.tracking import start_tracking
from jetsweep.training.history import read_history
from jetsweep.training.run import TrainResult

GOAL = 1.03  # times the bare loop's epoch
JETS, EPOCHS, NOOP_TRIALS = 20_000, 6, 20

FILE = f"""
name: overhead
task: {{name: tagging, signal: top}}
data: {{source: {{name: toy, jets: {JETS}}}, max_constituents: 64}}
model: {{name: pfn, features: kin, phi_sizes: [100, 100, 128], f_sizes: [100, 100, 100]}}
training:
  epochs: {EPOCHS}
  batch_size: 256
  optimizer: {{name: adam, lr: 1e-3}}
  monitor: {{metric: val/auc, mode: max}}
search: {{trials: 1, scheduler: none}}
"""

BARE = """
import sys
from pathlib import Path
import torch
from jetsweep.training import TrialSpec, train

spec, workdir, data_root, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
train(TrialSpec.model_validate_json(spec), Path(workdir), Path(data_root))
"""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray runs its workers at nice 15: whatever else the machine does would slow the trial down, but not the bare loop
    "RAY_worker_niceness": "0",
    # as a cluster that jetsweep starts has it
    "MALLOC_ARENA_MAX": "1",
}

PHASES = {
    "ray": "imports, experiment file",
    "sweep": "Ray starts, dataset opened",
    "tracking": "tracking starts",
    "trial": "trial's process starts",
    "training": "trial opens the dataset and builds the network",
}
"""What ends when a file that marks the way appears; with the last one the first step begins."""


@dataclass
class Watched:
    """When files of a run appeared, by names of `PHASES`, and the lines of its history; in seconds from its start."""

    marks: dict[str, float]
    epochs: list[float]
    rows: list[dict]
    end: float

    @property
    def wall_s(self) -> float:
        """From one epoch's end to the next; waiting for anybody's answer is part of it."""
        return (self.epochs[-1] - self.epochs[0]) / (len(self.epochs) - 1)

    @property
    def counted_s(self) -> float:
        """Training and validation of an epoch, as the loop itself counts them."""
        return statistics.mean(row["time/epoch_s"] for row in self.rows[1:])


def watch(command: list[str], marks: Mapping[str, Path], log: Path, ray_dir: Path) -> Watched:
    """Run a process and look at its files from outside, so that platform and bare loop have the same clock."""
    seen: dict[str, float] = {}
    history, size, epochs = marks["training"], 0, []
    with log.open("w") as output:
        environment = os.environ | {"RAY_TMPDIR": str(ray_dir)}
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            running = True
            while running:
                running = process.poll() is None  # and one more look after the end
                for name, path in marks.items():
                    if name not in seen and path.exists():
                        seen[name] = time.monotonic() - start
                if "training" in seen and (grown := history.stat().st_size) > size:
                    epochs.append(time.monotonic() - start)
                    size = grown
                time.sleep(0.005)
            end = time.monotonic() - start
        finally:
            process.terminate()
            process.wait()
    if process.returncode or len(epochs) != EPOCHS:
        raise SystemExit(f"{log.stem}: exit code {process.returncode}, {len(epochs)} epochs\n{log.read_text()}")
    return Watched(seen, epochs, read_history(history), end)


def watch_platform(root: Path, number: int) -> Watched:
    """One trial through `jetsweep run`."""
    ray_dir = root / f"ray-{number}"
    sweep = root / "runs" / ("overhead" if number == 1 else f"overhead-{number}")
    trial = sweep / "trials" / "00000"
    files = ray_dir / "ray", sweep / "experiment.json", sweep / "mlflow.json", trial, trial / "history.jsonl"
    marks = dict(zip(PHASES, files, strict=True))
    folders = ["--runs", str(root / "runs"), "--data", str(root / "data")]
    command = [sys.executable, "-m", "jetsweep.cli.main", "run", str(root / "overhead.yaml"), *folders]
    return watch(command, marks, root / "platform.log", ray_dir)


def watch_bare(root: Path, number: int, template: ExperimentTemplate, cores: int) -> Watched:
    """The same trial, with as many threads, in a process that does nothing else."""
    workdir = root / "bare" / str(number)
    threads = plan_concurrency([{"CPU": float(cores)}], template.example.resources, 1).threads
    spec = template.example.trial_spec().model_dump_json()
    command = [sys.executable, "-c", BARE, spec, str(workdir), str(root / "data"), str(threads)]
    return watch(command, {"training": workdir / "history.jsonl"}, root / "bare.log", root)


def noop(spec, workdir, data_root, reporter, *, stop_requested):
    """Trial that reports one epoch and returns."""
    metrics = {"epoch": 1, "val/auc": 0.5, "stopped_because": "budget"}
    reporter(metrics, None)
    return TrainResult("budget", 1, metrics, {}, None, 1, 0.0)


class Ends(Progress):
    """The usual progress, printed nowhere; notes when trials end."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.at: list[float] = []

    def trial_ended(self, *about) -> None:
        self.at.append(time.monotonic())
        super().trial_ended(*about)


def noop_sweep(root: Path, number: int, tracked: bool) -> dict[str, float]:
    """Seconds of a sweep of `noop` trials, by columns of the table."""
    from jetsweep.search.tune_run import run_sweep  # after `connected`: Ray Tune reads its environment on import

    overrides = [f"search.trials={NOOP_TRIALS}", "training.optimizer.lr={log: [1e-4, 1e-2]}"]
    template = load_experiment(root / "overhead.yaml", overrides)
    sweep_dir = root / "noop" / f"{number}-{'tracked' if tracked else 'alone'}"
    sweep_dir.mkdir(parents=True)
    dataset, ends = prepare(template.example.data, root / "data"), Ends()
    listeners = [ends]
    start = time.monotonic()
    with ExitStack() as stack:
        if tracked:
            tracker = stack.enter_context(start_tracking(template, sweep_dir, dataset_path=dataset.path))
            listeners.append(tracker)
        result = run_sweep(template, sweep_dir, root / "data", Listeners(*listeners), train=noop)
    end = time.monotonic()
    assert [trial.status for trial in result.trials] == ["COMPLETE"] * NOOP_TRIALS
    return {
        "in all": end - start,
        "per trial": (end - start) / NOOP_TRIALS,
        "to the first trial's end": ends.at[0] - start,
        "each further trial": (ends.at[-1] - ends.at[0]) / (NOOP_TRIALS - 1),
        "after the last": end - ends.at[-1],
    }


def print_row(name: str, columns: Iterable[Iterable[float]], digits: int = 2) -> None:
    """Print a row of a table whose cells are medians (smallest to largest)."""
    cells = [list(values) for values in columns]
    shown = [f"{statistics.median(x):.{digits}f} ({min(x):.{digits}f} to {max(x):.{digits}f})" for x in cells]
    print(f"| {name} | {' | '.join(shown)} |")


def print_epochs(platform: list[Watched], bare: list[Watched]) -> None:
    for a, b in zip(platform, bare):
        losses = [(x["train/loss"], y["train/loss"]) for x, y in zip(a.rows, b.rows)]
        assert all(math.isclose(x, y, rel_tol=1e-2) for x, y in losses), f"they trained differently: {losses}"
    columns: list[Callable[[Watched], float]]
    columns = [lambda run: run.counted_s, lambda run: run.wall_s - run.counted_s, lambda run: run.wall_s]
    print("\n| one epoch | training, validation, s | checkpoints, report, s | in all, s |\n|---|---|---|---|")
    print_row("bare loop", (map(column, bare) for column in columns), 3)
    print_row("jetsweep run", (map(column, platform) for column in columns), 3)
    ratios = ([column(a) / column(b) for a, b in zip(platform, bare)] for column in columns)
    print_row(f"**ratio** (goal: {GOAL} in all)", ratios, 3)


def print_start(platform: list[Watched], bare: list[Watched]) -> None:
    print("\n| from the start of the command | s |\n|---|---|")
    before = [0.0] * len(platform)
    for mark, phase in PHASES.items():
        reached = [run.marks[mark] for run in platform]
        print_row(phase, [[b - a for a, b in zip(before, reached)]])
        before = reached
    print_row("**to the first step**", [before])
    print_row("to the first step of the bare loop", [[run.marks["training"] for run in bare]])
    for name, runs in {"the command": platform, "the bare loop": bare}.items():
        print_row(f"from the last epoch to the end of {name}", [[run.end - run.epochs[-1] for run in runs]])


@contextmanager
def cluster(cores: int, root: Path) -> Iterator[None]:
    """A Ray cluster of one node that `jetsweep run` finds by its address."""
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port=0", f"--num-cpus={cores}"]
    address = root / "ray" / "ray_current_cluster"
    with (root / "cluster.log").open("w") as log:
        command += [f"--temp-dir={root / 'ray'}", "--include-dashboard=false"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not address.exists():
            if process.poll() is not None:
                raise SystemExit((root / "cluster.log").read_text())
            time.sleep(0.2)
        os.environ |= {"RAY_ADDRESS": address.read_text().strip(), "RAY_AUTH_MODE": "token"}
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        process.terminate()
        process.wait()


def measure_epochs(root: Path, rounds: int, cores: int) -> tuple[list[Watched], list[Watched]]:
    """Rounds of a trial through `jetsweep run` and of the bare loop, in turn."""
    (root / "overhead.yaml").write_text(FILE)
    template = load_experiment(root / "overhead.yaml")
    prepare(template.example.data, root / "data")
    platform, bare = [], []
    for number in range(1, rounds + 1):
        platform.append(watch_platform(root, number))
        bare.append(watch_bare(root, number, template, cores))
    return platform, bare


def print_noops(root: Path, rounds: int) -> None:
    """Measure sweeps of trials that do nothing, and print."""
    noops: dict[str, list[dict[str, float]]] = {"with tracking": [], "without": []}
    os.environ["RAY_TMPDIR"] = str(root / "ray-noop")
    resources = load_experiment(root / "overhead.yaml").example.resources
    with connected():
        plan = plan_concurrency(cluster_nodes(), resources, NOOP_TRIALS)
        for number in range(rounds):
            for kind, measured in noops.items():
                measured.append(noop_sweep(root, number, kind == "with tracking"))
    head = [f"{column}, s" for column in noops["without"][0]]
    print(f"\n| {NOOP_TRIALS} trials that do nothing, {plan.trials} at once | {' | '.join(head)} |")
    print("|---" * (1 + len(head)) + "|")
    for kind, measured in noops.items():
        print_row(kind, zip(*(seconds.values() for seconds in measured)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--spare-core", action="store_true")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    for elsewhere in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        os.environ.pop(elsewhere, None)
    load, cores = os.getloadavg()[0], usable_cpus() - args.spare_core
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        with cluster(cores, root) if args.spare_core else nullcontext():
            platform, bare = measure_epochs(root, args.rounds, cores)
        threads = f"{cores} of {usable_cpus()} cores for the trial"
        print(f"{JETS:,} jets, PFN; {threads}, load {load:.1f} before the first of {args.rounds} rounds")
        print_epochs(platform, bare)
        if not args.spare_core:
            print_start(platform, bare)
            print_noops(root, args.rounds)


if __name__ == "__main__":
    main()
