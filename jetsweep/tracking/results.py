"""What a trial left in its folder, read back for tables, plots and runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jetsweep.errors import TrackingError
from jetsweep.experiment.constraints import parse_constraint
from jetsweep.search.constraints import measured, violations_of
from jetsweep.training.history import read_history as read_history_file
from jetsweep.training.reporter import Metrics

PARAMS, OUTCOME = "params.json", "outcome.json"
"""Written into a trial's folder by the tracker: the drawn leaves, and how the trial ended for the sweep."""

RESULT_FILES = ("experiment.json", PARAMS, OUTCOME, "result.json")

VARIANTS = ("features", "version", "use_pairs")
"""Leaves of a model that make it another one for a table, where the models of the table differ in them."""

ENDS = {
    "budget": "complete",
    "patience": "complete",
    "asked": "stopped",
    "scheduler": "pruned",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "error": "failed",
}
"""How `stopped_because` reads in a table."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial's settings and results.

    Parameters
    ----------
    sweep : str
        Name of the sweep.
    number : int
    status : str
        "complete", "pruned", "interrupted", "stopped", "diverged", "failed" or "unfinished"; only complete trials can
        be best.
    model : str
    params : dict
        Drawn leaves by name.
    parameters : int
        Trainable parameters of the trained model; an ensemble of epochs counts all of them.
    metrics : dict
        ``test/…`` of the best checkpoint, and ``val/…`` of the epoch it was saved in.
    seconds : float
        Training time.
    inference_us : float
        Time per jet in microseconds.
    inference_batch : int
        Jets per batch in that measurement.
    single_jet_us : float
        Time of a jet alone in microseconds.
    device : str
        Where that was measured.
    selected_by : str
        The sweep's first objective; without objectives the validation metric that chose the epoch.
    selection : float
        That metric, signed so that larger is better.
    losses : tuple of float
        Objectives of the sweep, signed so that smaller is better; empty where they are not known.
    violated : tuple of str
        Constraints of the sweep that the trial does not meet; then it cannot be best.
    task : str
        Name of what was learned.
    variant : dict
        Leaves of `VARIANTS` that the model has.
    """

    sweep: str
    number: int
    status: str
    model: str
    params: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = float("nan")
    inference_us: float = float("nan")
    inference_batch: int = 0
    single_jet_us: float = float("nan")
    device: str = ""
    selected_by: str = ""
    selection: float = float("-inf")
    losses: tuple[float, ...] = ()
    violated: tuple[str, ...] = ()
    task: str = "tagging"
    variant: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether the trial may be best or on the front."""
        return self.status == "complete" and not self.violated


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    TrackingError
        If the file is missing or is not JSON.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrackingError(f"{path}: expected a result of jetsweep, found no such file") from error
    except (OSError, ValueError) as error:
        raise TrackingError(f"{path}: expected JSON, it cannot be read: {error}") from error
    return content


def trial_folder(sweep_dir: Path, number: int) -> Path:
    """Folder of one trial."""
    return sweep_dir / "trials" / f"{number:05d}"


def trial_folders(sweep_dir: Path) -> list[Path]:
    """Folders of a sweep's trials, by number."""
    trials = sweep_dir / "trials"
    return sorted(path for path in trials.iterdir() if path.name.isdigit()) if trials.is_dir() else []


def read_trial(folder: Path) -> TrialRecord | None:
    """Record of one trial's folder; None while it holds no settings yet."""
    if not (folder / "experiment.json").exists():
        return None
    return read_record(folder, folder.absolute().parent.parent.name, int(folder.name))


def read_record(folder: Path, sweep: str, number: int) -> TrialRecord:
    """Record from a folder that holds `RESULT_FILES`, of which all but the experiment may be missing.

    Raises
    ------
    TrackingError
        If a file is not what jetsweep writes.
    """
    spec = read_json(folder / "experiment.json")
    params, outcome, result = (
        read_json(folder / name) if (folder / name).exists() else {} for name in (PARAMS, OUTCOME, "result.json")
    )
    try:
        because = outcome.get("stopped_because") or result.get("stopped_because") or ""
        status, task = ENDS.get(because, "unfinished"), spec["task"]["name"]
        variant = {leaf: spec["model"][leaf] for leaf in VARIANTS if leaf in spec["model"]}
        record = TrialRecord(sweep, number, status, spec["model"]["name"], params, task=task, variant=variant)
        if not result:
            return record
        return _with_result(record, spec["training"]["monitor"], result, outcome.get("search", {}))
    except (KeyError, TypeError) as error:
        raise TrackingError(f"{folder}: expected results of jetsweep, the key {error} is not there") from error


def _with_result(
    record: TrialRecord, monitor: dict[str, str], result: dict[str, Any], search: dict[str, Any]
) -> TrialRecord:
    best = {name: value for name, value in result["best"].items() if isinstance(value, int | float)}
    # the monitor chooses the epoch of a trial, the first objective among trials
    by = next(iter(search.get("objectives", [])), monitor)
    chosen = best.get(by["metric"], float("nan"))
    selection = chosen if by["mode"] == "max" else -chosen
    timing = result.get("timing", {})
    complete = record.status == "complete"
    constraints = [parse_constraint(text) for text in search.get("constraints", []) if complete]
    violations = violations_of(constraints, {**result["best"], **measured(result)})
    return TrialRecord(
        record.sweep,
        record.number,
        record.status,
        record.model,
        record.params,
        parameters=result["parameters"],
        metrics={**{name: value for name, value in best.items() if "/" in name}, **result["test"]},
        seconds=result["seconds"],
        inference_us=float(timing.get("inference_us_per_jet", float("nan"))),
        inference_batch=int(timing.get("inference_batch", 0)),
        single_jet_us=float(timing.get("single_jet_us", float("nan"))),
        device=str(timing.get("device", "")),
        selected_by=by["metric"],
        selection=selection if selection == selection else float("-inf"),
        losses=tuple(
            best.get(o["metric"], float("nan")) * (-1 if o["mode"] == "max" else 1)
            for o in search.get("objectives", [])
            if complete
        ),
        violated=tuple(text for text, violation in violations.items() if violation > 0),
        task=record.task,
        variant=record.variant,
    )


def told_apart(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The records, with names of models that also tell in which of `VARIANTS` those of one architecture differ."""
    found = list(records)
    values: dict[tuple[str, str], set[Any]] = {}
    for record in found:
        for leaf, value in record.variant.items():
            values.setdefault((record.model, leaf), set()).add(value)

    def name(record: TrialRecord) -> str:
        differing = {leaf: x for leaf, x in record.variant.items() if len(values[record.model, leaf]) > 1}
        return " ".join([record.model, *(x if isinstance(x, str) else f"{leaf}={x}" for leaf, x in differing.items())])

    return [replace(record, model=name(record)) for record in found]


def read_sweep(folder: Path) -> list[TrialRecord]:
    """Records of all trials of a sweep's folder, by number.

    Raises
    ------
    TrackingError
        If there is no sweep, or it has no trials.
    """
    if not (folder / "trials").is_dir():
        raise TrackingError(f"{folder}: expected the folder of a sweep with trials, found none")
    records = [record for record in map(read_trial, trial_folders(folder)) if record is not None]
    if not records:
        raise TrackingError(f"{folder}: expected trials, found none that began")
    return records


def read_history(folder: Path) -> list[Metrics]:
    """Metrics of a trial by epoch."""
    return read_history_file(folder / "history.jsonl")
