"""Trials read back from MLflow: by run id or by a filter, on any server, without the folder they ran in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.errors import TrackingError
from jetsweep.tracking.client import first_line
from jetsweep.tracking.results import RESULT_FILES, TrialRecord, read_record

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

PAGE = 500


def records_of_runs(client: MlflowClient, run_ids: Sequence[str]) -> list[TrialRecord]:
    """Records of trials; a sweep's run stands for all its trials.

    Parameters
    ----------
    client : MlflowClient
    run_ids : sequence of str

    Raises
    ------
    TrackingError
        If there is no such run, or jetsweep did not make it.
    """
    from mlflow.exceptions import MlflowException

    runs = []
    for run_id in run_ids:
        try:
            runs.append(client.get_run(run_id))
        except MlflowException as error:
            raise TrackingError(f"run {run_id}: cannot be read: {first_line(error)}") from error
    return _records(client, runs)


def records_of_filter(client: MlflowClient, expression: str) -> list[TrialRecord]:
    """Records of all trials, of any experiment, that an MLflow filter selects.

    Parameters
    ----------
    client : MlflowClient
    expression : str
        E.g. ``metrics.`test/auc` > 0.98 and tags.`jetsweep.model` = 'part'``.

    Raises
    ------
    TrackingError
        If MLflow does not understand the filter, or nothing of jetsweep matches.
    """
    from mlflow.exceptions import MlflowException

    try:
        runs = list(_search(client, expression, [str(e.experiment_id) for e in _experiments(client)]))
    except MlflowException as error:
        raise TrackingError(f"filter {expression}: MLflow refuses it: {first_line(error)}") from error
    ours = [run for run in runs if "jetsweep.kind" in run.data.tags]
    if not ours:
        raise TrackingError(f"filter {expression}: expected runs of jetsweep, none matches")
    return _records(client, ours)


def _experiments(client: MlflowClient) -> Iterator[Experiment]:
    token = None
    while True:
        page = client.search_experiments(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _search(client: MlflowClient, expression: str, experiments: list[str]) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(experiments, expression, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _records(client: MlflowClient, runs: Sequence[Run]) -> list[TrialRecord]:
    trials: dict[str, Run] = {}
    for run in runs:
        kind = run.data.tags.get("jetsweep.kind")
        if kind == "sweep":
            # not the runs that repeat a trial with another seed
            children = f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and tags.`jetsweep.kind` = 'trial'"
            trials |= {str(r.info.run_id): r for r in _search(client, children, [str(run.info.experiment_id)])}
        elif kind == "trial":
            trials[str(run.info.run_id)] = run
        else:
            raise TrackingError(f"run {run.info.run_id}: expected a sweep or trial of jetsweep, found another run")
    return [_record(client, run) for run in trials.values()]


def _record(client: MlflowClient, run: Run) -> TrialRecord:
    tags, run_id = run.data.tags, str(run.info.run_id)
    sweep, number = tags["jetsweep.sweep"], int(tags["jetsweep.trial"])
    there = {item.path for item in client.list_artifacts(run_id)}
    if "experiment.json" not in there:  # it is written when a trial ends
        return TrialRecord(sweep, number, "unfinished", tags["jetsweep.model"])
    with tempfile.TemporaryDirectory() as folder:
        for name in RESULT_FILES:
            if name in there:
                client.download_artifacts(run_id, name, folder)
        return read_record(Path(folder), sweep, number)
