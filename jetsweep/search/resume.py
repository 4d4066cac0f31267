"""Sweeps that go on: which one is meant, and what may change."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment._compose import changes
from jetsweep.experiment.points import LEARNING_SAMPLERS
from jetsweep.experiment.template import load_experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetsweep.experiment.template import ExperimentTemplate

EXPERIMENT = "experiment.yaml"

_MAY_CHANGE = (
    "name",
    "profiles",
    "resources",
    "tracking",
    "search.trials",
    "search.budget",
    "search.terminator",
    "search.repeats",
    "search.scheduler",
    "search.grace_epochs",
    "search.reduction_factor",
)
"""Keys that leave the trials of a sweep comparable with each other."""


def find_sweep(runs_root: Path, name: str) -> Path:
    """Folder of a sweep: a name below `runs_root`, or a path.

    Raises
    ------
    JetsweepError
        If there is none, with the nearest name.
    """
    for folder in (runs_root / name, Path(name)):
        if (folder / EXPERIMENT).is_file():
            return folder.absolute()
    known = sorted(path.parent.name for path in runs_root.glob(f"*/{EXPERIMENT}"))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise JetsweepError(f"{runs_root}: expected the name of a sweep there or the folder of one, found {name!r}{hint}")


def newest(runs_root: Path, name: str) -> Path | None:
    """Folder of the last sweep of a name: ``name``, ``name-2``, ``name-3`` …; None where there is none yet."""
    found, number = None, 1
    while (folder := runs_root / (name if number == 1 else f"{name}-{number}")).is_dir():
        found, number = folder, number + 1
    return found if found is not None and (found / EXPERIMENT).is_file() else None


def load_to_resume(
    sweep_dir: Path, overrides: Sequence[str] = (), more_trials: int = 0, wanted: ExperimentTemplate | None = None
) -> ExperimentTemplate:
    """The experiment that a sweep goes on with.

    Parameters
    ----------
    sweep_dir : Path
    overrides : sequence of str
        ``key=value``, as `load_experiment` takes them.
    more_trials : int
        How many trials more than the sweep was to have.
    wanted : ExperimentTemplate, optional
        What the user's file says now; by default what the sweep has.

    Raises
    ------
    ExperimentError
        If something changed that would make its trials incomparable.
    """
    before = load_experiment(sweep_dir / EXPERIMENT)
    after = wanted or load_experiment(sweep_dir / EXPERIMENT, list(overrides))
    if more_trials:
        total = after.search.trials + more_trials
        after = _with_override(after, f"search.trials={total}")
    _check_changes(sweep_dir, before, after)
    return after


def _with_override(template: ExperimentTemplate, override: str) -> ExperimentTemplate:
    from jetsweep.experiment._compose import apply_override

    return type(template)(
        apply_override(template.document, override), template.file, template.profile, template.profile_changes
    )


def _check_changes(sweep_dir: Path, before: ExperimentTemplate, after: ExperimentTemplate) -> None:
    differing = [
        (path, old, new)
        for path, old, new in changes(before.document.tree, after.document.tree)
        if not any(path == key or path.startswith(f"{key}.") for key in _MAY_CHANGE)
    ]
    if not differing:
        return
    said = "; ".join(f"{path} ({_short(old)} → {_short(new)})" for path, old, new in differing)
    learn = f" -o search.start.sweep={sweep_dir.name}" if after.search.sampler in LEARNING_SAMPLERS else ""
    raise ExperimentError(
        f"{sweep_dir}: cannot go on with other settings, its trials would not be comparable: {said}; may change: "
        f"{', '.join(_MAY_CHANGE[2:])}. Go on unchanged with `jetsweep resume {sweep_dir.name}`, or begin a new sweep "
        f"with --fresh{learn}"
    )


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
