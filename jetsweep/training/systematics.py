"""A trained tagger on a dataset's nominal and varied splits: the samples that its systematic uncertainty needs."""

# Shapes: J jets of a split.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from pydantic import TypeAdapter, ValidationError

from jetsweep.data.dataset import Dataset
from jetsweep.errors import DataError, JetsweepError
from jetsweep.metrics._bootstrap import Sample
from jetsweep.metrics.systematics import ATLAS_TOP_TAGGING, NOMINAL, Scheme, Systematics, measure
from jetsweep.tasks._base import build_task
from jetsweep.tasks.tagging import Tagging, signal_score
from jetsweep.training.checkpoint import LoadedModel
from jetsweep.training.inference import predict_batches

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
    """Jets of the task's signal and background with their scores."""
    table = _columns(dataset, split)
    label = np.array([loaded.classes.index(name) if name in loaded.classes else -1 for name in dataset.classes])[
        _numbers(table["label"])
    ]
    columns = [f"score_{task.classes[i]}" for i in (task.signal, task.background)]
    probability_J2 = np.full((len(label), 2), np.nan)
    for rows, scores in predict_batches(loaded, dataset, split, device=device, batch_size=batch_size):
        probability_J2[rows] = np.column_stack([scores[name] for name in columns])
    sample = Sample(
        signal_score(probability_J2, 0, 1),
        label == task.signal,
        table["jet_pt"].to_numpy().astype(np.float64),
        table["event_number"].to_numpy(),
        _event_weights(table),
    )
    return sample.take((label == task.signal) | (label == task.background))


def _columns(dataset: Dataset, split: str) -> pa.Table:
    table = dataset.to_arrow(split)
    for name in ("jet_pt", "event_number", "label"):
        if name not in table.column_names:
            raise DataError(f"{dataset.path}: split {split!r}: systematic uncertainties need the column {name!r}")
    return table.select([n for n in ("jet_pt", "event_number", "label", "shower_weights") if n in table.column_names])


def _numbers(label: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([chunk.indices.to_numpy() for chunk in label.chunks])


def _event_weights(table: pa.Table) -> np.ndarray | None:
    """Matrix (J, W) of the jets' event weights; None if there are none."""
    if "shower_weights" not in table.column_names or table["shower_weights"].null_count:
        return None
    column = table["shower_weights"].combine_chunks()
    column = column if isinstance(column, pa.Array) else column.chunk(0)
    matrix: np.ndarray = column.flatten().to_numpy().reshape(len(column), -1)
    return matrix
