"""What a sweep prints where nobody watches: one line a trial, with the value of its best epoch."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from jetsweep.search.progress import Progress


@pytest.mark.parametrize(("mode", "best"), [("max", "0.9"), ("min", "0.7")])
def test_the_best_epoch_counts(mode, best):
    text = io.StringIO()
    progress = Progress(Console(file=text, width=200))
    progress.sweep_started(
        SimpleNamespace(name="s", trials=1, concurrent=1, threads=2, notes=(), objectives=(("val/auc", mode),))
    )
    experiment = SimpleNamespace(model=SimpleNamespace(name="pfn"), training=SimpleNamespace(epochs=3))
    progress.trial_started(0, {"model.width": 8}, experiment, Path())
    for epoch, value in enumerate((float("nan"), 0.8, 0.9, 0.7), start=1):
        progress.trial_reported(0, {"epoch": epoch, "val/auc": value})
    progress.trial_ended(0, "COMPLETE", "budget", Path(), None)
    progress.sweep_ended("FINISHED")
    begin, trial, end = text.getvalue().splitlines()
    assert begin == "Sweep s: 1 trial, 1 at once, 2 threads per worker"
    assert trial.startswith("trial 0 complete (budget) after epoch 4")
    assert trial.endswith(f"val/auc={best} | pfn model.width=8")
    assert end == "Sweep finished"
