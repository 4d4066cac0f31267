"""A trained tagger on a dataset's nominal and varied splits: the samples that its systematic uncertainty needs."""

# Shapes: J jets of a split.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from jetsweep.data.dataset import Dataset
from jetsweep.errors import DataError, JetsweepError
from jetsweep.metrics._bootstrap import Sample
from jetsweep.metrics.systematics import ATLAS_TOP_TAGGING, NOMINAL, Scheme, Systematics, measure
from jetsweep.tasks._base import Task, build_task
from jetsweep.tasks.tagging import SYSTEMATIC, Tagging, signal_score
from jetsweep.training.checkpoint import LoadedModel
from jetsweep.training.evaluate import Batches, autocast
from jetsweep.training.inference import predict_batches
from jetsweep.training.memory import IN_EVALUATION
from jetsweep.training.world import World


def folder_of(split: str) -> str:
    """Folder of the splits that hold varied samples of a nominal one."""
    return "syst_val/" if split == "val" else "syst/"


def scheme_of(dataset: Dataset) -> Scheme:
    """The scheme that the dataset's manifest states, as `provenance.systematics`; without one that of ATLAS.

    Raises
    ------
    DataError
        If what stands there is no scheme.
    """
    stated = dataset.manifest.provenance.get("systematics")
    if stated is None:
        return ATLAS_TOP_TAGGING
    try:
        return TypeAdapter(Scheme).validate_python(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("provenance", "systematics", *first["loc"])))
        raise DataError(f"{dataset.path}: {where}: {first['msg']}; the manifest states no scheme") from error


def varied_splits(dataset: Dataset, scheme: Scheme, split: str = "test") -> dict[str, str]:
    """Splits of the scheme's varied samples that the dataset has for a nominal split, by sample."""
    names = [name for group in scheme.groups for name in group.samples]
    prefix = folder_of(split)
    return {name: f"{prefix}{name}" for name in names if f"{prefix}{name}" in dataset.splits}


def measure_systematics(
    loaded: LoadedModel,
    dataset: Dataset,
    scheme: Scheme,
    split: str = "test",
    *,
    device: torch.device | None = None,
    batch_size: int | None = None,
    replicas: int = 100,
    progress: Callable[[str], None] | None = None,
) -> Systematics:
    """Score every sample once and measure what the scheme asks for.

    Parameters
    ----------
    loaded : LoadedModel
        Of the task `tagging`.
    dataset : Dataset
        With the columns `jet_pt` and `event_number`, varied samples in splits ``syst/<name>`` (``syst_val/<name>`` for
        `val`), and event weights in
        the column `shower_weights` of the nominal split.
    scheme : Scheme
    split : str
        The nominal one.
    device : torch.device, optional
    batch_size : int, optional
    replicas : int
        Of the bootstrap.
    progress : callable, optional
        Called with the name of what is done next.

    Returns
    -------
    Systematics

    Raises
    ------
    JetsweepError
        If the model is no tagger.
    DataError
        If a column or sample is missing, or a sample is no variation of the nominal one.
    """
    task = build_task(loaded.spec.task, loaded.classes)
    if not isinstance(task, Tagging):
        raise JetsweepError(f"systematic uncertainties are those of taggers, found the task {task.config.name!r}")
    splits = {NOMINAL: split, **varied_splits(dataset, scheme, split)}
    samples = {}
    for name, of_sample in splits.items():
        if progress is not None:
            progress(f"split {of_sample}")
        samples[name] = _scored(loaded, task, dataset, of_sample, device, batch_size)
    if progress is not None:
        progress(f"{replicas} bootstrap replicas")
    try:
        return measure(scheme, samples, replicas)
    except JetsweepError:
        raise
    except ValueError as error:
        raise DataError(f"{dataset.path}: {error}; varied samples are splits {folder_of(split)}<sample>") from error


def _scored(
    loaded: LoadedModel,
    task: Tagging,
    dataset: Dataset,
    split: str,
    device: torch.device | None,
    batch_size: int | None,
) -> Sample:
    columns = [f"score_{task.classes[i]}" for i in (task.signal, task.background)]
    probability_J2 = np.full((dataset.num_rows(split), 2), np.nan)
    for rows, scores in predict_batches(loaded, dataset, split, device=device, batch_size=batch_size):
        probability_J2[rows] = np.column_stack([scores[name] for name in columns])
    return _sample(task, dataset, split, signal_score(probability_J2, 0, 1))


def _sample(task: Tagging, dataset: Dataset, split: str, score_J: np.ndarray) -> Sample:
    """Jets of the task's signal and background with their scores."""
    table = _columns(dataset, split)
    label = np.array([task.classes.index(name) if name in task.classes else -1 for name in dataset.classes])[
        _numbers(table["label"])
    ]
    sample = Sample(
        score_J,
        label == task.signal,
        table["jet_pt"].to_numpy().astype(np.float64),
        table["event_number"].to_numpy(),
        _event_weights(table),
        _weights(table, task),
    )
    return sample.take((label == task.signal) | (label == task.background))


def require_variations(task: Task, dataset: Dataset) -> None:
    """Refuse a dataset without varied jets of its validation split where a task asks for their uncertainty.

    Raises
    ------
    DataError
    """
    if not isinstance(task, Tagging) or not task.config.systematic_efficiencies:
        return
    scheme = scheme_of(dataset)
    if not varied_splits(dataset, scheme, "val") and not _has_weights(dataset, "val"):
        raise DataError(
            f"{dataset.path}: val/{SYSTEMATIC}{task.config.systematic_efficiencies[0]:g} needs varied samples of the "
            "split 'val', expected splits syst_val/<sample>, found none; the sources pythia and toy make them with "
            "variations: true"
        )


class SystematicsWhileTraining:
    """Total relative uncertainties of the rejection on a split, for tasks that ask for them; nothing for others.

    Parameters
    ----------
    task : Task
    dataset : Dataset
        See `measure_systematics`.
    loader_of : callable
        Makes the loader of a split on this rank.
    world : World
    """

    def __init__(self, task: Task, dataset: Dataset, loader_of: Callable[[str], Batches], world: World) -> None:
        self.task, self.dataset, self.loader_of, self.world = task, dataset, loader_of, world

    def __call__(
        self, model: nn.Module, arrays: Mapping[str, np.ndarray], precision: str, split: str
    ) -> dict[str, float]:
        """Score every varied sample of a split.

        Parameters
        ----------
        model : nn.Module
        arrays : mapping of str to ndarray
            Of the nominal jets, as `evaluate` gives them.
        precision : str
        split : str
            Nominal one.

        Returns
        -------
        dict of str to float
            ``<split>/systematic_uncertainty_at_<efficiency>``; NaN where no background jet passes.

        Raises
        ------
        DataError
            If a column or sample is missing, or a sample is no variation of the nominal one.
        """
        task, dataset = self.task, self.dataset
        if not isinstance(task, Tagging) or not task.config.systematic_efficiencies:
            return {}
        scheme = scheme_of(dataset)
        splits = varied_splits(dataset, scheme, split)
        if not splits and not _has_weights(dataset, split):
            return {}
        probability = {split: arrays["probability"]}
        probability |= {name: self._probability(task, model, precision, name) for name in splits.values()}
        samples = {
            name: _sample(task, dataset, place, signal_score(probability[place], task.signal, task.background))
            for name, place in {NOMINAL: split, **splits}.items()
        }
        found = {}
        for efficiency in task.config.systematic_efficiencies:
            try:
                measured = measure(replace(scheme, efficiency=efficiency), samples, replicas=0)
            except ValueError as error:
                raise DataError(f"{dataset.path}: {error}") from error
            found[f"{split}/{SYSTEMATIC}{efficiency:g}"] = float(measured.uncertainty["total"][0])
        return found

    @torch.no_grad()
    def _probability(self, task: Tagging, model: nn.Module, precision: str, split: str) -> np.ndarray:
        """Class probabilities of a split in order of rows, on every rank; of one class only it has no metrics."""
        was_training, world = model.training, self.world
        model.eval()
        rows, parts = [np.zeros(0, np.int64)], [np.zeros((0, len(task.classes)))]
        for batch in self.loader_of(split).batches(0):
            if len(batch) == 0:  # the tail of the split may not reach every rank
                continue
            try:
                with autocast(precision, world.device):
                    outputs = model(batch.to(world.device, non_blocking=True))
            except torch.OutOfMemoryError as error:
                error.add_note(IN_EVALUATION)
                raise
            rows.append(batch.rows.numpy())
            scores = task.predictions(outputs)
            parts.append(torch.stack([scores[f"score_{name}"] for name in task.classes], dim=1).cpu().numpy())
        model.train(was_training)
        order = np.argsort(world.gather(np.concatenate(rows)), kind="stable")
        gathered: np.ndarray = world.gather(np.concatenate(parts))[order]
        return gathered


def _has_weights(dataset: Dataset, split: str) -> bool:
    return "shower_weights" in dataset.to_arrow(split, 1).column_names


def _columns(dataset: Dataset, split: str) -> pa.Table:
    table = dataset.to_arrow(split)
    for name in ("jet_pt", "event_number", "label"):
        if name not in table.column_names:
            raise DataError(f"{dataset.path}: split {split!r}: systematic uncertainties need the column {name!r}")
    wanted = ("jet_pt", "event_number", "label", "shower_weights", "weight")
    return table.select([name for name in wanted if name in table.column_names])


def _numbers(label: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([chunk.indices.to_numpy() for chunk in label.chunks])


def _weights(table: pa.Table, task: Tagging) -> np.ndarray | None:
    if "weight" not in table.column_names or not task.config.use_weights:
        return None
    return np.asarray(table["weight"].to_numpy(), np.float64)


def _event_weights(table: pa.Table) -> np.ndarray | None:
    """Matrix (J, W) of the jets' event weights; None if there are none."""
    if "shower_weights" not in table.column_names or table["shower_weights"].null_count:
        return None
    column = table["shower_weights"].combine_chunks()
    column = column if isinstance(column, pa.Array) else column.chunk(0)
    matrix: np.ndarray = column.flatten().to_numpy().reshape(len(column), -1)
    return matrix
