"""Plots and tables of a sweep, written into its folder; nothing here needs MLflow."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jetsweep.tasks._base import Task, build_task
from jetsweep.tracking import figures
from jetsweep.tracking.compare import Comparison, compare_sweeps, with_uncertainty
from jetsweep.tracking.pictures import write_pictures
from jetsweep.tracking.repeats import read_repeats
from jetsweep.tracking.results import read_history, trial_folder
from jetsweep.tracking.study import has_study
from jetsweep.training.checkpoint import read_spec, read_weights, write_file
from jetsweep.training.timing import Timing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


def trial_task(trial_dir: Path) -> Task:
    """Task of a trial that has a best checkpoint."""
    best = trial_dir / "checkpoints" / "best"
    return build_task(read_spec(best).task, read_weights(best)[1])


def write_trial_plots(trial_dir: Path) -> None:
    """Write loss curves, and the task's plots of the test split, as PNG and PDF into the trial's ``plots``."""
    made: dict[str, Figure] = {}
    history, arrays = read_history(trial_dir), trial_dir / "evaluation" / "test.npz"
    if len(history) > 1:  # of a single point no curve can be drawn, and a sweep may stop a thousand trials there
        made["loss"] = figures.loss_curves(history)
    if arrays.exists():
        made |= trial_task(trial_dir).figures(figures.load_arrays(arrays))
    if made:
        figures.save(made, trial_dir / "plots")


def write_report(sweep_dir: Path, metric: str) -> Comparison:
    """Write ``compare.*`` and ``plots/`` of a sweep, with the pictures of its search if it had one.

    Parameters
    ----------
    sweep_dir : Path
        With at least one trial that began.
    metric : str
        Whose learning curves are drawn, e.g. ``val/auc``.
    """
    comparison = compare_sweeps([sweep_dir])
    comparison.write(sweep_dir)
    histories = {
        f"{record.model}, trial {record.number}": read_history(trial_folder(sweep_dir, record.number))
        for record in comparison.records
    }
    made = {"learning-curves": figures.learning_curves(histories, metric)}
    arrays: dict[str, Mapping[str, np.ndarray]] = {}
    for model, record in comparison.best.items():
        path = trial_folder(sweep_dir, record.number) / "evaluation" / "test.npz"
        if path.exists():
            arrays[model] = figures.load_arrays(path)
    winner = comparison.winner
    if winner is not None and winner.model in arrays:
        task = trial_task(trial_folder(sweep_dir, winner.number))
        made |= task.figures(arrays[winner.model])
        made |= task.comparison_figures(arrays)
    figures.save(made, sweep_dir / "plots")
    repeated = read_repeats(sweep_dir)
    if repeated is not None:
        repeated.write(sweep_dir)
    if has_study(sweep_dir):
        write_pictures(sweep_dir, comparison.records)
    return comparison


def write_evaluation(
    folder: Path,
    split: str,
    metrics: Mapping[str, float],
    arrays: Mapping[str, np.ndarray],
    task: Task,
    about: Mapping[str, str],
    timings: Sequence[Timing] = (),
) -> None:
    """Write ``metrics.json``, ``<split>.npz`` and the task's plots of an evaluation into `folder`.

    Raises
    ------
    JetsweepError
        If it cannot be written.
    """
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    times = {"timing": list(timings)} if timings else {}
    write_file(folder / "metrics.json", json.dumps({**about, "metrics": finite, **times}, indent=1).encode())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    write_file(folder / f"{split}.npz", buffer.getvalue())
    figures.save(task.figures(arrays), folder)


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """Metrics for a terminal, one a row; an uncertainty ``<metric>_error`` stands beside its metric."""
    from rich.table import Table

    table = Table("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        if not name.endswith("_error"):
            error = metrics.get(f"{name}_error")
            table.add_row(name, f"{value:.5g}" if error is None else with_uncertainty(value, error))
    return table


def timing_table(timings: Sequence[Timing]) -> Table:
    """Times per jet for a terminal, a device a row."""
    from rich.table import Table

    table = Table("inference time (median, warm)")
    table.add_column("µs per jet, in batches", justify="right")
    table.add_column("µs of a jet alone", justify="right")
    for timing in timings:
        batched = f"{timing['inference_us_per_jet']:,.1f} ({timing['inference_batch']:,} jets)"
        table.add_row(str(timing["device"]), batched, f"{timing['single_jet_us']:,.0f}")
    return table
