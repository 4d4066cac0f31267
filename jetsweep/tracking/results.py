"""What a trial left in its folder, read back for tables, plots and runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jetsweep.errors import TrackingError

ENDS = {
    "budget": "complete",
    "patience": "complete",
    "asked": "stopped early",
    "diverged": "diverged",
}
"""How the training loop's `stopped_because` reads in a table."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial's settings and results.

    Parameters
    ----------
    sweep : str
        Name of the sweep.
    number : int
    status : str
        "complete", "stopped early", "diverged" or "failed"; only complete trials can be best.
    model : str
    params : dict
        Drawn leaves by name.
    parameters : int
        Trainable parameters of the network.
    metrics : dict
        ``test/…`` of the best checkpoint, and ``val/…`` of the epoch it was saved in.
    seconds : float
        Training time.
    inference_us : float
        Time per jet in microseconds.
    device : str
        Where that was measured.
    selection : float
        Validation metric that chose the checkpoint, signed so that larger is better.
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
    device: str = ""
    selection: float = float("-inf")


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


def read_trial(folder: Path) -> TrialRecord | None:
    """Record of one trial's folder; None while it holds no settings yet."""
    if not (folder / "experiment.json").exists():
        return None
    spec = read_json(folder / "experiment.json")
    params = read_json(folder / "params.json") if (folder / "params.json").exists() else {}
    head = {
        "sweep": folder.parent.parent.name,
        "number": int(folder.name),
        "model": spec["model"]["name"],
        "params": params,
    }
    if not (folder / "result.json").exists():
        return TrialRecord(**head, status="failed")
    result = read_json(folder / "result.json")
    monitor = spec["training"]["monitor"]
    best = {name: value for name, value in result["best"].items() if isinstance(value, int | float)}
    chosen = best.get(monitor["metric"], float("nan"))
    selection = chosen if monitor["mode"] == "max" else -chosen
    timing = result.get("timing", {})
    return TrialRecord(
        **head,
        status=ENDS.get(result["stopped_because"], result["stopped_because"]),
        parameters=result["parameters"],
        metrics={**{name: value for name, value in best.items() if "/" in name}, **result["test"]},
        seconds=result["seconds"],
        inference_us=float(timing.get("inference_us_per_jet", float("nan"))),
        device=str(timing.get("device", "")),
        selection=selection if selection == selection else float("-inf"),
    )


def read_sweep(folder: Path) -> list[TrialRecord]:
    """Records of all trials of a sweep's folder, by number.

    Raises
    ------
    TrackingError
        If there is no sweep, or it has no trials.
    """
    if not (folder / "trials").is_dir():
        raise TrackingError(f"{folder}: expected the folder of a sweep with trials, found none")
    found = [read_trial(path) for path in sorted((folder / "trials").iterdir()) if path.name.isdigit()]
    records = [record for record in found if record is not None]
    if not records:
        raise TrackingError(f"{folder}: expected trials, found none that began")
    return records


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Metrics of a trial by epoch."""
    path = folder / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
