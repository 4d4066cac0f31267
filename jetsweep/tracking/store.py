"""Runs of one MLflow experiment: what MLflow limits, cuts or forgets is dealt with here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jetsweep.errors import TrackingError
from jetsweep.tracking.client import artifact_location, shown

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run
    from mlflow.tracking import MlflowClient

MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 6000, 8000
"""MLflow cuts longer values without a word; we cut parameters with one."""

MAX_PARAMS, MAX_METRICS = 100, 800
"""Per request: MLflow takes 100 and 1,000, of both and tags together 1,000, and a megabyte."""

PAGE = 100
"""Runs per answer of a search: whole runs with all their metrics, which the driver holds at once."""

RUNNING = "RUNNING"


class Point(NamedTuple):
    """One value of a metric.

    Parameters
    ----------
    name : str
    value : float
        Finite.
    timestamp : int
        Milliseconds since 1970.
    step : int
    """

    name: str
    value: float
    timestamp: int
    step: int


@dataclass
class StoredRun:
    """What is known of a run in the store; `RunStore` keeps it true.

    Parameters
    ----------
    run_id : str
    status : str
        "RUNNING", "FINISHED", "FAILED" or "KILLED".
    start_time : int
        Milliseconds since 1970.
    tags : dict
    params : set of str
        Names, as MLflow has them.
    steps : dict
        Last step of each metric. A request's metrics are written as one transaction and each metric is sent in order,
        so every earlier step is there too.
    has_inputs : bool
    is_whole : bool
        False when only id, status and tags are kept, to hold a thousand closed runs in little memory.
    """

    run_id: str
    status: str
    start_time: int
    tags: dict[str, str]
    params: set[str]
    steps: dict[str, int]
    has_inputs: bool
    is_whole: bool = True

    @classmethod
    def of(cls, run: Run) -> StoredRun:
        """Take over what MLflow answers."""
        metrics = run.data.to_proto().metrics  # the only public view of the latest values that has their steps
        return cls(
            str(run.info.run_id),
            str(run.info.status),
            int(run.info.start_time),
            dict(run.data.tags),
            set(run.data.params),
            {metric.key: int(metric.step) for metric in metrics},
            bool(run.inputs is not None and run.inputs.dataset_inputs),
        )

    @property
    def is_closed(self) -> bool:
        """Whether it ended."""
        return self.status != RUNNING

    def forget_content(self) -> None:
        """Keep id, status and tags only."""
        self.params, self.steps, self.is_whole = set(), {}, False


class RunStore:
    """Makes, finds, fills and closes runs, in few requests, and none for what is there already.

    Parameters
    ----------
    client : MlflowClient
    uri : str
    experiment : str
        Name; made if it does not exist.
    experiment_id : str, optional
        Where the runs were before; the experiment may have been renamed since.

    Raises
    ------
    TrackingError
        If the experiment was deleted.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: str, experiment_id: str | None = None) -> None:
        self.client, self.uri, self.experiment = client, uri, experiment
        self.experiment_id = self._experiment_id(experiment_id)

    def _experiment_id(self, before: str | None) -> str:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

        if before is not None:
            try:
                if self.client.get_experiment(before).lifecycle_stage != "deleted":
                    return before
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                    raise
        known = self.client.get_experiment_by_name(self.experiment)
        if known is None:
            location = artifact_location(self.uri, self.experiment)
            # MLflow 3 shows an experiment of unknown kind on its pages for language models
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(self.client.create_experiment(self.experiment, artifact_location=location, tags=tags))
        if known.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking URI {shown(self.uri)}: the experiment {self.experiment!r} was deleted there; "
                "choose another tracking.experiment or restore it"
            )
        return str(known.experiment_id)

    def create(self, name: str, tags: Mapping[str, str], start_time: int) -> StoredRun:
        """Open a run that started at `start_time` (milliseconds since 1970)."""
        cut = {key: value[:MAX_TAG_LENGTH] for key, value in tags.items()}
        return StoredRun.of(self.client.create_run(self.experiment_id, start_time, cut, name))

    def read(self, run_id: str) -> StoredRun:
        """Ask for one run."""
        return StoredRun.of(self.client.get_run(run_id))

    def search(self, **tags: str) -> Iterator[StoredRun]:
        """Runs with these tags ``jetsweep.<name>``, those that were deleted left out."""
        expression = " and ".join(f"tags.`jetsweep.{name}` = '{value}'" for name, value in tags.items())
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], expression, max_results=PAGE, page_token=token)
            yield from map(StoredRun.of, page)
            token = page.token
            if not token:
                return

    def write(
        self,
        run: StoredRun,
        points: Iterable[Point] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write what the run does not have yet: later steps, new parameters, changed tags; tags last.

        Parameters
        ----------
        run : StoredRun
        points : iterable of Point
            Those of a metric in the order of their steps; a step that is not after the last one is left out.
        params : mapping
            Immutable in MLflow; long values are cut and say so.
        tags : mapping of str to str
        """
        from mlflow.entities import Metric, Param, RunTag

        new = [(run_name(point.name), point) for point in points]
        new = [(name, point) for name, point in new if point.step > run.steps.get(name, -1)]
        values = {run_name(name): _text(value) for name, value in (params or {}).items()}
        texts = {name: value[:MAX_TAG_LENGTH] for name, value in (tags or {}).items()}
        texts = {name: value for name, value in texts.items() if run.tags.get(name) != value}
        missing = _chunks([(name, value) for name, value in values.items() if name not in run.params], MAX_PARAMS)
        later = _chunks(new, MAX_METRICS)
        requests = list(zip_longest(missing, later)) or ([(None, None)] if texts else [])
        for number, (chunk, points_chunk) in enumerate(requests, 1):
            some_params, some_points = chunk or [], points_chunk or []
            last = texts if number == len(requests) else {}
            self.client.log_batch(
                run.run_id,
                metrics=[Metric(name, point.value, point.timestamp, point.step) for name, point in some_points],
                params=[Param(name, value) for name, value in some_params],
                tags=[RunTag(name, value) for name, value in last.items()],
            )
            run.params |= {name for name, _ in some_params}
            run.steps |= {name: point.step for name, point in some_points}
            run.tags |= last

    def inputs(self, run: StoredRun, datasets: Sequence[DatasetInput]) -> None:
        """Write which datasets a run read, unless it says so already."""
        if datasets and not run.has_inputs:
            self.client.log_inputs(run.run_id, list(datasets))
            run.has_inputs = True

    def files(self, run: StoredRun, paths: Sequence[Path], folder: str | None = None) -> None:
        """Copy those files that exist to the run's artifacts, over earlier ones."""
        for path in paths:
            if path.exists():
                self.client.log_artifact(run.run_id, str(path), folder)

    def text(self, run: StoredRun, text: str, name: str) -> None:
        """Write a text as an artifact."""
        self.client.log_text(run.run_id, text, name)

    def reopen(self, run: StoredRun) -> None:
        """Set a run that ended to RUNNING, so that it can go on."""
        if run.is_closed:
            self.client.update_run(run.run_id, RUNNING)
            run.status = RUNNING

    def end(self, run: StoredRun, status: str, end_time: int | None = None) -> None:
        """Close a run as FINISHED, FAILED or KILLED, unless it is closed like that already."""
        if run.status != status:
            self.client.set_terminated(run.run_id, status, end_time)
            run.status = status

    def delete(self, run: StoredRun) -> None:
        """Delete a run, as MLflow does: it can be restored."""
        self.client.delete_run(run.run_id)


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of `values`; databases behind MLflow have no NaN and no infinity."""
    numbers = {k: float(x) for k, x in values.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a tree by dotted name; nulls and empty containers are left out."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def run_name(name: str) -> str:
    """Name that MLflow accepts for a parameter or metric: letters, digits and ``_-.:/`` and space."""
    return "".join(letter if letter.isalnum() or letter in "_-.:/ " else "_" for letter in name)[:250]


def _chunks(entries: list[Any], size: int) -> list[list[Any]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_PARAM_LENGTH else f"{text[: MAX_PARAM_LENGTH - 40]}… (cut, see experiment.json)"
