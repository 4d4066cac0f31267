"""From an experiment to its comparison table: what `jetsweep run` does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import JetsweepError

if TYPE_CHECKING:
    from rich.console import Console

    from jetsweep.data.dataset import Dataset
    from jetsweep.experiment.template import ExperimentTemplate
    from jetsweep.search.concurrency import Concurrency
    from jetsweep.search.listener import SweepStatus
    from jetsweep.search.tune_run import SweepResult


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep left.

    Parameters
    ----------
    sweep_dir : Path
    result : SweepResult
    """

    sweep_dir: Path
    result: SweepResult

    @property
    def status(self) -> SweepStatus:
        """How the sweep ended."""
        return self.result.status


def run(
    template: ExperimentTemplate,
    *,
    runs_root: Path,
    data_root: Path,
    console: Console,
    tracking_uri: str | None = None,
    address: str | None = None,
    resume: Path | None = None,
) -> SweepOutcome:
    """Run an experiment: data, trials, tracking, comparison.

    Parameters
    ----------
    template : ExperimentTemplate
    runs_root, data_root : Path
        Folders of sweeps and of made datasets.
    console : rich.console.Console
    tracking_uri : str, optional
        Of MLflow; by default where a resumed sweep was tracked, the experiment's, or a SQLite file beside the sweeps.
    address : str, optional
        Of a Ray cluster; by default ``RAY_ADDRESS``, or a cluster of this machine started for the sweep.
    resume : Path, optional
        Folder of the sweep that goes on, see `jetsweep.search.resume`; a new one if not given.

    Returns
    -------
    SweepOutcome

    Raises
    ------
    JetsweepError
        If the sweep is not possible; nothing is left running.
    """
    from jetsweep.data.mirror import require_local
    from jetsweep.search.cluster import connected
    from jetsweep.search.concurrency import cluster_nodes, local_nodes, plan_concurrency
    from jetsweep.search.warm_start import find_earlier
    from jetsweep.tracking import check_tracking

    require_local(runs_root, "--runs")
    require_local(data_root, "--data")
    runs_root, data_root = Path(runs_root).absolute(), Path(data_root).absolute()
    resources, trials = template.example.resources, template.search.trials
    for example in template.examples:
        example.model.require_packages()
    check_tracking(template, tracking_uri, runs_root, resume)
    find_earlier(template, runs_root)
    dataset = None
    if not (address or os.environ.get("RAY_ADDRESS")):
        resources = resources.model_copy(update={"autoscaler": ()})  # this machine alone does not grow
        plan_concurrency(local_nodes(), resources, trials)  # refused before anything is made
        dataset = prepare_data(template, data_root, console)
    with connected(address):
        plan = plan_concurrency(cluster_nodes(), resources, trials)
        if dataset is None:
            dataset = prepare_data(template, data_root, console)
        console.print(f"Data: {dataset.path}")
        sweep_dir = resume or new_sweep_dir(runs_root, template.name)
        outcome, uri, undelivered = _drive(
            template, sweep_dir, dataset, data_root, console, tracking_uri, plan, is_new=resume is None
        )
    _tell_outcome(outcome, uri, undelivered, runs_root, console)
    return outcome


def _drive(
    template: ExperimentTemplate,
    sweep_dir: Path,
    dataset: Dataset,
    data_root: Path,
    console: Console,
    tracking_uri: str | None,
    plan: Concurrency,
    is_new: bool,
) -> tuple[SweepOutcome, str, str | None]:
    """Run the sweep as its only driver; returns also the tracking URI, and what could not be delivered there."""
    from jetsweep.search.cluster import demanded
    from jetsweep.search.listener import Listeners
    from jetsweep.search.lock import driving
    from jetsweep.search.progress import Progress
    from jetsweep.search.tune_run import run_sweep
    from jetsweep.tracking import start_tracking
    from jetsweep.tracking.client import shown
    from jetsweep.training.checkpoint import write_file

    with ExitStack() as stack:
        with new_or_nothing(sweep_dir, is_new):
            stack.enter_context(driving(sweep_dir))
            write_file(sweep_dir / "experiment.json", template.to_json().encode())
            write_file(sweep_dir / "experiment.yaml", template.to_yaml().encode())
            tracker = start_tracking(template, sweep_dir, tracking_uri, dataset_path=dataset.path)
        console.print(
            f"Sweep: {sweep_dir}\nTracking: {shown(tracker.uri)} (experiment {tracker.experiment_name})",
            highlight=False,
        )
        try:
            with tracker, demanded(plan.bundles if template.example.resources.autoscaler else []):
                listeners = Listeners(Progress(console), tracker)
                result = run_sweep(template, sweep_dir, data_root, listeners, concurrency=plan)
        except BaseException:
            say_how_to_go_on(sweep_dir, console)
            raise
    return SweepOutcome(sweep_dir, result), tracker.uri, tracker.undelivered()


def _tell_outcome(outcome: SweepOutcome, uri: str, undelivered: str | None, runs_root: Path, console: Console) -> None:
    sweep_dir, result = outcome.sweep_dir, outcome.result
    show_comparison(sweep_dir, uri, _where(runs_root), console)
    sentences = [result.why, undelivered]
    if result.status == "FINISHED" and result.best is None:
        sentences.append(why_no_result(result))
    for sentence in filter(None, sentences):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if result.status == "STOPPED":
        say_how_to_go_on(sweep_dir, console)


def say_how_to_go_on(sweep_dir: Path, console: Console) -> None:
    """Print the command that resumes a sweep."""
    command = f"jetsweep resume {sweep_dir.name}{_where(sweep_dir.parent)}"
    console.print(f"Go on with: {command}", highlight=False, soft_wrap=True)


def _where(runs_root: Path) -> str:
    """The option that names the folder of sweeps, where it is not the usual one."""
    return f" --runs {runs_root}" if runs_root != Path("jetsweep-runs").absolute() else ""


def outcome_is_useful(result: SweepResult) -> bool:
    """Whether the sweep ran to its end and some trial did too."""
    return result.status == "FINISHED" and result.best is not None


def why_no_result(result: SweepResult) -> str:
    """One sentence about a sweep none of whose trials trained to its end."""
    first = next((trial for trial in result.trials if trial.error), None)
    reason = f"; trial {first.number}: {first.error}" if first is not None else ""
    return f"No trial of {len(result.trials)} trained to its end{reason}"


@contextmanager
def new_or_nothing(sweep_dir: Path, is_new: bool) -> Iterator[None]:
    """Leave no empty sweep behind when a new one cannot begin."""
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(sweep_dir, ignore_errors=True)
        raise


def show_comparison(sweep_dir: Path, uri: str, where: str, console: Console) -> None:
    """Print the tables, and how to look at the rest."""
    from jetsweep.tracking import compare_sweeps
    from jetsweep.tracking.client import shown
    from jetsweep.tracking.repeats import read_repeats

    if any((sweep_dir / "trials").glob("*/result.json")):
        compare_sweeps([sweep_dir]).print(console)
    repeated = read_repeats(sweep_dir)
    if repeated is not None:
        repeated.print(console)
    local = uri.startswith("sqlite:")
    console.print(
        f"Look at runs, plots and tables: jetsweep ui{where}" if local else f"Look at {shown(uri)}", highlight=False
    )


def prepare_data(template: ExperimentTemplate, data_root: Path, console: Console) -> Dataset:
    """Make or open the dataset, with its derived columns, before any trial wants them."""
    from jetsweep._progress import progress_of_jets
    from jetsweep.data.config import prepare
    from jetsweep.data.verify import check_shards
    from jetsweep.training.check import check_data
    from jetsweep.training.init_from import check_start

    with progress_of_jets("Fetching jets" if template.example.data.path else "Making jets", console) as show:
        dataset = prepare(template.example.data, data_root, show)
    datasets = [dataset, *([dataset.outliers] if dataset.outliers is not None else [])]
    for part in datasets:
        for reason, count in part.manifest.dropped.items():
            console.print(f"left out of the data: {count:,} jets ({reason})", highlight=False)
        check_shards(part)  # reads every file once, as each epoch of each trial will
    spec = template.example.trial_spec()
    check_data(spec, dataset)
    check_start(spec, dataset.classes)
    for sentence in _reweightings(template, dataset):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for constituents, scalars, groups in _wanted_columns(template):
        for part in datasets:
            for split in part.splits:
                part.require_columns(constituents, scalars, dict.fromkeys(groups, ()))
                part.ensure_derived(split, scalars)
    return dataset


def _reweightings(template: ExperimentTemplate, dataset: Dataset) -> dict[str, None]:
    """A sentence for every way in which the space's experiments reweight; what it takes is kept for the trials."""
    from jetsweep.tasks import build_task
    from jetsweep.training.loaders import fit_reweightings

    sentences: dict[str, None] = {}
    for experiment in template.examples:
        spec = experiment.trial_spec()
        fitted = fit_reweightings(spec, build_task(spec.task, dataset.classes), dataset)
        sentences |= dict.fromkeys(made.sentence() for made in fitted.values())
    return sentences


def _wanted_columns(template: ExperimentTemplate) -> set[tuple[tuple[str, ...], ...]]:
    """Constituent columns, scalar columns and further groups that the space's architectures want."""
    from jetsweep.models._jet_model import preprocessing_of
    from jetsweep.tasks import TASKS

    wanted: set[tuple[tuple[str, ...], ...]] = set()
    for experiment in template.examples:
        model: Any = experiment.model
        made = preprocessing_of(model, experiment.data.max_constituents)
        of_task = TASKS.get(experiment.task.name).task.constituents
        wanted.add(((*made.constituent_columns, *of_task), made.scalar_columns, tuple(made.group_columns)))
    return wanted


def new_sweep_dir(runs_root: Path, name: str) -> Path:
    """Make the folder of a sweep: its name, or with -2, -3 … when there is one.

    Raises
    ------
    JetsweepError
        If it cannot be written.
    """
    number = 1
    try:
        runs_root.mkdir(parents=True, exist_ok=True)
        while True:
            folder = runs_root / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()  # fails if another process was first
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        raise JetsweepError(f"{runs_root}: a sweep's folder cannot be made: {error.strerror}") from error
