"""Scalar columns of any rows of a split, stored or derived, under the names that people use."""

# Shapes: R rows, D columns.

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from jetsweep.data._shards import gather_scalar
from jetsweep.data.derived import DerivedColumns, derivable
from jetsweep.errors import DataError

if TYPE_CHECKING:
    from jetsweep.data.dataset import Dataset


def hint(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known, as the end of a sentence."""
    close = difflib.get_close_matches(name, [*known, *(x.removeprefix("jet_") for x in known)], n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def resolve(dataset: Dataset, names: Iterable[str], key: str) -> list[str]:
    """Scalar columns that are meant: `pt` is `jet_pt` where there is no other.

    Raises
    ------
    DataError
        If there is none, or one is meant twice; `key` says where the names come from.
    """
    resolved: list[str] = []
    can_derive = "constituents" in dataset.manifest.groups
    for name in names:
        stored = dataset.manifest.scalars
        found = next((x for x in (name, f"jet_{name}") if x in stored or (can_derive and derivable(x))), None)
        if found is None:
            raise DataError(
                f"{dataset.path}: {key}: expected scalars of the dataset, {', '.join(stored)}; found "
                f"{name!r}{hint(name, stored)}"
            )
        if found in resolved:
            raise DataError(f"{dataset.path}: {key}: expected each variable once, found {found} again")
        resolved.append(found)
    return resolved


class ScalarColumns:
    """Some scalar columns of a split.

    Parameters
    ----------
    dataset : Dataset
    split : str
    names : sequence of str
        Columns as `resolve` gives them; also ``"label"``.
    """

    def __init__(self, dataset: Dataset, split: str, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._reader = dataset.reader(split)
        self._stored = [name for name in self.names if name == "label" or name in dataset.manifest.scalars]
        derived = tuple(name for name in self.names if name not in self._stored)
        self._derived = DerivedColumns(dataset, split, derived) if derived else None

    def read(self, rows_R: np.ndarray) -> dict[str, np.ndarray]:
        """Columns by name at ascending rows, each of shape (R,)."""
        parts = self._reader.split_by_block(rows_R)
        found = {name: gather_scalar(parts, name) for name in self._stored}
        return found | (self._derived.read(rows_R) if self._derived is not None else {})

    def table(self, rows_R: np.ndarray) -> np.ndarray:
        """Columns side by side, shape (R, D), float64."""
        columns = self.read(rows_R)
        return np.column_stack([columns[name].astype(np.float64) for name in self.names])
