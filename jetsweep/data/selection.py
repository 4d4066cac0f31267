"""Which jets of a split are read: those of some classes, and a few of others mixed in."""

# Shapes: C classes, R rows.

from __future__ import annotations

import difflib
import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetsweep.data.derived import is_writable, save_atomically
from jetsweep.errors import DataError

if TYPE_CHECKING:
    from jetsweep.data._shards import Block
    from jetsweep.data.dataset import Dataset

STREAMS = "streams.json"
"""In a trial's folder, what jets its streams have; only with several streams or a selection of classes."""


@dataclass(frozen=True)
class Selection:
    """Jets by class.

    Parameters
    ----------
    classes : tuple of str
        All jets of these classes are read.
    contamination : tuple of (str, float)
        Further classes and their S/B: of each the first ``share * (number of jets of `classes`)`` jets are read.

    Raises
    ------
    DataError
        If no class is named, one is named twice, or a share is negative or not finite.
    """

    classes: tuple[str, ...]
    contamination: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        names = [*self.classes, *(name for name, _ in self.contamination)]
        if not self.classes:
            raise DataError("a selection of jets names no class, expected at least one")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"a selection of jets names {twice[0]!r} twice, expected each class once")
        for name, share in self.contamination:
            if not (math.isfinite(share) and share >= 0):
                raise DataError(f"contamination by {name!r}: expected S/B of 0 and above, found {share}")

    def __str__(self) -> str:
        shares = [f"{name} at S/B {share:g}" for name, share in self.contamination]
        return ", ".join([*self.classes, *shares])

    def check_classes(self, dataset: Dataset) -> None:
        """Refuse classes that the dataset does not have.

        Raises
        ------
        DataError
            Naming those that it has.
        """
        for name in (*self.classes, *(name for name, _ in self.contamination)):
            if name not in dataset.classes:
                close = difflib.get_close_matches(name, dataset.classes, n=1)
                hint = f", did you mean {close[0]!r}?" if close else ""
                known = ", ".join(dataset.classes) or "none"
                raise DataError(f"{dataset.path}: expected classes out of {known}; found {name!r}{hint}")


class SelectedRows:
    """The rows that a `Selection` takes of the leading ones of a split.

    A class is taken from the first row up to one that its share decides, so membership of a row is a comparison.

    Parameters
    ----------
    dataset : Dataset
    selection : Selection
    split : str
    num_leading : int
        Leading rows of the split that are looked at.

    Attributes
    ----------
    ends : array, shape (C,), int64
        Rows of a class are taken below this one: 0 for none, `num_leading` for all.
    counts : array, shape (blocks,), int64
        Rows taken of each record batch that has leading rows.

    Raises
    ------
    DataError
        If a class does not exist, the split has no jets of `classes`, or too few of those mixed in.
    """

    def __init__(self, dataset: Dataset, selection: Selection, split: str, num_leading: int) -> None:
        selection.check_classes(dataset)
        self.selection, self._num_leading = selection, num_leading
        self._reader = dataset.reader(split)
        last = int(np.searchsorted(self._reader.starts, num_leading))
        counts_bC = _class_counts(dataset, split)[:last].copy()
        if self._reader.starts[last] > num_leading:
            counts_bC[-1] = np.bincount(self._labels(last - 1), minlength=len(dataset.classes))
        chosen = [dataset.classes.index(name) for name in selection.classes]
        taken_bC = np.zeros_like(counts_bC)
        taken_bC[:, chosen] = counts_bC[:, chosen]
        self.ends = np.zeros(len(dataset.classes), np.int64)
        self.ends[chosen] = num_leading
        background = int(taken_bC.sum())
        where = f"{dataset.path}: the split {split!r}" + (
            f" (its leading {num_leading:,} jets)" if num_leading < dataset.num_rows(split) else ""
        )
        if not background:
            raise DataError(f"{where} has no jets of {', '.join(selection.classes)}, expected at least one")
        for name, share in selection.contamination:
            wanted, label = round(share * background), dataset.classes.index(name)
            there = int(counts_bC[:, label].sum())
            if wanted > there:
                raise DataError(
                    f"{where} has {there:,} jets of {name}, expected {wanted:,} for S/B {share:g} with "
                    f"{background:,} of {', '.join(selection.classes)}"
                )
            before_b = np.cumsum(counts_bC[:, label]) - counts_bC[:, label]
            taken_bC[:, label] = np.clip(wanted - before_b, 0, counts_bC[:, label])
            self.ends[label] = self._end(label, counts_bC[:, label], wanted)
        self.counts = taken_bC.sum(axis=1)
        self.by_class = dict(zip(dataset.classes, map(int, taken_bC.sum(axis=0))))

    @property
    def num_rows(self) -> int:
        """Number of rows taken."""
        return int(self.counts.sum())

    def mask(self, rows_R: np.ndarray, label_R: np.ndarray) -> np.ndarray:
        """Whether rows of these classes are taken, shape (R,), bool."""
        found: np.ndarray = rows_R < self.ends[label_R]
        return found

    def of_block(self, block: int) -> np.ndarray:
        """Ascending rows taken of a record batch."""
        label_R = self._labels(block)
        rows_R = self._reader.starts[block] + np.arange(len(label_R))
        taken: np.ndarray = rows_R[self.mask(rows_R, label_R)]
        return taken

    def _labels(self, block: int) -> np.ndarray:
        used = self._num_leading - int(self._reader.starts[block])
        return _label(self._reader.blocks[block])[:used]

    def _end(self, label: int, counts_b: np.ndarray, wanted: int) -> int:
        """Row behind the `wanted`-th of a class."""
        if not wanted:
            return 0
        total_b = np.cumsum(counts_b)
        block = int(np.searchsorted(total_b, wanted))
        inside = np.flatnonzero(self._labels(block) == label)[wanted - int(total_b[block] - counts_b[block]) - 1]
        return int(self._reader.starts[block] + inside) + 1


def _label(block: Block) -> np.ndarray:
    return block.scalar("label").astype(np.int64, copy=False)


def _class_counts(dataset: Dataset, split: str) -> np.ndarray:
    """Jets of each class in each record batch, (blocks, C): one pass over the labels, kept beside the shards."""
    digest = hashlib.sha256(json.dumps([1, dataset.digest, split]).encode()).hexdigest()
    path = dataset.local_folder / "derived" / "classes" / f"{digest[:16]}.npy"
    if path.exists():
        kept: np.ndarray = np.load(path, allow_pickle=False)
        return kept
    blocks = dataset.reader(split).blocks
    counts_bC = np.array([np.bincount(_label(block), minlength=len(dataset.classes)) for block in blocks], np.int64)
    if is_writable(path.parent):
        save_atomically(path, lambda file: np.save(file, counts_bC, allow_pickle=False))
    return counts_bC
