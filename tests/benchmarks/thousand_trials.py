"""A whole simulated sweep: trials that train nothing through Ray Tune, Optuna and MLflow, and what each of them costs.

``python tests/benchmarks/thousand_trials.py [trials] [concurrent]`` prints markdown tables: seconds, memory of the
driver, sizes and files. Every trial writes and reports `EPOCHS` epochs as the training loop does, without weights.
With ``TRACE=1`` (much slower) it also prints which lines of code allocated what the driver holds at the end and did not
hold at the first mark, both while the sweep runs.
"""

import gc
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from jetsweep.data.config import prepare
from jetsweep.experiment import load_experiment
from jetsweep.search.cluster import connected
from jetsweep.search.concurrency import cluster_nodes, plan_concurrency
from jetsweep.search.listener import Listeners
from jetsweep.search.progress import Progress
from jetsweep.tracking import start_tracking
from jetsweep.training.checkpoint import write_file
from jetsweep.training.history import History
from jetsweep.training.run import TrainResult

EPOCHS, EVERY = 3, 100
GROWTH, COMPARE_S = 1.2, 5.0
"""Goals: memory of the driver at the end against that after `EVERY` trials, and time of `jetsweep compare`."""

FILE = f"""
name: thousand
task: {{name: tagging, signal: top}}
data: {{source: {{name: toy, jets: 2000}}, max_constituents: 32}}
model:
  name: pfn
  features: kin
  f_dropout: {{uniform: [0.0, 0.3]}}
training:
  epochs: {EPOCHS}
  batch_size: {{choice: [128, 256, 512]}}
  optimizer: {{name: adamw, lr: {{log: [1e-4, 1e-2]}}, weight_decay: {{log: [1e-4, 1e-1]}}}}
  monitor: {{metric: val/auc, mode: max}}
search: {{scheduler: asha, objectives: [{{metric: val/auc, mode: max}}]}}
resources: {{workers: 1, gpus_per_worker: 0}}
"""

ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "JETSWEEP_TRACKING_WAIT_S": "600"}


def noop(spec, workdir, data_root, reporter, *, stop_requested):
    """Trial whose epochs take no time; its metrics follow from its learning rate."""
    history = History(workdir / "history.jsonl", 0)
    quality = 0.98 - 0.02 * abs(3 + math.log10(spec.training.optimizer.lr))
    rows = []
    for epoch in range(1, spec.training.epochs + 1):
        auc = quality - 0.05 / epoch
        row = {"epoch": epoch, "step": 2000 * epoch, "samples_seen": 1_024_000 * epoch, "train/loss": 1.1 - auc}
        row |= {"val/loss": 1.12 - auc, "val/accuracy": auc - 0.05, "val/auc": auc, "lr": 1e-3 / epoch}
        row |= {f"val/rejection_at_{e}": 10 / e**3 for e in (0.3, 0.5, 0.8)}
        row |= {f"val/rejection_at_{e}_error": 1 / e**3 for e in (0.3, 0.5, 0.8)}
        row |= {"time/epoch_s": 0.0, "stopped_because": "budget" if epoch == spec.training.epochs else ""}
        history.append(row)
        rows.append(row)
        if reporter(row, None) and epoch < spec.training.epochs:
            break
    ended = "budget" if len(rows) == spec.training.epochs else "asked"
    best = rows[-1]
    test = {name.replace("val/", "test/"): x for name, x in best.items() if name.startswith("val/")}
    result = TrainResult(ended, len(rows), best, test if ended == "budget" else {}, None, 47_030, 0.0)
    write_file(workdir / "result.json", json.dumps(asdict(result), indent=1).encode())
    return result


@dataclass
class Mark:
    """The driver after so many trials: seconds since the start, memory in bytes, objects of Python's collector."""

    trials: int
    at_s: float
    rss: int
    own: int
    objects: int
    processor_s: float


class Watch(Progress):
    """The usual progress, printed nowhere, that looks at its own process as trials end."""

    def __init__(self, trials: int) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.trials, self.ended, self.start = trials, 0, time.monotonic()
        self.marks: list[Mark] = []
        self.process = psutil.Process()
        self.statuses: Counter[str] = Counter()
        self.snapshots: list[tracemalloc.Snapshot] = []

    def trial_ended(self, *about) -> None:
        super().trial_ended(*about)
        self.ended += 1
        self.statuses[about[1]] += 1
        if self.ended % EVERY == 0 or self.ended == self.trials:
            self.look()

    def look(self, after: bool = False) -> None:
        """Add a mark; `after` Tune has returned, its trials are gone from memory."""
        gc.collect()
        if tracemalloc.is_tracing() and not after:
            self.snapshots = [*self.snapshots[:1], tracemalloc.take_snapshot()]
        memory, spent = self.process.memory_full_info(), self.process.cpu_times()
        now = time.monotonic() - self.start
        processor_s = spent.user + spent.system
        self.marks.append(Mark(self.ended, now, memory.rss, memory.uss, len(gc.get_objects()), processor_s))


def sweep(root: Path, trials: int, concurrent: int) -> tuple[Path, Watch, float]:
    """Run it; returns its folder, what was seen, and the seconds until everything was delivered and reported."""
    from jetsweep.search.tune_run import run_sweep  # after `connected`: Ray Tune reads its environment on import

    overrides = [f"search.trials={trials}", f"resources.concurrent_trials={concurrent}"]
    (root / "thousand.yaml").write_text(FILE)
    template = load_experiment(root / "thousand.yaml", overrides)
    sweep_dir = root / "runs" / "thousand"
    sweep_dir.mkdir(parents=True)
    (sweep_dir / "experiment.json").write_text(template.to_json())
    (sweep_dir / "experiment.yaml").write_text(template.to_yaml())
    dataset, watch = prepare(template.example.data, root / "data"), Watch(trials)
    plan = plan_concurrency(cluster_nodes(), template.example.resources, trials)
    with start_tracking(template, sweep_dir, dataset_path=dataset.path) as tracker:
        run_sweep(template, sweep_dir, root / "data", Listeners(watch, tracker), concurrency=plan, train=noop)
    all_s = time.monotonic() - watch.start
    tracker.check()
    watch.look(after=True)
    return sweep_dir, watch, all_s


def fresh_process_s(sweep_dir: Path) -> float:
    """Seconds of `jetsweep compare`, the best of three."""
    command = [sys.executable, "-m", "jetsweep.cli.main", "compare", str(sweep_dir)]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def sizes(folder: Path) -> tuple[int, int]:
    """Files and bytes below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def print_course(watch: Watch) -> None:
    print("\n| trials | s per trial since the row before | driver's CPU s per trial | RSS, MiB | own, MiB | objects |")
    print("|---|---|---|---|---|---|")
    *course, after = watch.marks
    before = Mark(0, 0.0, 0, 0, 0, 0.0)
    for mark in course:
        number = mark.trials - before.trials
        each = (mark.at_s - before.at_s) / number, (mark.processor_s - before.processor_s) / number
        memory = f"{mark.rss / 2**20:.0f} | {mark.own / 2**20:.0f} | {mark.objects:,}"
        print(f"| {mark.trials:,} | {each[0]:.3f} | {each[1]:.3f} | {memory} |")
        before = mark
    print(f"| when all was delivered | | | {after.rss / 2**20:.0f} | {after.own / 2**20:.0f} | {after.objects:,} |")
    first, last = course[0], course[-1]
    if last is not first:
        each = (last.rss - first.rss) / (last.trials - first.trials)
        print(
            f"\nRSS at {last.trials:,} / at {first.trials:,} trials: **{last.rss / first.rss:.2f}** "
            f"(goal: {GROWTH}), {each / 1024:.0f} KiB per trial"
        )


def print_growth(watch: Watch, lines: int = 40) -> None:
    trials = watch.marks[-1].trials - watch.marks[0].trials
    first, last = watch.snapshots
    print("\n| allocated in | KiB per trial |\n|---|---|")
    for change in last.compare_to(first, "lineno")[:lines]:
        frame = change.traceback[0]
        place = "/".join(Path(frame.filename).parts[-3:])
        print(f"| {place}:{frame.lineno} | {change.size_diff / trials / 1024:.2f} |")


def print_sizes(sweep_dir: Path, trials: int) -> None:
    runs = sweep_dir.parent
    database = sum(path.stat().st_size for path in runs.glob("mlflow.db*"))
    (files, size), (all_files, all_size) = sizes(sweep_dir), sizes(runs)
    journal = (sweep_dir / "study.log").stat().st_size
    rows = {
        "sweep's folder": (files, size),
        "  of which trials": sizes(sweep_dir / "trials"),
        "  of which plots of trials": (
            len(list(sweep_dir.glob("trials/*/plots/*"))),
            sum(path.stat().st_size for path in sweep_dir.glob("trials/*/plots/*")),
        ),
        "study.log": (1, journal),
        "MLflow's database": (1, database),
        "MLflow's artifacts": (all_files - files - 1, all_size - size - database),
    }
    print("\n| what | files | bytes | files per trial | bytes per trial |\n|---|---|---|---|---|")
    for name, (number, total) in rows.items():
        print(f"| {name} | {number:,} | {total:,} | {number / trials:.1f} | {total / trials:,.0f} |")


def main(trials: int, concurrent: int) -> None:
    """Run, measure and print."""
    os.environ.update(ENVIRONMENT)
    for elsewhere in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        os.environ.pop(elsewhere, None)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="thousand-", ignore_cleanup_errors=True) as name:
        os.environ["RAY_TMPDIR"] = name
        if os.environ.get("TRACE"):
            tracemalloc.start()
        with connected():
            sweep_dir, watch, all_s = sweep(Path(name), trials, concurrent)
        last_s = watch.marks[-2].at_s
        ends = ", ".join(f"{number} {status}" for status, number in sorted(watch.statuses.items()))
        print(f"{trials:,} trials of up to {EPOCHS} epochs, {concurrent} at once, {os.cpu_count()} cores: {ends}")
        print_course(watch)
        if len(watch.snapshots) > 1:
            print_growth(watch)
        print(f"\n| what | s |\n|---|---|\n| all of it | {all_s:.1f} |\n| per trial | {all_s / trials:.3f} |")
        print(f"| from the last trial's end: deliveries, report, pictures | {all_s - last_s:.1f} |")
        print(f"| `jetsweep compare` (goal: {COMPARE_S:g}) | {fresh_process_s(sweep_dir):.2f} |")
        print_sizes(sweep_dir, trials)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given or [1000]), *([2] if len(given) < 2 else []))
