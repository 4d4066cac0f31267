"""What a sweep prints where nobody watches: one line a trial, with the value of its best epoch."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from jetsweep.search.progress import Progress
from jetsweep.training.config import MonitorConfig


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [
        ("val/auc", "max", "val/auc=0.9 val/jsd=0.2"),
        ("val/auc", "min", "val/auc=0.7 val/jsd=0.3"),
        ("epoch", "max", "val/auc=0.7 val/jsd=0.3"),
        ("val/loss", "min", "val/auc=0.8 val/jsd=0.1"),
    ],
)
def test_the_values_are_those_of_the_epoch_that_is_kept(metric, mode, best):
    """All of one epoch: no network has the best of each objective over the epochs."""
    text = io.StringIO()
    progress = Progress(Console(file=text, width=200))
    progress.sweep_started(
        SimpleNamespace(
            name="s", trials=1, concurrent=1, threads=2, notes=(), objectives=(("val/auc", mode), ("val/jsd", "min"))
        )
    )
    monitor = MonitorConfig(metric=metric, mode=mode)
    training = SimpleNamespace(epochs=3, monitor=monitor)
    experiment = SimpleNamespace(model=SimpleNamespace(name="pfn"), training=training)
    progress.trial_started(0, {"model.width": 8}, experiment, Path())
    for epoch, value in enumerate((float("nan"), 0.8, 0.9, 0.7), start=1):
        loss = float("nan") if epoch == 1 else 0.1 * epoch
        metrics = {"epoch": epoch, "val/auc": value, "val/jsd": 0.1 * (epoch - 1), "val/loss": loss}
        progress.trial_reported(0, metrics)
    progress.trial_ended(0, "COMPLETE", "budget", Path(), None)
    progress.sweep_ended("FINISHED")
    begin, trial, end = text.getvalue().splitlines()
    assert begin == "Sweep s: 1 trial, 1 at once, 2 threads per worker"
    assert trial.startswith("trial 0 complete (budget) after epoch 4")
    assert trial.endswith(f"{best} | pfn model.width=8")
    assert end == "Sweep finished"
