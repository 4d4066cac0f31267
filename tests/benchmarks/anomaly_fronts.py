"""Fronts of anomaly sweeps: worst-signal AUC against mass sculpting, before and after the conditional CDF.

``python tests/benchmarks/anomaly_fronts.py RUNS/vae RUNS/disco-vae RUNS/oe-vae`` prints markdown: a table for each
sweep, and all of them against the first at equal AUC. Fronts are chosen by the objectives of the validation split,
whose columns say so; all other numbers are of the test split.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jetsweep.search.best import non_dominated
from jetsweep.tasks import build_task
from jetsweep.tracking.compare import compare_sweeps
from jetsweep.tracking.results import trial_folder
from jetsweep.training.checkpoint import load_checkpoint

CUT = 0.1
SCORE_COLUMNS = "AUC | JSD | reported AUC"


@dataclass
class OnTest:
    """One score of a trial on the test split: worst AUC of chosen and of reported signals, JSD of the mass at `CUT`."""

    auc: float
    jsd: float
    reported: float

    @property
    def cells(self) -> str:
        return f"{self.auc:.3f} | {self.jsd:.3f} | {self.reported:.3f}"


@dataclass
class Trial:
    """One trial of a front; `floor` is the JSD of random cuts, `cdf` the score made independent of the mass."""

    number: int
    val_auc: float
    val_jsd: float
    floor: float
    plain: OnTest
    cdf: OnTest


def read_front(sweep: Path) -> list[Trial]:
    """Trials that no other beats on the validation split, the most sensitive first."""
    complete = [r for r in compare_sweeps([sweep]).records if r.status == "complete"]
    objectives = [(-r.metrics["val/worst_signal_auc"], r.metrics["val/mass_jsd_at_0.1"]) for r in complete]
    members = [
        (objective, r) for objective, r, member in zip(objectives, complete, non_dominated(objectives)) if member
    ]
    return [read_trial(trial_folder(sweep, r.number), r) for _, r in sorted(members, key=lambda pair: pair[0])]


def read_trial(folder: Path, record) -> Trial:
    """Figures of merit from the scores that the trial left."""
    loaded = load_checkpoint(folder / "checkpoints" / "best")
    task = build_task(loaded.spec.task, loaded.classes)
    jets = task.jets(dict(np.load(folder / "evaluation" / "test.npz")))
    found = []
    for score in jets.before_and_after:
        (cut,) = jets.sculpting(score, (CUT,), task.config.mass_jsd.measure()).cuts
        chosen = min(jets.roc(signal, score).area for signal in task.config.select_on)
        found.append((OnTest(chosen, cut.jsd, min(jets.roc(s, score).area for s in task.reported)), cut.floor.median))
    (plain, floor), (cdf, _) = found
    metrics = record.metrics
    return Trial(
        record.number, metrics["val/worst_signal_auc"], metrics["val/mass_jsd_at_0.1"], floor, plain=plain, cdf=cdf
    )


def print_front(name: str, front: list[Trial]) -> None:
    print(f"\n`{name}`\n\n| trial | AUC val | JSD val | {SCORE_COLUMNS} | random cut | CDF: {SCORE_COLUMNS} |")
    print("|" + "---:|" * 10)
    for t in front:
        print(f"| {t.number} | {t.val_auc:.3f} | {t.val_jsd:.3f} | {t.plain.cells} | {t.floor:.3f} | {t.cdf.cells} |")


def print_equal_auc(first: str, references: list[Trial], fronts: dict[str, list[Trial]]) -> None:
    """For each trial of the first front, the least sculpting one of every other front that tags no worse (val)."""
    print(f"\n| `{first}`: trial, AUC, JSD | sweep | trial | AUC | JSD | JSD / | CDF: AUC | CDF: JSD | CDF: JSD / |")
    print("|---|---|" + "---:|" * 7)
    for reference in references:
        start = f"| {reference.number}, {reference.plain.auc:.3f}, {reference.plain.jsd:.3f} |"
        for name, front in fronts.items():
            able = [t for t in front if t.val_auc >= reference.val_auc]
            if not able:
                print(f"{start} {name} | none |" + " |" * 6)
                continue
            t = min(able, key=lambda trial: trial.val_jsd)
            folds = [f"{s.auc:.3f} | {s.jsd:.3f} | {reference.plain.jsd / s.jsd:.1f}" for s in (t.plain, t.cdf)]
            print(f"{start} {name} | {t.number} | {' | '.join(folds)} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sweeps", nargs="+", type=Path)
    fronts = {sweep.name: read_front(sweep) for sweep in parser.parse_args().sweeps}
    for name, front in fronts.items():
        print_front(name, front)
    first = next(iter(fronts))
    print_equal_auc(first, fronts[first], fronts)


if __name__ == "__main__":
    main()
