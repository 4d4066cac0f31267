"""A sweep in MLflow while it runs: events become files of the sweep's folder, and one thread mirrors the folder."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jetsweep.errors import JetsweepError, TrackingError
from jetsweep.experiment import Experiment, ExperimentTemplate
from jetsweep.search.listener import SweepInfo, SweepStatus, TrialStatus
from jetsweep.search.repeats import Repeat
from jetsweep.tracking.client import check_uri, first_line, is_reachable, open_client, resolve_uri, shown
from jetsweep.tracking.delivery import Delivery, Item
from jetsweep.tracking.journal import SystemJournal
from jetsweep.tracking.mirror import SWEEP_RUN_STATUS, Mirror
from jetsweep.tracking.record import SweepRecord, add_tags, new_record, read_record, sweep_uri, write_lineage
from jetsweep.tracking.report import write_report, write_trial_plots
from jetsweep.tracking.results import OUTCOME, PARAMS, read_json, read_trial, trial_folder, trial_folders
from jetsweep.tracking.system_metrics import SystemMetrics
from jetsweep.training.checkpoint import write_file

WAIT_VARIABLE, WAIT_S = "JETSWEEP_TRACKING_WAIT_S", 60.0
"""How long the end of a sweep waits for a store that is away."""

_SWEEP, _SYSTEM, _END, _FILES = "sweep", "system", "end", "files"
_EXIT_WAIT_S = 5.0


class Tracker:
    """Follows a sweep: writes what only the driver knows into its folder, and has the folder mirrored to MLflow.

    A store that is away, for minutes or for good, does not disturb the sweep: its calls return at once, what is due
    waits as a set of trials, and is delivered from their folders when the store is back. What is left at the end
    `undelivered` tells.

    Parameters
    ----------
    mirror : Mirror
        With the sweep's run.
    template : ExperimentTemplate
    wait_s : float
        How long the end waits for a store that is away.
    """

    def __init__(self, mirror: Mirror, template: ExperimentTemplate, wait_s: float = WAIT_S) -> None:
        self.uri, self.template, self.sweep_dir, self.wait_s = mirror.uri, template, mirror.sweep_dir, wait_s
        self.experiment_name = mirror.lineage.experiment
        self._mirror = mirror
        self._running: set[int] = set()
        self._unwritten: dict[Path, bytes] = {}
        self._close_as: str | None = None
        self._journal = SystemJournal(self.sweep_dir)
        self._delivery = Delivery(self._deliver, lambda: is_reachable(self.uri))
        for folder in trial_folders(self.sweep_dir):  # of an earlier driver
            self._delivery.mark(int(folder.name))
        self._system = SystemMetrics(self._sampled)
        atexit.register(self._leave)

    @property
    def parent(self) -> str:
        """Id of the sweep's run."""
        return self._mirror.record.run_id

    @property
    def runs(self) -> dict[int, str]:
        """Ids of the trials' runs that the store has."""
        return {number: run.run_id for number, run in list(self._mirror.trials.items())}

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Close whatever is open on a way out that no `sweep_ended` announced."""
        self._close("FAILED" if kind is None or issubclass(kind, Exception) else "KILLED")

    def undelivered(self) -> str | None:
        """One sentence about what the store does not have, None if it has everything; for the end of the sweep."""
        delivery = self._delivery
        if delivery.is_done and not self._unwritten and delivery.job_error is None:
            return None
        reason = first_line(delivery.job_error or delivery.error or TrackingError("there was no time"))
        if delivery.is_done and not self._unwritten:
            return f"{self.sweep_dir}: not every plot or table could be written ({reason})"
        return (
            f"tracking URI {shown(self.uri)}: not everything could be delivered ({reason}); the results are complete "
            f"in {self.sweep_dir}, and `jetsweep sync {self.sweep_dir}` delivers the rest"
        )

    def check(self) -> None:
        """Raise what `undelivered` tells.

        Raises
        ------
        TrackingError
            If the store does not have everything; the sweep's folder has it all the same.
        """
        sentence = self.undelivered()
        if sentence is not None:
            raise TrackingError(sentence) from (self._delivery.job_error or self._delivery.error)

    # what a SweepListener hears

    def sweep_started(self, info: SweepInfo) -> None:
        tags = {"jetsweep.concurrent_trials": str(info.concurrent), "jetsweep.trials": str(info.trials)}
        with suppress(JetsweepError):  # a full disk; the tags are worth no sweep
            add_tags(self.sweep_dir, tags)
        for trial in info.ended:  # the earlier driver may have died before it wrote how
            if not (trial.folder / OUTCOME).exists() and trial.status is not None:
                self.trial_ended(trial.number, trial.status, trial.stopped_because, trial.folder, trial.error)
        self._mark(_SWEEP)

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        with suppress(FileNotFoundError):  # of an earlier attempt
            (trial_dir / OUTCOME).unlink()
        if not (trial_dir / PARAMS).exists():  # its time is the trial's start
            self._write(trial_dir / PARAMS, json.dumps(dict(params)).encode())
        if not (trial_dir / "experiment.json").exists():  # a trial that fails at once belongs into the tables too
            self._write(trial_dir / "experiment.json", experiment.trial_spec().model_dump_json(indent=2).encode())
        self._running.add(number)
        self._mark(number)

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        self._mark(number)  # the epoch is in the trial's history

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        search = self.template.search.model_dump(mode="json", include={"objectives", "constraints"})
        outcome = {"status": status, "stopped_because": stopped_because, "error": error, "search": search}
        self._write(trial_dir / OUTCOME, json.dumps(outcome).encode())
        self._running.discard(number)
        self._delivery.do(lambda: write_trial_plots(trial_dir))
        self._mark(number)

    def repeat_ended(self, repeat: Repeat, status: TrialStatus, folder: Path, error: str | None) -> None:
        if status == "STOPPED":  # it goes on later
            return
        because = read_json(folder / "result.json")["stopped_because"] if status == "COMPLETE" else "error"
        search = self.template.search.model_dump(mode="json", include={"objectives", "constraints"})
        outcome = {"status": status, "stopped_because": because, "error": error, "search": search}
        params = trial_folder(self.sweep_dir, repeat.origin) / PARAMS
        if params.exists():
            self._write(folder / PARAMS, params.read_bytes())
        self._write(folder / OUTCOME, json.dumps(outcome).encode())

    def sweep_ended(self, status: SweepStatus) -> None:
        # the search tells FAILED on its way out of an exception; a second Ctrl-C is no failure
        interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
        ended = "KILLED" if interrupted else status
        self._delivery.do(lambda: self._report(ended))
        self._close(SWEEP_RUN_STATUS[ended])

    # files that only the driver can write

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file, later if the disk is full now: that is no reason to end the sweep."""
        try:
            write_file(path, content)
            self._unwritten.pop(path, None)
        except JetsweepError:
            self._unwritten[path] = content

    def _mark(self, item: Item) -> None:
        if self._unwritten:
            self._delivery.mark(_FILES)
        self._delivery.mark(item)

    def _write_late(self) -> None:
        for path, content in list(self._unwritten.items()):
            write_file(path, content)
            if self._unwritten.get(path) is content:
                del self._unwritten[path]
            if path.parent.name.isdigit():
                self._delivery.mark(int(path.parent.name))

    def _report(self, status: str) -> None:
        outcome: dict[str, Any] = {"status": status}
        try:
            if any(read_trial(folder) for folder in trial_folders(self.sweep_dir)):
                comparison = write_report(self.sweep_dir, self.template.search.objectives[0].metric)
                if comparison.winner is not None:
                    metrics = comparison.winner.metrics
                    outcome |= {"best_trial": comparison.winner.number, "best_metrics": dict(metrics)}
        finally:
            self._write(self.sweep_dir / OUTCOME, json.dumps(outcome).encode())

    def _sampled(self, metrics: dict[str, float]) -> None:
        self._journal.append(metrics)
        self._delivery.mark(_SYSTEM)

    # the writing thread

    def _deliver(self, item: Item) -> None:
        if isinstance(item, int):
            self._mirror.update_trial(item, runs=item in self._running, close_as=self._close_as)
        elif item == _FILES:
            self._write_late()
        elif item == _SYSTEM:
            self._mirror.update_system()
        elif item == _SWEEP:
            self._mirror.update_sweep(self._close_as)
        elif item == _END:
            self._mirror.close_all(self._close_as or "KILLED")

    def _close(self, status: str) -> None:
        """Deliver what waits and close every run; the second time it only waits for the first."""
        atexit.unregister(self._leave)
        self._system.close()
        if self._close_as is None:
            self._close_as = status
            self._running.clear()
            self._mark(_END)
        self._delivery.close(self.wait_s)

    def _leave(self) -> None:
        """Close the runs when the interpreter ends and nobody closed them; `jetsweep sync` delivers their files."""
        self._system.close()
        self._delivery.abandon(_EXIT_WAIT_S)
        if is_reachable(self.uri):
            with suppress(Exception):
                self._mirror.end_open("KILLED")


def start_tracking(
    template: ExperimentTemplate,
    sweep_dir: Path,
    uri: str | None = None,
    *,
    dataset_path: str | None = None,
) -> Tracker:
    """Open the tracking store and the sweep's run: a new one, or the one that an earlier driver began.

    Parameters
    ----------
    template : ExperimentTemplate
    sweep_dir : Path
        Holds ``experiment.yaml`` and ``experiment.json`` already. With the ``mlflow.json`` of an earlier driver its
        runs are continued: the sweep's is RUNNING again, a trial's when that trial is started again; runs that the
        driver left behind are brought up to date.
    uri : str, optional
        Of MLflow; else where the sweep was tracked before, ``MLFLOW_TRACKING_URI``, the experiment's, or SQLite beside
        the sweeps.
    dataset_path : str, optional
        Folder or URI of the dataset that the trials read.

    Raises
    ------
    TrackingError
        If the store cannot be used; no new run is open then.
    """
    resolved = sweep_uri(uri, template.tracking.uri, sweep_dir)
    # a request that MLflow itself repeats may be carried out twice; we look first what the store has
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    wait_s, client = _wait_s(), open_client(resolved)
    try:
        record = _begin_record(sweep_dir, resolved)
        write_lineage(template, sweep_dir, dataset_path)
        mirror = Mirror(client, resolved, sweep_dir, record)
        try:
            mirror.update_sweep()
            return Tracker(mirror, template, wait_s)
        except BaseException:
            with suppress(Exception):
                mirror.end_open("FAILED")
            raise
    except JetsweepError:
        raise
    except Exception as error:
        raise TrackingError(f"tracking URI {shown(resolved)}: a run cannot be opened: {first_line(error)}") from error


def _begin_record(sweep_dir: Path, uri: str) -> SweepRecord:
    """Record of a driver that begins; what it says is written before any run is made."""
    record = read_record(sweep_dir)
    if record is None:
        record = new_record(uri)
    else:
        record.move_to(uri)
        record.resumed += 1
    record.write(sweep_dir)
    with suppress(FileNotFoundError):
        (sweep_dir / OUTCOME).unlink()
    return record


def _wait_s() -> float:
    text = os.environ.get(WAIT_VARIABLE, str(WAIT_S))
    try:
        return max(0.0, float(text))
    except ValueError as error:
        raise TrackingError(f"{WAIT_VARIABLE}: expected seconds, found {text!r}") from error


def check_tracking(
    template: ExperimentTemplate, uri: str | None, runs_root: Path, sweep_dir: Path | None = None
) -> None:
    """Refuse a tracking URI that cannot work before anything else is made; quick, without MLflow.

    Parameters
    ----------
    template : ExperimentTemplate
    uri : str or None
        As given on the command line.
    runs_root : Path
    sweep_dir : Path, optional
        Of a sweep that is to be continued: it goes on where it was tracked before.

    Raises
    ------
    TrackingError
        As `start_tracking`.
    """
    _wait_s()
    in_file = template.tracking.uri
    check_uri(resolve_uri(uri, in_file, runs_root) if sweep_dir is None else sweep_uri(uri, in_file, sweep_dir))
