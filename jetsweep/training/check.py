"""What a dataset must have before any trial of an experiment starts."""

from __future__ import annotations

from jetsweep.data.dataset import Dataset
from jetsweep.errors import DataError
from jetsweep.tasks._base import build_task
from jetsweep.training.config import TrialSpec
from jetsweep.training.loaders import check_stream, dataset_of
from jetsweep.training.systematics import require_variations


def check_data(spec: TrialSpec, dataset: Dataset) -> None:
    """Refuse a dataset that no trial of this experiment could train on, before any starts.

    Raises
    ------
    DataError
        If a split is missing or empty, or lacks what the task needs; weights that the source demands are not
        used; or outliers are given that no stream reads.
    """
    task = build_task(spec.task, dataset.classes)
    if dataset.manifest.provenance.get("weights_required") and not getattr(spec.task, "use_weights", False):
        raise DataError(
            f"{dataset.path}: jets of {dataset.manifest.source} are trained with their weights only, expected "
            f"task.use_weights: true, found {getattr(spec.task, 'use_weights', 'a task without weights')}"
        )
    streams = [task.stream(name) for name in task.streams]
    if spec.data.outliers is not None and all(stream.dataset == "main" for stream in streams):
        raise DataError(f"data.outliers: task {spec.task.name!r} reads no outliers, expected none in the experiment")
    for name, stream in zip(task.streams, streams):
        check_stream(spec, name, stream, dataset_of(stream, dataset))
    wanted = {stream.split for stream in streams if stream.dataset == "main"} | {"val"}
    for split in sorted(wanted | ({"test"} & set(dataset.splits))):
        num_jets, counts = dataset.num_rows(split), dataset.class_counts(split)
        try:
            task.check_split(split, num_jets, counts)
        except DataError as error:
            raise DataError(f"{dataset.path}: {error}") from error
    require_variations(task, dataset)
