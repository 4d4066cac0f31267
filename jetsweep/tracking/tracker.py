"""A sweep in MLflow: the sweep is the parent run, every trial a child; one thread writes, off the sweep's loop."""

from __future__ import annotations

import atexit
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.experiment import Experiment, ExperimentTemplate
from jetsweep.search.listener import SweepInfo, SweepStatus, TrialStatus
from jetsweep.tracking import figures
from jetsweep.tracking.client import open_client, resolve_uri
from jetsweep.tracking.compare import Comparison, compare_sweeps
from jetsweep.tracking.lineage import dataset_inputs, environment_tags
from jetsweep.tracking.results import read_history, read_json, read_trial

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MAX_PARAM_LENGTH = 6000
"""MLflow cuts longer values without a word; we cut them with one."""

RUN_STATUS: dict[str, str] = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED"}
SWEEP_RUN_STATUS: dict[str, str] = {"FINISHED": "FINISHED", "STOPPED": "KILLED", "FAILED": "FAILED"}

Job = Callable[[], None]


class Tracker:
    """Writes a sweep to MLflow as it runs.

    Parameters
    ----------
    client : MlflowClient
    uri : str
    template : ExperimentTemplate
    sweep_dir : Path
    dataset_path : Path or None
        Folder of the dataset, for its lineage.
    """

    def __init__(
        self, client: MlflowClient, uri: str, template: ExperimentTemplate, sweep_dir: Path, dataset_path: Path | None
    ) -> None:
        self.client, self.uri, self.template, self.sweep_dir = client, uri, template, sweep_dir
        self.experiment_name = template.tracking.experiment or template.name
        self.experiment_id = self._experiment()
        self.runs: dict[int, str] = {}
        self._open: set[str] = set()
        self._failure: Exception | None = None
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self.parent = self._start_parent(dataset_path)
        self._monitor = self._system_metrics()
        self._thread = threading.Thread(target=self._work, name="jetsweep-tracking", daemon=True)
        self._thread.start()
        atexit.register(self._last_resort)

    def _experiment(self) -> str:
        known = self.client.get_experiment_by_name(self.experiment_name)
        if known is not None and known.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking URI {self.uri}: the experiment {self.experiment_name!r} was deleted there; "
                "choose another tracking.experiment or restore it"
            )
        if known is not None:
            return str(known.experiment_id)
        location = None
        if self.uri.startswith("sqlite:"):
            location = (
                Path(self.uri.removeprefix("sqlite:///")).parent / "mlartifacts" / self.experiment_name
            ).as_uri()
        return str(self.client.create_experiment(self.experiment_name, artifact_location=location))

    def _start_parent(self, dataset_path: Path | None) -> str:
        tags = {"jetsweep.kind": "sweep", "jetsweep.sweep": self.sweep_dir.name, **environment_tags()}
        run = self.client.create_run(self.experiment_id, run_name=self.sweep_dir.name, tags=tags)
        parent = str(run.info.run_id)
        self._open.add(parent)
        search = self.template.search
        self._params(parent, {"seed": self.template.example.seed, **_leaves(search.model_dump(mode="json"), "search")})
        self.client.log_artifact(parent, str(self.sweep_dir / "experiment.yaml"))
        self.client.log_artifact(parent, str(self.sweep_dir / "experiment.json"))
        if dataset_path is not None:
            self.client.log_inputs(parent, dataset_inputs(dataset_path))
        (self.sweep_dir / "mlflow.json").write_text(
            json.dumps({"uri": self.uri, "experiment_id": self.experiment_id, "run_id": parent}, indent=1)
        )
        return parent

    def _system_metrics(self) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.parent, sampling_interval=10, tracking_uri=self.uri)
        monitor.start()
        return monitor

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close whatever is open on a way out that no `sweep_ended` announced."""
        if self._open:
            self._jobs.put(None)
            self._thread.join()
            self._last_resort()

    # what a SweepListener hears

    def sweep_started(self, info: SweepInfo) -> None:
        self._submit(lambda: self.client.set_tag(self.parent, "jetsweep.concurrent_trials", str(info.concurrent)))

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        trial_dir.mkdir(parents=True, exist_ok=True)
        (trial_dir / "params.json").write_text(json.dumps(dict(params)))
        self._submit(lambda: self._start_trial(number, dict(params), experiment))

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        row = dict(metrics)
        self._submit(lambda: self._log_metrics(self.runs[number], row, int(row.get("epoch", 0))))

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        self._submit(lambda: self._end_trial(number, status, stopped_because, trial_dir, error))

    def sweep_ended(self, status: SweepStatus) -> None:
        self._submit(lambda: self._finish_parent(status))
        self.close()

    def close(self) -> None:
        """Write what is waiting, close every run, and raise what went wrong on the way.

        Raises
        ------
        TrackingError
            If something could not be written.
        """
        self._jobs.put(None)
        self._thread.join()
        self._last_resort()
        atexit.unregister(self._last_resort)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise TrackingError(
                f"tracking URI {self.uri}: not everything could be written: {str(failure).splitlines()[0]}; "
                f"the results are complete in {self.sweep_dir}"
            ) from failure

    # what the writing thread does

    def _submit(self, job: Job) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # the sweep goes on; `close` tells
                self._failure = self._failure or error

    def _last_resort(self) -> None:
        """Close what is still open, when a sweep ends in a way nobody foresaw."""
        if self._monitor is not None:
            with suppress(Exception):
                self._monitor.finish()
            self._monitor = None
        for run_id in sorted(self._open):
            with suppress(Exception):
                self.client.set_terminated(run_id, "KILLED")
        self._open.clear()

    def _start_trial(self, number: int, params: dict[str, Any], experiment: Experiment) -> None:
        tags = {
            "mlflow.parentRunId": self.parent,
            "jetsweep.kind": "trial",
            "jetsweep.sweep": self.sweep_dir.name,
            "jetsweep.trial": str(number),
            "jetsweep.model": experiment.model.name,
        }
        run = self.client.create_run(self.experiment_id, run_name=f"{self.sweep_dir.name}-{number:05d}", tags=tags)
        self.runs[number] = str(run.info.run_id)
        self._open.add(self.runs[number])
        spec = experiment.trial_spec().model_dump(mode="json")
        self._params(self.runs[number], {**_leaves(spec), **{f"drawn:{name}": x for name, x in params.items()}})

    def _params(self, run_id: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(_name(name), _text(value)) for name, value in values.items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[start : start + 100])

    def _log_metrics(self, run_id: str, values: Mapping[str, Any], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {k: float(x) for k, x in values.items() if isinstance(x, int | float) and not isinstance(x, bool)}
        finite = [Metric(_name(name), x, now, step) for name, x in numbers.items() if math.isfinite(x)]
        if finite:
            self.client.log_batch(run_id, metrics=finite)

    def _end_trial(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        run_id = self.runs[number]
        try:
            self.client.set_tag(run_id, "jetsweep.stopped_because", stopped_because)
            if error:
                self.client.set_tag(run_id, "jetsweep.error", error[:8000])
            record = read_trial(trial_dir)
            if record is not None and record.parameters:
                values = {**{k: x for k, x in record.metrics.items() if k.startswith("test/")}}
                values |= {"parameters": record.parameters, "train_seconds": record.seconds}
                values["inference_us_per_jet"] = record.inference_us
                last = read_history(trial_dir)
                self._log_metrics(run_id, values, int(last[-1]["epoch"]) if last else 0)
            self._trial_artifacts(run_id, trial_dir)
        finally:
            killed = stopped_because == "interrupted"
            self.client.set_terminated(run_id, "KILLED" if killed else RUN_STATUS[status])
            self._open.discard(run_id)

    def _trial_artifacts(self, run_id: str, trial_dir: Path) -> None:
        for name in ("experiment.json", "params.json", "result.json", "history.jsonl", "error.txt"):
            if (trial_dir / name).exists():
                self.client.log_artifact(run_id, str(trial_dir / name))
        history, made = read_history(trial_dir), {}
        if history:
            made["loss"] = figures.loss_curves(history)
        arrays = trial_dir / "evaluation" / "test.npz"
        if arrays.exists():
            made |= self._task(trial_dir).figures(figures.load_arrays(arrays))
        if made:
            figures.save(made, trial_dir / "plots")
            self.client.log_artifacts(run_id, str(trial_dir / "plots"), "plots")

    def _task(self, trial_dir: Path) -> Any:
        from jetsweep.data.dataset import open_dataset
        from jetsweep.tasks import build_task

        dataset = read_json(self.sweep_dir / "dataset.json")
        return build_task(self.template.example.task, open_dataset(dataset["path"]).classes)

    def _finish_parent(self, status: SweepStatus) -> None:
        trials = self.sweep_dir / "trials"
        if trials.is_dir() and any(read_trial(path) for path in trials.iterdir() if path.name.isdigit()):
            comparison = compare_sweeps([self.sweep_dir])
            comparison.write(self.sweep_dir)
            for suffix in ("csv", "json", "html", "tex", "md"):
                self.client.log_artifact(self.parent, str(self.sweep_dir / f"compare.{suffix}"), "comparison")
            self._parent_plots(comparison)
            self._best_model(comparison)
        self.client.set_terminated(self.parent, SWEEP_RUN_STATUS[status])
        self._open.discard(self.parent)

    def _parent_plots(self, comparison: Comparison) -> None:
        folder = self.sweep_dir / "plots"
        metric = self.template.search.objectives[0].metric
        histories = {
            f"{record.number} {record.model}": read_history(self._trial_dir(record.number))
            for record in comparison.records
        }
        made = {"learning-curves": figures.learning_curves(histories, metric)}
        winner = comparison.winner
        if winner is not None:
            best = self._trial_dir(winner.number)
            made |= self._task(best).figures(figures.load_arrays(best / "evaluation" / "test.npz"))
        figures.save(made, folder)
        self.client.log_artifacts(self.parent, str(folder), "plots")

    def _best_model(self, comparison: Comparison) -> None:
        winner = comparison.winner
        if winner is None:
            return
        values = {f"best/{name}": x for name, x in winner.metrics.items()}
        self._log_metrics(self.parent, values, 0)
        self.client.set_tag(self.parent, "jetsweep.best_trial", str(winner.number))
        checkpoint = self._trial_dir(winner.number) / "checkpoints" / "best"
        for name in ("model.safetensors", "experiment.json"):
            self.client.log_artifact(self.parent, str(checkpoint / name), "best_model")

    def _trial_dir(self, number: int) -> Path:
        return self.sweep_dir / "trials" / f"{number:05d}"


def start_tracking(
    template: ExperimentTemplate,
    sweep_dir: Path,
    uri: str | None = None,
    *,
    dataset_path: Path | str | None = None,
) -> Tracker:
    """Open the tracking store and the sweep's parent run.

    Parameters
    ----------
    template : ExperimentTemplate
    sweep_dir : Path
        Holds ``experiment.yaml`` and ``experiment.json`` already.
    uri : str, optional
        Of MLflow; else ``MLFLOW_TRACKING_URI``, the experiment's, or SQLite beside the sweeps.
    dataset_path : Path or str, optional
        The dataset that the trials read.

    Raises
    ------
    TrackingError
        If the store cannot be used; no run is open then.
    """
    resolved = resolve_uri(uri, template.tracking.uri, sweep_dir.parent)
    client = open_client(resolved)
    if dataset_path is not None:
        (sweep_dir / "dataset.json").write_text(json.dumps({"path": str(dataset_path)}))
    try:
        return Tracker(client, resolved, template, sweep_dir, None if dataset_path is None else Path(dataset_path))
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"tracking URI {resolved}: a run cannot be opened: {str(error).splitlines()[0]}") from error


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a tree by dotted name; empty containers are left out."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}.{key}" if prefix else key)
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_PARAM_LENGTH else f"{text[: MAX_PARAM_LENGTH - 40]}… (cut, see experiment.json)"


def _name(name: str) -> str:
    """Name that MLflow accepts: letters, digits and ``_-.:/`` and space."""
    allowed = "".join(letter if letter.isalnum() or letter in "_-.:/ " else "_" for letter in name)
    return allowed[:250]
