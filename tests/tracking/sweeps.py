"""A sweep on toy jets that really trains, followed by a tracker, without Ray."""

import json

from jetsweep.data.config import prepare
from jetsweep.experiment import load_experiment
from jetsweep.search.listener import SweepInfo
from jetsweep.tracking import start_tracking
from jetsweep.training.run import train

FILE = """
name: toy
seed: 5
task: {name: tagging, signal: top}
data: {source: {name: toy, jets: 600, seed: 1}, max_constituents: 16}
model:
  choice:
    - {name: pfn, phi_sizes: [16, 16], f_sizes: [16]}
    - {name: efn, phi_sizes: [16, 16], f_sizes: [16]}
training:
  epochs: 2
  batch_size: 96
  optimizer: {name: adamw, lr: {log: [1e-3, 1e-2]}}
  monitor: {metric: val/auc, mode: max}
search: {trials: 4}
resources: {gpus_per_worker: 0}
"""


def make_template(folder, *overrides):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "toy.yaml"
    file.write_text(FILE)
    return load_experiment(file, overrides)


def begin(template, runs_root, data_root, uri=None, name="toy"):
    """The sweep's folder and its tracker, as `jetsweep.sweep.run` makes them."""
    dataset = prepare(template.example.data, data_root)
    sweep_dir = runs_root / name
    sweep_dir.mkdir(parents=True)
    (sweep_dir / "experiment.json").write_text(template.to_json())
    (sweep_dir / "experiment.yaml").write_text(template.to_yaml())
    return sweep_dir, start_tracking(template, sweep_dir, uri, dataset_path=dataset.path)


def info(template, sweep_dir, data_root):
    return SweepInfo(sweep_dir.name, template, sweep_dir, data_root, 4, 1, 1, [("val/auc", "max")])


def draw(template, number):
    """Trial `number`'s leaves and experiment; even numbers are PFNs."""
    params = {"model": ("pfn", "efn")[number % 2], "training.optimizer.lr": 2e-3 * (number + 1)}
    return params, template.concrete(params)


def run_trial(tracker, template, sweep_dir, data_root, number, stop_after=None):
    """Train trial `number`; the scheduler stops it after some epochs if `stop_after` says so."""
    params, experiment = draw(template, number)
    folder = sweep_dir / "trials" / f"{number:05d}"
    tracker.trial_started(number, params, experiment, folder)

    def report(metrics, checkpoint):
        tracker.trial_reported(number, metrics)
        return stop_after is not None and metrics["epoch"] >= stop_after

    result = train(experiment.trial_spec(), folder, data_root, report)
    pruned = result.stopped_because == "asked"
    because = "scheduler" if pruned else result.stopped_because
    tracker.trial_ended(number, "PRUNED" if pruned else "COMPLETE", because, folder, result.error)
    return result


def fail_trial(tracker, template, sweep_dir, number, error):
    params, experiment = draw(template, number)
    folder = sweep_dir / "trials" / f"{number:05d}"
    tracker.trial_started(number, params, experiment, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(error + "\n")
    tracker.trial_ended(number, "FAILED", "error", folder, error)


def complete_sweep(runs_root, data_root, uri=None, name="toy"):
    """Two complete trials, one pruned, one failed."""
    template = make_template(runs_root)
    sweep_dir, tracker = begin(template, runs_root, data_root, uri, name)
    with tracker:
        tracker.sweep_started(info(template, sweep_dir, data_root))
        run_trial(tracker, template, sweep_dir, data_root, 0)
        run_trial(tracker, template, sweep_dir, data_root, 1)
        run_trial(tracker, template, sweep_dir, data_root, 2, stop_after=1)
        fail_trial(tracker, template, sweep_dir, 3, "RuntimeError: out of luck")
        tracker.sweep_ended("FINISHED")
    tracker.check()
    return sweep_dir, json.loads((sweep_dir / "mlflow.json").read_text())
