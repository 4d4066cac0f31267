"""Fronts of anomaly sweeps: worst-signal AUC against mass sculpting, before and after the conditional CDF.

``python tests/benchmarks/anomaly_fronts.py RUNS/vae RUNS/disco-vae RUNS/oe-vae`` prints markdown. Objectives are those
of the validation split, by which the front is chosen; all other numbers are of the test split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from jetsweep.search.best import non_dominated
from jetsweep.tasks import build_task
from jetsweep.tracking.compare import compare_sweeps
from jetsweep.tracking.results import trial_folder
from jetsweep.training.checkpoint import load_checkpoint

CUT = 0.1


def main() -> None:
    """Print a table for each sweep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sweeps", nargs="+", type=Path)
    for sweep in parser.parse_args().sweeps:
        print(f"\n**{sweep.name}**\n")
        after = "CDF: AUC | CDF: JSD | CDF: reported"
        print(f"| trial | AUC val | JSD val | AUC | JSD | random cut | reported AUC | {after} |")
        print("|---:|" + "---:|" * 9)
        complete = [r for r in compare_sweeps([sweep]).records if r.status == "complete"]
        objectives = [(-r.metrics["val/worst_signal_auc"], r.metrics["val/mass_jsd_at_0.1"]) for r in complete]
        front = [r for r, member in zip(complete, non_dominated(objectives)) if member]
        for record in sorted(front, key=lambda r: -r.metrics["val/worst_signal_auc"]):
            print(row(trial_folder(sweep, record.number), record))


def row(folder: Path, record) -> str:
    """One trial of a front."""
    loaded = load_checkpoint(folder / "checkpoints" / "best")
    task = build_task(loaded.spec.task, loaded.classes)
    arrays = dict(np.load(folder / "evaluation" / "test.npz"))
    jets = task.jets(arrays)
    cells = [f"{record.metrics['val/worst_signal_auc']:.3f}", f"{record.metrics['val/mass_jsd_at_0.1']:.3f}"]
    for score in jets.before_and_after:
        (cut,) = jets.sculpting(score, (CUT,), task.config.mass_jsd.measure()).cuts
        chosen = min(jets.roc(signal, score).area for signal in task.config.select_on)
        reported = min(jets.roc(signal, score).area for signal in task.reported)
        floor = [f"{cut.floor.median:.3f}"] if score == jets.before_and_after[0] else []
        cells += [f"{chosen:.3f}", f"{cut.jsd:.3f}", *floor, f"{reported:.3f}"]
    return f"| {record.number} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
