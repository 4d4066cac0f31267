"""A sweep in MLflow: the sweep is the parent run, every trial a child; one thread writes, off the sweep's loop."""

from __future__ import annotations

import atexit
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import TrackingError
from jetsweep.experiment import Experiment, ExperimentTemplate
from jetsweep.search.listener import SweepInfo, SweepStatus, TrialStatus
from jetsweep.tracking.client import check_uri, first_line, is_reachable, open_client, resolve_uri
from jetsweep.tracking.compare import Comparison
from jetsweep.tracking.lineage import dataset_inputs, environment_tags, installed_packages
from jetsweep.tracking.report import write_report, write_trial_plots
from jetsweep.tracking.results import OUTCOME, PARAMS, read_history, read_trial, trial_folder, trial_folders
from jetsweep.tracking.store import RunStore, leaves
from jetsweep.tracking.system_metrics import SystemMetrics
from jetsweep.training.checkpoint import write_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN_STATUS: dict[str, str] = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED"}
SWEEP_RUN_STATUS: dict[str, str] = {"FINISHED": "FINISHED", "STOPPED": "KILLED", "FAILED": "FAILED"}
TRIAL_FILES = ("experiment.json", PARAMS, OUTCOME, "result.json", "history.jsonl", "error.txt")

ASK_AGAIN_S = 30.0
"""How often a store that went away is asked whether it is back."""

Job = Callable[[], None]


class Tracker:
    """Writes a sweep to MLflow as it runs; its own files go into the sweep's folder first, whatever MLflow does.

    A store that fails does not disturb the sweep: what could not be written is told by `check` at the end.

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
        self.uri, self.template, self.sweep_dir = uri, template, sweep_dir
        self.experiment_name = template.tracking.experiment or template.name
        self.runs: dict[int, str] = {}
        self._store = RunStore(client, uri, self.experiment_name)
        self._failure: Exception | None = None
        self._away_since: float | None = None
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._comparison: Comparison | None = None
        atexit.register(self._close_runs, "KILLED")
        try:
            self._datasets = dataset_inputs(dataset_path) if dataset_path is not None else []
            self.parent = self._start_parent()
            self._system = SystemMetrics(self._system_sample)
        except BaseException:
            self._close_runs("FAILED")
            raise
        self._thread = threading.Thread(target=self._work, name="jetsweep-tracking", daemon=True)
        self._thread.start()

    def _start_parent(self) -> str:
        store, name = self._store, self.sweep_dir.name
        parent = store.start(name, {"jetsweep.kind": "sweep", "jetsweep.sweep": name, **environment_tags()})
        search = self.template.search.model_dump(mode="json")
        store.params(parent, {"seed": self.template.example.seed, **leaves(search, "search")})
        store.files(parent, [self.sweep_dir / "experiment.yaml", self.sweep_dir / "experiment.json"])
        store.client.log_text(parent, installed_packages(), "packages.txt")
        store.inputs(parent, self._datasets)
        record = {"uri": self.uri, "experiment_id": store.experiment_id, "run_id": parent}
        (self.sweep_dir / "mlflow.json").write_text(json.dumps(record, indent=1))
        return parent

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Close whatever is open on a way out that no `sweep_ended` announced."""
        self._close("FAILED" if kind is None or issubclass(kind, Exception) else "KILLED")

    def check(self) -> None:
        """Tell what could not be written.

        Raises
        ------
        TrackingError
            If anything could not; the sweep's folder has it all the same.
        """
        if self._failure is not None:
            raise TrackingError(
                f"tracking URI {self.uri}: not everything could be written ({first_line(self._failure)}); "
                f"the results are complete in {self.sweep_dir}"
            ) from self._failure

    # what a SweepListener hears

    def sweep_started(self, info: SweepInfo) -> None:
        self._submit(lambda: self._store.tag(self.parent, concurrent_trials=str(info.concurrent)))

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        spec = experiment.trial_spec()
        write_file(trial_dir / PARAMS, json.dumps(dict(params)).encode())
        if not (trial_dir / "experiment.json").exists():  # a trial that fails at once belongs into the tables too
            write_file(trial_dir / "experiment.json", spec.model_dump_json(indent=2).encode())
        values = {**leaves(spec.model_dump(mode="json")), **{f"drawn:{name}": x for name, x in params.items()}}
        self._submit(lambda: self._start_trial(number, experiment.model.name, values))

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        row = dict(metrics)
        self._submit(lambda: self._store.metrics(self.runs[number], row, int(row.get("epoch", 0))))

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        search = self.template.search.model_dump(mode="json", include={"objectives", "constraints"})
        outcome = {"status": status, "stopped_because": stopped_because, "error": error, "search": search}
        write_file(trial_dir / OUTCOME, json.dumps(outcome).encode())
        self._submit(lambda: write_trial_plots(trial_dir), local=True)
        self._submit(lambda: self._end_trial(number, status, stopped_because, trial_dir, error))

    def sweep_ended(self, status: SweepStatus) -> None:
        # the search tells FAILED on its way out of an exception; a second Ctrl-C is no failure
        interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
        ended = "KILLED" if interrupted else SWEEP_RUN_STATUS[status]
        self._system.close()
        self._submit(self._report, local=True)
        self._submit(self._upload_report)
        self._submit(lambda: self._store.end(self.parent, ended))
        self._close(ended)

    # the writing thread

    def _submit(self, job: Job, local: bool = False) -> None:
        self._jobs.put(job if local else lambda: self._when_there(job))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:
                self._failure = self._failure or error

    def _when_there(self, job: Job) -> None:
        """Run a job, unless the store went away: each request to it would wait for many seconds in vain."""
        if self._away_since is not None:
            if time.monotonic() - self._away_since < ASK_AGAIN_S:
                return
            self._away_since = None if is_reachable(self.uri) else time.monotonic()
            if self._away_since is not None:
                return
        try:
            job()
        except Exception:
            self._away_since = None if is_reachable(self.uri) else time.monotonic()
            raise

    def _close(self, status: str) -> None:
        """Write what waits and close every run; does nothing the second time."""
        self._system.close()
        self._jobs.put(None)
        self._thread.join()
        self._close_runs(status)

    def _close_runs(self, status: str) -> None:
        atexit.unregister(self._close_runs)
        if self._store.open and self._away_since is not None and not is_reachable(self.uri):
            return
        self._store.end_all(status)

    # jobs

    def _system_sample(self, values: dict[str, float], sample: int) -> None:
        self._submit(lambda: self._store.metrics(self.parent, values, sample))

    def _start_trial(self, number: int, model: str, values: dict[str, Any]) -> None:
        tags = {
            "mlflow.parentRunId": self.parent,
            "jetsweep.kind": "trial",
            "jetsweep.sweep": self.sweep_dir.name,
            "jetsweep.trial": str(number),
            "jetsweep.model": model,
        }
        self.runs[number] = self._store.start(f"{self.sweep_dir.name}-{number:05d}", tags)
        self._store.params(self.runs[number], values)
        self._store.inputs(self.runs[number], self._datasets)

    def _end_trial(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        run_id, store = self.runs[number], self._store
        try:
            store.tag(run_id, stopped_because=stopped_because, **({"error": error} if error else {}))
            record = read_trial(trial_dir)
            if record is not None and record.parameters:
                values = {name: x for name, x in record.metrics.items() if name.startswith("test/")}
                values |= {"parameters": record.parameters, "train_seconds": record.seconds}
                values["inference_us_per_jet"] = record.inference_us
                history = read_history(trial_dir)
                store.metrics(run_id, values, int(history[-1]["epoch"]) if history else 0)
            store.files(run_id, [trial_dir / name for name in TRIAL_FILES])
            store.files(run_id, sorted((trial_dir / "plots").glob("*")), "plots")
        finally:
            store.end(run_id, RUN_STATUS[status])

    def _report(self) -> None:
        if any(read_trial(folder) for folder in trial_folders(self.sweep_dir)):
            self._comparison = write_report(self.sweep_dir, self.template.search.objectives[0].metric)

    def _upload_report(self) -> None:
        store, parent = self._store, self.parent
        store.files(parent, sorted(self.sweep_dir.glob("compare.*")), "comparison")
        store.files(parent, sorted((self.sweep_dir / "plots").glob("*")), "plots")
        if self._comparison is not None:
            store.note(parent, (self.sweep_dir / "compare.md").read_text(encoding="utf-8"))
        winner = self._comparison.winner if self._comparison is not None else None
        if winner is None:
            return
        store.metrics(parent, {f"best/{name}": x for name, x in winner.metrics.items()}, 0)
        store.tag(parent, best_trial=str(winner.number))
        best = trial_folder(self.sweep_dir, winner.number) / "checkpoints" / "best"
        store.files(parent, [best / "model.safetensors", best / "experiment.json"], "best_model")


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
    try:
        return Tracker(client, resolved, template, sweep_dir, None if dataset_path is None else Path(dataset_path))
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"tracking URI {resolved}: a run cannot be opened: {first_line(error)}") from error


def check_tracking(template: ExperimentTemplate, uri: str | None, runs_root: Path) -> None:
    """Refuse a tracking URI that cannot work before anything else is made; quick, without MLflow.

    Raises
    ------
    TrackingError
        As `start_tracking`.
    """
    check_uri(resolve_uri(uri, template.tracking.uri, runs_root))
