"""Experiments that need no training, and listeners that write down what they are told."""

import pytest

from jetsweep.experiment import load_experiment

BASE = """
name: test
task: {{name: tagging, signal: top}}
data: {{source: {{name: toy, jets: 600, seed: 1}}, max_constituents: 16}}
model: {{name: pfn, phi_sizes: [16, 16], f_sizes: [16]}}
training:
  epochs: {epochs}
  batch_size: 96
  optimizer: {{name: adamw, lr: {lr}}}
  monitor: {{metric: val/auc, mode: max}}
search: {{trials: {trials}, sampler: {sampler}, scheduler: {scheduler}}}
resources: {{workers: {workers}, cpus_per_worker: {cpus}, gpus_per_worker: 0}}
"""


@pytest.fixture
def make_template(tmp_path):
    def make(
        *overrides,
        trials=3,
        epochs=2,
        sampler="random",
        scheduler="none",
        workers=1,
        cpus=1,
        lr="{log: [1e-3, 1e-2]}",
    ):
        file = tmp_path / "experiment.yaml"
        file.write_text(
            BASE.format(
                trials=trials,
                epochs=epochs,
                sampler=sampler,
                scheduler=scheduler,
                workers=workers,
                cpus=cpus,
                lr=lr,
            )
        )
        return load_experiment(file, overrides)

    return make


class Recorder:
    """A listener that keeps its calls."""

    def __init__(self):
        self.started, self.reports, self.ended, self.sweep = {}, [], {}, []

    def sweep_started(self, info):
        self.sweep.append("started")

    def trial_started(self, number, params, experiment, trial_dir):
        assert number not in self.started
        self.started[number] = params

    def trial_reported(self, number, metrics):
        assert number in self.started
        assert number not in self.ended
        self.reports.append((number, metrics["epoch"]))

    def trial_ended(self, number, status, stopped_because, trial_dir, error):
        assert number in self.started
        assert number not in self.ended
        self.ended[number] = (status, stopped_because, error)

    def sweep_ended(self, status):
        assert set(self.ended) == set(self.started)
        self.sweep.append(status)


@pytest.fixture
def recorder():
    return Recorder()
