"""The whole export: graph, check on real jets, times, file and model card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from jetsweep.data.batch import Batch
from jetsweep.data.dataset import Dataset
from jetsweep.data.loader import Loader
from jetsweep.errors import DataError, JetsweepError
from jetsweep.export.check import Agreement, Session, Times, compare, time_both
from jetsweep.export.convert import require_packages, to_onnx
from jetsweep.export.graph import PaddedModel
from jetsweep.training.checkpoint import LoadedModel, write_file
from jetsweep.training.timing import SINGLE_JETS, TIMED_BATCH

TOLERANCE = 1e-4
"""Largest difference of a score: float32 rounding through logarithms of small pair masses stays below it."""


@dataclass(frozen=True)
class Exported:
    """What an export found out.

    Parameters
    ----------
    split : str
        Whose jets were compared.
    agreement : Agreement
    times : Times
    graph : PaddedModel
    size : int
        Bytes of the file.
    slots_are_free : bool
        Whether jets may be padded to any number of slots.
    """

    split: str
    agreement: Agreement
    times: Times
    graph: PaddedModel
    size: int
    slots_are_free: bool


def export_onnx(
    loaded: LoadedModel,
    dataset: Dataset,
    out: Path,
    *,
    split: str | None = None,
    num_jets: int = 2000,
    tolerance: float = TOLERANCE,
    about: dict[str, str] | None = None,
) -> Exported:
    """Write a trained model as ONNX, once its scores on real jets equal those of PyTorch.

    Inputs of the file: ``constituents`` (B, P, F) float32 with px, py, pz, energy in GeV first, and ``mask`` (B, P),
    True where a constituent is real, leading constituents first, at most `max_constituents` slots; and ``jet`` (B, S)
    where the model reads jet scalars: the stored axis, or high-level variables, which are computed beforehand. Output:
    ``scores`` (B, K).

    Parameters
    ----------
    loaded : LoadedModel
        On the CPU.
    dataset : Dataset
        Whose jets are compared.
    out : Path
        Ends in ``.onnx``; appears when all is well and not before.
    split : str, optional
        ``test`` where there is one, else ``val``.
    num_jets : int
        Jets to compare, at most.
    tolerance : float
        Largest difference of a score.
    about : dict, optional
        Further entries of the file's metadata.

    Returns
    -------
    Exported

    Raises
    ------
    JetsweepError
        If a package is missing, the architecture cannot be expressed, or the scores differ.
    """
    require_packages()
    if out.suffix != ".onnx":
        raise JetsweepError(f"{out}: expected a name that ends in .onnx, found {out.suffix or 'no suffix'!r}")
    graph = PaddedModel(loaded)
    split = split or ("test" if "test" in dataset.splits and dataset.num_rows("test") else "val")
    total = min(num_jets, dataset.num_rows(split))
    if total < 2:
        raise DataError(f"{dataset.path}: split {split!r}: expected at least two jets to compare, found {total}")
    batch_size = min(total, TIMED_BATCH, loaded.spec.training.eval_batch_size)  # what fits the memory
    large = _first(loaded, dataset, split, batch_size)
    facts = {"model": loaded.spec.model.name, "dataset_digest": dataset.digest, **(about or {})}
    example = graph.inputs_of(_first(loaded, dataset, split, 2))
    content, slots_are_free = to_onnx(graph, example, facts)
    session = Session(content)
    agreement = compare(graph, session, _inputs(graph, loaded, dataset, split, total, batch_size), tolerance)
    singles = [_row(graph.inputs_of(large), i) for i in range(min(SINGLE_JETS, len(large)))]
    times = time_both(graph, session, graph.inputs_of(large), singles)
    write_file(out, content)
    return Exported(split, agreement, times, graph, len(content), slots_are_free)


def _inputs(
    graph: PaddedModel, loaded: LoadedModel, dataset: Dataset, split: str, total: int, batch_size: int
) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of the first `total` jets, batch by batch."""
    left = total
    with closing(_loader(loaded, dataset, split, batch_size).batches(0)) as batches:  # type: ignore[type-var]
        for batch in batches:
            yield tuple(x[:left] for x in graph.inputs_of(batch))
            left -= len(batch)
            if left <= 0:
                return


def _row(inputs: tuple[Tensor, ...], i: int) -> tuple[Tensor, ...]:
    return tuple(x[i : i + 1] for x in inputs)


def _first(loaded: LoadedModel, dataset: Dataset, split: str, num: int) -> Batch:
    with closing(_loader(loaded, dataset, split, num).batches(0)) as batches:  # type: ignore[type-var]
        return next(batches)


def _loader(loaded: LoadedModel, dataset: Dataset, split: str, batch_size: int) -> Loader:
    preprocessing = loaded.model.preprocessing
    return dataset.loader(
        split,
        batch_size,
        constituents=preprocessing.constituent_columns,
        scalars=preprocessing.scalar_columns,
        max_constituents=loaded.spec.data.max_constituents,
    )
