"""Runs of one MLflow experiment: what MLflow limits, cuts or forgets is dealt with here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.tracking.client import artifact_location

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.tracking import MlflowClient

MAX_PARAM_LENGTH = 6000
"""MLflow cuts longer values without a word; we cut them with one."""

MAX_PARAMS, MAX_METRICS = 100, 1000
"""Per request."""


class RunStore:
    """Opens, fills and closes runs; knows which are open.

    Parameters
    ----------
    client : MlflowClient
    uri : str
    experiment : str
        Name; made if it does not exist.

    Raises
    ------
    TrackingError
        If the experiment was deleted.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: str) -> None:
        self.client, self.uri, self.experiment = client, uri, experiment
        self.experiment_id = self._experiment_id()
        self.open: set[str] = set()

    def _experiment_id(self) -> str:
        known = self.client.get_experiment_by_name(self.experiment)
        if known is None:
            location = artifact_location(self.uri, self.experiment)
            # MLflow 3 shows an experiment of unknown kind on its pages for language models
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(self.client.create_experiment(self.experiment, artifact_location=location, tags=tags))
        if known.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking URI {self.uri}: the experiment {self.experiment!r} was deleted there; "
                "choose another tracking.experiment or restore it"
            )
        return str(known.experiment_id)

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Open a run and return its id."""
        run_id = str(self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id)
        self.open.add(run_id)
        return run_id

    def tag(self, run_id: str, **tags: str) -> None:
        """Set tags ``jetsweep.<name>``."""
        for name, value in tags.items():
            self.client.set_tag(run_id, f"jetsweep.{name}", value[:8000])

    def note(self, run_id: str, markdown: str) -> None:
        """Set the description that MLflow shows on the run's first page."""
        self.client.set_tag(run_id, "mlflow.note.content", markdown[:8000])

    def params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Write parameters; long values are cut and say so."""
        from mlflow.entities import Param

        params = [Param(run_name(name), _text(value)) for name, value in values.items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run_id, params=params[start : start + MAX_PARAMS])

    def metrics(self, run_id: str, values: Mapping[str, Any], step: int) -> None:
        """Write the finite numbers of `values`; databases behind MLflow have no NaN and no infinity."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {k: float(x) for k, x in values.items() if isinstance(x, int | float) and not isinstance(x, bool)}
        finite = [Metric(run_name(name), x, now, step) for name, x in numbers.items() if math.isfinite(x)]
        for start in range(0, len(finite), MAX_METRICS):
            self.client.log_batch(run_id, metrics=finite[start : start + MAX_METRICS])

    def inputs(self, run_id: str, datasets: Sequence[DatasetInput]) -> None:
        """Write which datasets a run read."""
        if datasets:
            self.client.log_inputs(run_id, list(datasets))

    def files(self, run_id: str, paths: Sequence[Path], folder: str | None = None) -> None:
        """Copy those files that exist to the run's artifacts."""
        for path in paths:
            if path.exists():
                self.client.log_artifact(run_id, str(path), folder)

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)
        self.open.discard(run_id)

    def end_all(self, status: str) -> None:
        """Close whatever is still open, as far as the store lets us."""
        for run_id in sorted(self.open):
            with suppress(Exception):
                self.client.set_terminated(run_id, status)
        self.open.clear()


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


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_PARAM_LENGTH else f"{text[: MAX_PARAM_LENGTH - 40]}… (cut, see experiment.json)"
