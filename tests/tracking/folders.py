"""Sweeps' folders written by hand, as the loop and the tracker write them, and what a store made of them."""

import json
from collections import Counter
from dataclasses import asdict

from jetsweep.tracking.journal import SystemJournal
from jetsweep.tracking.record import LINEAGE, Lineage, new_record, read_record
from jetsweep.training.history import History

SPEC = {
    "name": "toy",
    "seed": 5,
    "task": {"name": "tagging"},
    "model": {"name": "pfn", "phi_sizes": [16, 16]},
    "training": {"epochs": 4, "monitor": {"metric": "val/auc", "mode": "max"}},
}
ROW = {"step": 1, "samples_seen": 96, "train/loss": 0.5, "val/auc": 0.9, "lr": 1e-3, "time/epoch_s": 2.0}


def make_sweep(root, uri, experiment="by-hand", name="sweep"):
    """An empty sweep that was never mirrored."""
    sweep_dir = root / name
    sweep_dir.mkdir(parents=True)
    (sweep_dir / "experiment.yaml").write_text("name: toy\n")
    (sweep_dir / "experiment.json").write_text('{"name": "toy"}')
    (sweep_dir / "packages.txt").write_text("numpy==2\n")
    dataset = {"name": "toy/train", "digest": "abc", "source": "{}", "profile": "{}", "context": "train"}
    lineage = Lineage(experiment, {"seed": 5, "search.trials": 2}, {"jetsweep.python": "3"}, [dataset])
    (sweep_dir / LINEAGE).write_text(json.dumps(asdict(lineage)))
    new_record(uri).write(sweep_dir)
    return sweep_dir


def begin_trial(sweep_dir, number):
    folder = sweep_dir / "trials" / f"{number:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "outcome.json").unlink(missing_ok=True)
    (folder / "params.json").write_text(json.dumps({"training.lr": 0.001 * (number + 1)}))
    (folder / "experiment.json").write_text(json.dumps(SPEC))
    return folder


def train(sweep_dir, number, first, last, **more):
    """Epochs `first` to `last`, after a checkpoint of the epoch before."""
    folder = sweep_dir / "trials" / f"{number:05d}"
    history = History(folder / "history.jsonl", first - 1)
    for epoch in range(first, last + 1):
        history.append({"epoch": epoch, **ROW, "val/auc": 0.5 + 0.01 * epoch, **more, "stopped_because": ""})


def end_trial(sweep_dir, number, status="COMPLETE", because="budget", error=None):
    folder = sweep_dir / "trials" / f"{number:05d}"
    if status == "COMPLETE":
        result = {"stopped_because": because, "best": {"epoch": 1, "val/auc": 0.5}, "test": {"test/auc": 0.6}}
        result |= {"parameters": 1000, "seconds": 4.0, "timing": {"inference_us_per_jet": 2.0}}
        (folder / "result.json").write_text(json.dumps(result))
    if error:
        (folder / "error.txt").write_text(error)
    outcome = {"status": status, "stopped_because": because, "error": error}
    (folder / "outcome.json").write_text(json.dumps(outcome))


def sample(sweep_dir):
    SystemJournal(sweep_dir).append({"system/cpu": 0.5})


def end_sweep(sweep_dir, status="FINISHED"):
    (sweep_dir / "compare.md").write_text("| ★ pfn |")
    outcome = {"status": status, "best_trial": 0, "best_metrics": {"test/auc": 0.6}}
    (sweep_dir / "outcome.json").write_text(json.dumps(outcome))


def runs_of(client, sweep_dir):
    """The sweep's run and its trials' by number; there is one of each, and the trials belong to that sweep's."""
    sweep_id = read_record(sweep_dir).sweep_id
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`jetsweep.sweep_id` = '{sweep_id}'", max_results=1000)
    counts = Counter(run.data.tags.get("jetsweep.trial") for run in found)
    assert set(counts.values()) <= {1}, counts
    (sweep,) = [run for run in found if run.data.tags["jetsweep.kind"] == "sweep"]
    trials = {int(run.data.tags["jetsweep.trial"]): run for run in found if run is not sweep}
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} <= {sweep.info.run_id}
    return sweep, trials


def histories(client, run):
    """Steps, times and values of every metric of a run, in the order the store has them."""
    points = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(p.step, p.timestamp, p.value) for p in found] for name, found in points.items()}


def check_steps(client, run, epochs, once=()):
    """Every metric by epoch has steps 1 to `epochs` in this order; those of `once` a single value."""
    for name, points in histories(client, run).items():
        steps = [step for step, *_ in points]
        assert steps == ([epochs] if name in once else list(range(1, epochs + 1))), (name, steps)


def content(client, sweep_dir):
    """All that a store has of a sweep, without ids and what only says when a run was closed."""
    sweep, trials = runs_of(client, sweep_dir)
    found = {}
    for key, run in {"sweep": sweep, **trials}.items():
        tags = {k: v for k, v in run.data.tags.items() if k.startswith("jetsweep.")}
        inputs = sorted((i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs)
        folders = ("", "plots", "comparison", "best_model")
        files = sorted(item.path for folder in folders for item in client.list_artifacts(run.info.run_id, folder))
        found[key] = (run.info.status, tags, run.data.params, histories(client, run), inputs, files)
    return found
