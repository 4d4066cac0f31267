"""Several trained runs as one model: the mean, median or spread of what they say about the same jets."""

# Shapes: B jets of a batch.

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from jetsweep.data.dataset import Dataset
from jetsweep.errors import DataError, JetsweepError
from jetsweep.tasks._base import Task, build_task
from jetsweep.training.checkpoint import LoadedModel
from jetsweep.training.inference import evaluate_model, predict_batches


def check_members(members: Mapping[str, LoadedModel], how: str) -> Task:
    """Refuse models that cannot be combined.

    Parameters
    ----------
    members : mapping of str to LoadedModel
        By the name to call them by. The first one's task says what is measured and of which scores.
    how : str
        How to combine, out of `Task.combinations`.

    Returns
    -------
    Task
        The first one's.

    Raises
    ------
    JetsweepError
        If there are fewer than two, the task does not know `how`, or another model has other classes or another task,
        or lacks a score.
    """
    (first, leader), *others = members.items()
    if not others:
        raise JetsweepError(f"--ensemble: expected several models, found {first} alone")
    task = build_task(leader.spec.task, leader.classes)
    if how not in task.combinations:
        known = ", ".join(task.combinations) or "none"
        raise JetsweepError(f"--ensemble: expected one of {known} for the task {leader.spec.task.name}, found {how!r}")
    for name, member in others:
        wanted, found = leader.spec.task.name, member.spec.task.name
        if found != wanted:
            raise JetsweepError(f"{name}: expected a model of the task {wanted} as {first} is, found {found}")
        if member.classes != leader.classes:
            raise JetsweepError(
                f"{name}: expected the classes {list(leader.classes)} of {first}, found {list(member.classes)}"
            )
        lacking = set(_scores(leader)) - set(_scores(member))
        if lacking:
            raise JetsweepError(
                f"{name}: expected the scores of {first}, found none of {', '.join(sorted(lacking))}; "
                "it was trained with other task.scores"
            )
    return task


def require_one_dataset(members: Mapping[str, LoadedModel]) -> None:
    """Refuse models of several datasets where nobody says which jets to take: one may have learned another's test jets.

    Raises
    ------
    JetsweepError
    """
    (first, leader), *others = members.items()
    for name, member in others:
        ours, theirs = leader.spec.data, member.spec.data
        if (ours.source, ours.path) != (theirs.source, theirs.path):
            raise JetsweepError(f"{name}: trained on another dataset than {first}; name the jets to evaluate by --data")


def _scores(loaded: LoadedModel) -> tuple[str, ...]:
    return build_task(loaded.spec.task, loaded.classes).prediction_names(loaded.spec.model.binary_output)


def evaluate_ensemble(
    members: Mapping[str, LoadedModel],
    dataset: Dataset,
    how: str,
    split: str = "test",
    *,
    device: torch.device | None = None,
    batch_size: int | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray], Task]:
    """Metrics of the combined prediction of several models, by the evaluator that measures each of them.

    Parameters
    ----------
    members : mapping of str to LoadedModel
        See `check_members`.
    dataset : Dataset
    how : str
    split : str
    device : torch.device, optional
    batch_size : int, optional
        By default each one's own.

    Returns
    -------
    metrics, arrays, task
        As of `jetsweep.training.inference.evaluate_model`, but that `Task.combine` may know fewer metrics.

    Raises
    ------
    JetsweepError
        If the models cannot be combined, do not suit the dataset, or one's scores are not finite.
    """
    task = check_members(members, how)
    found = []
    for name, loaded in members.items():
        _, arrays, _ = evaluate_model(loaded, dataset, split, device=device, batch_size=batch_size)
        bad = sum(int((~np.isfinite(array)).sum()) for array in arrays.values())
        if bad:
            raise DataError(f"{name}: {bad} predictions on split {split!r} are not finite numbers")
        found.append(arrays)
    metrics, combined = task.combine(found, how)
    return {f"{split}/{name}": value for name, value in metrics.items()}, combined, task


def ensemble_batches(
    members: Mapping[str, LoadedModel],
    dataset: Dataset,
    how: str,
    split: str,
    *,
    device: torch.device | None = None,
    batch_size: int | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Combined predictions of a split, as `jetsweep.training.inference.predict_batches` yields those of one model.

    Parameters
    ----------
    members : mapping of str to LoadedModel
    dataset : Dataset
    how : str
    split : str
    device : torch.device, optional
    batch_size : int, optional
        By default the smallest of their own.

    Yields
    ------
    rows : ndarray, shape (B,), int64
    columns : dict of ndarray, each of shape (B,)

    Raises
    ------
    JetsweepError
        If the models cannot be combined, or do not suit the dataset.
    """
    task = check_members(members, how)
    size = batch_size or min(loaded.spec.training.eval_batch_size for loaded in members.values())
    batches = [predict_batches(x, dataset, split, device=device, batch_size=size) for x in members.values()]
    for parts in zip(*batches, strict=True):
        yield parts[0][0], task.combine_predictions([columns for _, columns in parts], how)
