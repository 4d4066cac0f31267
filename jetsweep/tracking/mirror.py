"""A sweep's folder mirrored to MLflow: the folder is the truth, and every call here may be repeated at any time."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.data.reweight import REWEIGHTING
from jetsweep.data.selection import STREAMS
from jetsweep.tracking.journal import read_samples
from jetsweep.tracking.lineage import dataset_inputs
from jetsweep.tracking.record import LINEAGE, PACKAGES, REPORT, SweepRecord, read_lineage
from jetsweep.tracking.results import OUTCOME, PARAMS, read_history, read_json, read_trial, trial_folder, trial_folders
from jetsweep.tracking.store import RUNNING, Point, RunStore, StoredRun, finite, leaves

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from jetsweep.training.reporter import Metrics

RUN_STATUS: dict[str, str] = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED", "STOPPED": "KILLED"}
SWEEP_RUN_STATUS: dict[str, str] = {"FINISHED": "FINISHED", "STOPPED": "KILLED", "FAILED": "FAILED", "KILLED": "KILLED"}

TRIAL_FILES = ("experiment.json", PARAMS, OUTCOME, "result.json", "history.jsonl", REWEIGHTING, STREAMS)
SWEEP_FILES = ("experiment.yaml", "experiment.json", PACKAGES)

ERROR_FILE = "error.txt"
PARENT = "mlflow.parentRunId"
DELIVERED = "jetsweep.delivered"
"""Tag of a run that ended: digest of the files it was filled from."""


class Mirror:
    """Brings the runs of one sweep up to date with its folder, in one store.

    What the store has is asked once, by the tag ``jetsweep.sweep_id``, and again after every request that failed: it
    may have been carried out. So whoever was killed between two requests, another goes on; no run is made twice and no
    step of a metric written twice.

    Not for several threads at once.

    Parameters
    ----------
    client : MlflowClient
    uri : str
    sweep_dir : Path
        With ``lineage.json``.
    record : SweepRecord
        Of that folder; written when the sweep's run is found or made.
    """

    def __init__(self, client: MlflowClient, uri: str, sweep_dir: Path, record: SweepRecord) -> None:
        self.sweep_dir, self.record, self.uri = sweep_dir, record, uri
        self.lineage = read_lineage(sweep_dir)
        place = record.place(uri)
        self.store = RunStore(client, uri, self.lineage.experiment, place["experiment_id"] if place else None)
        self.trials: dict[int, StoredRun] = {}
        self.sweep: StoredRun | None = None
        self._is_known = False
        self._unsure: set[int] = set()
        self._datasets = dataset_inputs(self.lineage.datasets)
        self._system_read = 0

    # the sweep's run

    def update_sweep(self, close_as: str | None = None) -> str:
        """Make or continue the sweep's run, and close it if it ended.

        Parameters
        ----------
        close_as : str, optional
            Status of a sweep whose folder does not say how it ended; by default it is taken to run.

        Returns
        -------
        str
            Id of the run.
        """
        try:
            return self._update_sweep(close_as)
        except BaseException:
            self._is_known = False
            raise

    def _update_sweep(self, close_as: str | None) -> str:
        self._look()
        is_fresh = self.sweep is None
        run = self.sweep = self.sweep or self._create_sweep()
        if self.record.place(self.uri) != {"experiment_id": self.store.experiment_id, "run_id": run.run_id}:
            self.record.set_place(self.uri, self.store.experiment_id, run.run_id)
            self.record.write(self.sweep_dir)
        outcome = _read_if_there(self.sweep_dir / OUTCOME)
        wanted = _wanted(run, SWEEP_RUN_STATUS, outcome, close_as is None, close_as)
        files = [self.sweep_dir / name for name in SWEEP_FILES]
        tables = sorted([*self.sweep_dir.glob("compare.*"), *self.sweep_dir.glob("repeats.*")])
        report = _files_in(self.sweep_dir / REPORT)
        digest = _digest([*files, *tables, *report, self.sweep_dir / OUTCOME], str(self.record.resumed))
        if _is_done(run, wanted, digest):
            return run.run_id
        self.store.reopen(run)
        tags = self._sweep_tags()
        if wanted == RUNNING:
            self.store.write(run, (), self.lineage.params, tags)
            self.store.inputs(run, self._datasets)
            if is_fresh:
                self.store.files(run, files)
            return run.run_id
        self.store.write(run, self._best_points(outcome), self.lineage.params, tags | self._end_tags(outcome, digest))
        self.store.inputs(run, self._datasets)
        self.store.files(run, files)
        self.store.files(run, tables, "comparison")
        self.store.files(run, _files_in(self.sweep_dir / "plots"), "plots")
        self.store.files(run, report, REPORT)
        if "best_trial" in outcome:
            best = trial_folder(self.sweep_dir, outcome["best_trial"]) / "checkpoints" / "best"
            self.store.files(run, [best / "model.safetensors", best / "experiment.json"], "best_model")
        self.store.end(run, wanted, _changed_ms(self.sweep_dir / OUTCOME))
        return run.run_id

    def _create_sweep(self) -> StoredRun:
        started = _changed_ms(self.sweep_dir / LINEAGE) or _now_ms()
        return self.store.create(self.sweep_dir.name, self._sweep_tags(), started)

    def _sweep_tags(self) -> dict[str, str]:
        self.lineage = read_lineage(self.sweep_dir)
        tags = {**self._identity("sweep"), **self.lineage.tags}
        return tags | ({"jetsweep.resumed": str(self.record.resumed)} if self.record.resumed else {})

    def _end_tags(self, outcome: Mapping[str, Any], digest: str) -> dict[str, str]:
        tags = {DELIVERED: digest}
        if "best_trial" in outcome:
            tags["jetsweep.best_trial"] = str(outcome["best_trial"])
        table = self.sweep_dir / "compare.md"
        if table.exists():  # MLflow shows it on the run's first page
            tags["mlflow.note.content"] = table.read_text(encoding="utf-8")
        return tags

    def _best_points(self, outcome: Mapping[str, Any]) -> list[Point]:
        """Metrics of the best trial; a step for each time that the sweep was continued."""
        at = _changed_ms(self.sweep_dir / OUTCOME) or _now_ms()
        values = finite(outcome.get("best_metrics", {}))
        return [Point(f"best/{name}", value, at, self.record.resumed) for name, value in values.items()]

    def update_system(self) -> None:
        """Write the samples of ``system.jsonl`` that the sweep's run does not have yet."""
        try:
            self._look()
            if self.sweep is None:
                return
            samples, end = read_samples(self.sweep_dir, self._system_read)
            self.store.write(
                self.sweep,
                [
                    Point(name, value, sample["time"], sample["step"])
                    for sample in samples
                    for name, value in finite(sample["metrics"]).items()
                ],
            )
            self._system_read = end
        except BaseException:
            self._is_known = False
            raise

    # the trials' runs

    def update_trial(self, number: int, *, runs: bool = False, close_as: str | None = None) -> int:
        """Bring one trial's run up to date: made, parameters, new epochs; results, files and status once it ended.

        Parameters
        ----------
        number : int
        runs : bool
            Whether it is being trained; a run that was closed before is opened again.
        close_as : str, optional
            Status of a trial that neither is trained nor has an outcome; by default its run's status stays.

        Returns
        -------
        int
            Epochs that were delivered.
        """
        folder = trial_folder(self.sweep_dir, number)
        if not (folder / "experiment.json").exists():
            return 0
        try:
            return self._update_trial(number, folder, runs, close_as)
        except BaseException:
            self.trials.pop(number, None)
            self._unsure.add(number)
            raise

    def _update_trial(self, number: int, folder: Path, runs: bool, close_as: str | None) -> int:
        run = self._find_trial(number)
        outcome = _read_if_there(folder / OUTCOME)
        wanted = _wanted(run, RUN_STATUS, outcome, runs, close_as)
        has_failed = bool(outcome.get("error"))
        files = [folder / name for name in (*TRIAL_FILES, *([ERROR_FILE] if has_failed else []))]
        digest = _digest(files) if wanted != RUNNING else ""
        # a sweep's run that somebody deleted was made anew, with another id
        is_child = run is not None and self.sweep is not None and run.tags.get(PARENT) == self.sweep.run_id
        if run is not None and is_child and _is_done(run, wanted, digest):
            return 0
        spec = read_json(folder / "experiment.json")
        if run is None:
            run = self._create_trial(number, folder, spec)
        elif not run.is_whole:
            run = self.store.read(run.run_id)
        self.trials[number] = run
        self.store.reopen(run)
        history = read_history(folder)
        points = list(_history_points(history, run))
        delivered = len({point.step for point in points if point.step > run.steps.get(point.name, -1)})
        params, tags = _trial_params(folder, spec), self._trial_tags(number, spec)
        if wanted == RUNNING:
            self.store.write(run, points, params, tags)
            self.store.inputs(run, self._datasets)
            return delivered
        points += _result_points(folder, history, outcome)
        self.store.write(run, points, params, tags | _outcome_tags(outcome, run) | {DELIVERED: digest})
        self.store.inputs(run, self._datasets)
        self.store.files(run, files)
        self.store.files(run, _files_in(folder / "plots"), "plots")
        self.store.end(run, wanted, _changed_ms(folder / OUTCOME))
        run.forget_content()
        return delivered

    def _create_trial(self, number: int, folder: Path, spec: Mapping[str, Any]) -> StoredRun:
        started = _changed_ms(folder / PARAMS) or _now_ms()
        return self.store.create(f"{self.sweep_dir.name}-{number:05d}", self._trial_tags(number, spec), started)

    def _trial_tags(self, number: int, spec: Mapping[str, Any]) -> dict[str, str]:
        assert self.sweep is not None
        return {
            **self._identity("trial"),
            PARENT: self.sweep.run_id,
            "jetsweep.trial": str(number),
            "jetsweep.model": spec["model"]["name"],
        }

    def close_all(self, close_as: str) -> int:
        """Bring everything up to date, with whatever does not run any more closed; returns the epochs delivered.

        Raises
        ------
        Exception
            The first that a run caused; the others were brought up to date all the same.
        """
        errors: list[Exception] = []
        delivered = 0
        self._is_known = False  # a request that was carried out after we gave it up may have made a run twice
        self._look()
        if self.sweep is None:
            self.update_sweep()  # a trial's run names it
        for folder in trial_folders(self.sweep_dir):
            try:
                delivered += self.update_trial(int(folder.name), close_as=close_as)
            except Exception as error:
                errors.append(error)
        for update in (self.update_system, lambda: self.update_sweep(close_as)):
            try:
                update()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return delivered

    def end_open(self, status: str) -> None:
        """Close the runs that are open with one request each, their files left for a later `close_all`."""
        for run in [*self.trials.values(), *([self.sweep] if self.sweep is not None else [])]:
            if not run.is_closed:
                self.store.end(run, status)

    # what the store has

    def _look(self) -> None:
        """Ask the store for all runs of the sweep, unless it was asked and nothing failed since."""
        if self._is_known:
            return
        found: dict[int | None, list[StoredRun]] = {}
        for run in self.store.search(sweep_id=self.record.sweep_id):
            number = run.tags.get("jetsweep.trial")
            if run.is_closed and number is not None:
                run.forget_content()
            found.setdefault(None if number is None else int(number), []).append(run)
        chosen = {number: self._keep_one(runs) for number, runs in found.items()}
        self.sweep = chosen.pop(None, None)
        self.trials = {number: run for number, run in chosen.items() if number is not None}
        self._unsure.clear()
        self._is_known = True
        self._system_read = 0

    def _find_trial(self, number: int) -> StoredRun | None:
        self._look()
        if self.sweep is None:
            self.update_sweep()
        if number in self._unsure:
            found = list(self.store.search(sweep_id=self.record.sweep_id, trial=str(number)))
            if found:
                self.trials[number] = self._keep_one(found)
            self._unsure.discard(number)
        return self.trials.get(number)

    def _keep_one(self, runs: Sequence[StoredRun]) -> StoredRun:
        """The first of runs that should be one; a server may carry out a request long after we gave it up."""
        first, *others = sorted(runs, key=lambda run: (run.start_time, run.run_id))
        for run in others:
            self.store.delete(run)
        return first

    def _identity(self, kind: str) -> dict[str, str]:
        return {
            "jetsweep.sweep_id": self.record.sweep_id,
            "jetsweep.kind": kind,
            "jetsweep.sweep": self.sweep_dir.name,
        }


def _wanted(
    run: StoredRun | None, by_outcome: Mapping[str, str], outcome: Mapping[str, Any], runs: bool, close_as: str | None
) -> str:
    """Status that a run should have."""
    if outcome:
        return by_outcome[outcome["status"]]
    if runs:
        return RUNNING
    if run is not None and run.is_closed:
        return run.status
    return close_as or RUNNING


def _is_done(run: StoredRun, wanted: str, digest: str) -> bool:
    return wanted != RUNNING and run.status == wanted and run.tags.get(DELIVERED) == digest


def _history_points(history: Sequence[Metrics], run: StoredRun) -> Iterator[Point]:
    """Metrics by epoch; times follow from the run's start and the epochs' lengths, so a repeated request is equal."""
    at = float(run.start_time)
    for row in history:
        length = row.get("time/epoch_s", 0.0)
        if isinstance(length, int | float) and math.isfinite(length):
            at += 1000.0 * length
        for name, value in finite(row).items():
            yield Point(name, value, int(at), int(row["epoch"]))


def _result_points(folder: Path, history: Sequence[Metrics], outcome: Mapping[str, Any]) -> list[Point]:
    """Numbers of a trial that ended for good: one that was interrupted may go on and have others."""
    record = read_trial(folder)
    if not outcome or outcome.get("stopped_because") == "interrupted" or record is None or not record.parameters:
        return []
    values = {name: x for name, x in record.metrics.items() if name.startswith("test/")}
    values |= {"parameters": record.parameters, "train_seconds": record.seconds}
    values |= {"inference_us_per_jet": record.inference_us, "single_jet_us": record.single_jet_us}
    at = _changed_ms(folder / OUTCOME) or _now_ms()
    step = int(history[-1]["epoch"]) if history else 0
    return [Point(name, value, at, step) for name, value in finite(values).items()]


def _trial_params(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    drawn = _read_if_there(folder / PARAMS)
    return {**leaves(dict(spec)), **{f"drawn:{name}": value for name, value in drawn.items()}}


def _outcome_tags(outcome: Mapping[str, Any], run: StoredRun) -> dict[str, str]:
    if not outcome:
        return {}
    tags, error = {"jetsweep.stopped_because": str(outcome["stopped_because"])}, outcome.get("error")
    if error or "jetsweep.error" in run.tags:  # of an earlier attempt
        tags["jetsweep.error"] = str(error or "")
    return tags


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file())


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _digest(files: Sequence[Path], about: str = "") -> str:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.exists()}
    return hashlib.sha256(json.dumps([found, about]).encode()).hexdigest()[:16]


def _changed_ms(path: Path) -> int | None:
    return int(path.stat().st_mtime * 1000) if path.exists() else None


def _now_ms() -> int:
    return int(time.time() * 1000)
