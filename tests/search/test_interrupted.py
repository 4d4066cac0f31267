"""A deterministic sweep that is interrupted five times gives what the uninterrupted one gives, to the last bit."""

import json

import pytest

from jetsweep.search.listener import Listeners
from jetsweep.search.lock import ask_to_stop
from jetsweep.search.tune_run import run_sweep
from jetsweep.training.history import read_history

pytestmark = pytest.mark.ray

ENDS = ("budget", "scheduler")
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
def test_interrupted_five_times(ray_cluster, make_template, tmp_path, monkeypatch, scheduler):
    monkeypatch.setattr("jetsweep.search.follower._LOOK_S", 0.0)  # short epochs would be over before a stop is heard
    options = ["search.deterministic=true", "data.source.jets=4000", "training.checkpoint_every_steps=20"]
    if scheduler != "none":
        options.append("resources.concurrent_trials=1")
    template = make_template(*options, sampler="tpe", scheduler=scheduler, trials=4, epochs=4)
    once = run_sweep(template, tmp_path / "once", tmp_path / "data", Listeners())
    assert [(trial.error, trial.stopped_because) for trial in once.trials if trial.stopped_because not in ENDS] == []
    often = tmp_path / "often"
    stops = [run_sweep(template, often, tmp_path / "data", Interrupter(often, 1)).status for _ in range(5)]
    assert stops == ["STOPPED"] * 5
    assert run_sweep(template, often, tmp_path / "data", Listeners()).status == "FINISHED"
    assert results(often) == results(tmp_path / "once")
    assert len(results(often)) == 4
