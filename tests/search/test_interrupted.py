"""A deterministic sweep that is interrupted five times gives what the uninterrupted one gives, to the last bit."""

import json

import pytest

from jetsweep.search.listener import Listeners
from jetsweep.search.lock import ask_to_stop
from jetsweep.search.tune_run import run_sweep
from jetsweep.training.history import read_history

pytestmark = pytest.mark.ray

TIMES = ("time/epoch_s",)
"""What no two runs share."""


class Interrupter(Listeners):
    """Asks the sweep to stop after so many reports."""

    def __init__(self, sweep_dir, after):
        super().__init__()
        self.sweep_dir, self.left = sweep_dir, after

    def trial_reported(self, number, metrics):
        self.left -= 1
        if self.left == 0:
            ask_to_stop(self.sweep_dir)


def results(sweep_dir):
    """Parameters, every epoch's metrics and the test split's, by trial."""
    found = {}
    for folder in sorted((sweep_dir / "trials").iterdir()):
        rows = read_history(folder / "history.jsonl")
        rows = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
        result = json.loads((folder / "result.json").read_text())
        lr = json.loads((folder / "experiment.json").read_text())["training"]["optimizer"]["lr"]
        found[folder.name] = (lr, rows, result["test"])
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_interrupted_five_times(ray_cluster, make_template, tmp_path, scheduler):
    options = ["search.deterministic=true", "data.source.jets=2000", "training.checkpoint_every_steps=5"]
    if scheduler != "none":
        options.append("resources.concurrent_trials=1")
    template = make_template(*options, sampler="tpe", scheduler=scheduler, trials=4, epochs=4)
    run_sweep(template, tmp_path / "once", tmp_path / "data", Listeners())
    often = tmp_path / "often"
    interruptions = 0
    while run_sweep(template, often, tmp_path / "data", Interrupter(often, 2)).status == "STOPPED":
        interruptions += 1
    assert interruptions >= (5 if scheduler == "none" else 3)
    assert results(often) == results(tmp_path / "once")
    assert len(results(often)) == 4
