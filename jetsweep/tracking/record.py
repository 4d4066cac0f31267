"""What a sweep's folder remembers of its tracking: who it is, where its runs are, what the sweep's own run tells."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.tracking.client import resolve_uri, sqlite_path
from jetsweep.tracking.lineage import describe_datasets, environment_tags, installed_packages
from jetsweep.tracking.results import read_json
from jetsweep.tracking.store import leaves
from jetsweep.training.checkpoint import write_file

if TYPE_CHECKING:
    from jetsweep.experiment import ExperimentTemplate

RECORD, LINEAGE, PACKAGES = "mlflow.json", "lineage.json", "packages.txt"

REPORT = "report"
"""Folder of a sweep with its report."""

Place = dict[str, str]
"""Of a sweep in one store: `experiment_id` and `run_id`."""


@dataclass
class SweepRecord:
    """``mlflow.json`` of a sweep's folder.

    Parameters
    ----------
    sweep_id : str
        Of no other sweep, whatever its name; the tag ``jetsweep.sweep_id`` of its runs.
    uri : str
        Of the store that the sweep writes to while it runs.
    experiment_id, run_id : str
        Of the sweep's run there; empty until it is made.
    resumed : int
        How often the sweep was continued.
    mirrors : dict
        Experiment and run in other stores, by their URI.
    """

    sweep_id: str
    uri: str
    experiment_id: str = ""
    run_id: str = ""
    resumed: int = 0
    mirrors: dict[str, Place] = field(default_factory=dict)

    def place(self, uri: str) -> Place | None:
        """Experiment and run in a store, None where there are none yet."""
        if uri == self.uri and self.experiment_id:
            return {"experiment_id": self.experiment_id, "run_id": self.run_id}
        return self.mirrors.get(uri)

    def set_place(self, uri: str, experiment_id: str, run_id: str) -> None:
        """Note experiment and run in a store."""
        if uri == self.uri:
            self.experiment_id, self.run_id = experiment_id, run_id
        else:
            self.mirrors[uri] = {"experiment_id": experiment_id, "run_id": run_id}

    def move_to(self, uri: str) -> None:
        """Write to another store from now on."""
        if uri == self.uri:
            return
        before, there = self.place(self.uri), self.mirrors.pop(uri, {})
        if before is not None:
            self.mirrors[self.uri] = before
        self.uri = uri
        self.experiment_id, self.run_id = there.get("experiment_id", ""), there.get("run_id", "")

    def write(self, sweep_dir: Path) -> None:
        """Replace the file."""
        write_file(sweep_dir / RECORD, json.dumps(asdict(self), indent=1).encode())


def read_record(sweep_dir: Path) -> SweepRecord | None:
    """Record of a sweep's folder, None if it was never tracked.

    Raises
    ------
    TrackingError
        If the file is not what jetsweep writes.
    """
    if not (sweep_dir / RECORD).exists():
        return None
    content = read_json(sweep_dir / RECORD)
    try:
        return SweepRecord(**content)
    except TypeError as error:
        raise TrackingError(f"{sweep_dir / RECORD}: expected a record of jetsweep's tracking, {error}") from error


def new_record(uri: str) -> SweepRecord:
    """Record of a sweep that was never tracked."""
    return SweepRecord(uuid.uuid4().hex, uri)


def sweep_uri(given: str | None, in_file: str | None, sweep_dir: Path) -> str:
    """Tracking URI of a sweep: as given, else where it was tracked before, else as `resolve_uri` has it.

    A SQLite file that is no longer where it was does not count: folders are moved.
    """
    record = read_record(sweep_dir)
    moved = record is not None and record.uri.startswith("sqlite:///") and not sqlite_path(record.uri).exists()
    if given is None and record is not None and not moved:
        return record.uri
    return resolve_uri(given, in_file, sweep_dir.parent)


@dataclass(frozen=True)
class Lineage:
    """``lineage.json`` of a sweep's folder: what its run tells, as it was on the machine that ran it.

    Parameters
    ----------
    experiment : str
        Name of the MLflow experiment.
    params : dict
        Seed and search.
    tags : dict
        Environment: versions, machine, git commit.
    datasets : list of dict
        Splits that the trials read, see `jetsweep.tracking.lineage.describe_datasets`.
    """

    experiment: str
    params: dict[str, Any]
    tags: dict[str, str]
    datasets: list[dict[str, str]]


def write_lineage(template: ExperimentTemplate, sweep_dir: Path, dataset_path: str | None) -> None:
    """Write ``lineage.json`` and ``packages.txt`` unless they are there."""
    if (sweep_dir / LINEAGE).exists():
        return
    search = template.search.model_dump(mode="json")
    lineage = Lineage(
        template.tracking.experiment or template.name,
        {"seed": template.example.seed, **leaves(search, "search")},
        environment_tags(),
        describe_datasets(dataset_path) if dataset_path is not None else [],
    )
    write_file(sweep_dir / PACKAGES, installed_packages().encode())
    write_file(sweep_dir / LINEAGE, json.dumps(asdict(lineage), indent=1).encode())


def add_tags(sweep_dir: Path, tags: Mapping[str, str]) -> None:
    """Add tags to ``lineage.json``."""
    content = read_json(sweep_dir / LINEAGE)
    content["tags"] |= tags
    write_file(sweep_dir / LINEAGE, json.dumps(content, indent=1).encode())


def read_lineage(sweep_dir: Path) -> Lineage:
    """Lineage of a sweep's folder.

    Raises
    ------
    TrackingError
        If the file is missing or not what jetsweep writes.
    """
    content = read_json(sweep_dir / LINEAGE)
    try:
        return Lineage(**content)
    except TypeError as error:
        raise TrackingError(f"{sweep_dir / LINEAGE}: expected the lineage of a sweep, {error}") from error
