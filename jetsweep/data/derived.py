"""What is computed from the constituents: scalar columns, kept beside the shards, and groups, made batch by batch."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from jetsweep.errors import DataError
from jetsweep.physics.high_level import HIGH_LEVEL_NAMES, high_level_variables
from jetsweep.physics.lund import LUND_NODE_COLUMNS, UNCUT, LundCuts, lund_nodes

if TYPE_CHECKING:
    from jetsweep.data.dataset import Dataset


def derivable(name: str) -> bool:
    """Whether a scalar can be computed from the constituents."""
    return name in HIGH_LEVEL_NAMES


@dataclass(frozen=True)
class DerivedGroup:
    """A ragged group made from the leading constituents of each jet.

    Parameters
    ----------
    columns : tuple of str
    make : callable
        Takes four-vectors (N, 4) in GeV and offsets (B + 1,), gives values (M, F), float32, and offsets (B + 1,).
    """

    columns: tuple[str, ...]
    make: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def lund_group_name(cuts: LundCuts = UNCUT) -> str:
    """Name of the derived group of declusterings: ``lund``, or with the cuts in it."""
    return "lund" if cuts == UNCUT else f"lund kt>={cuts.min_kt!r} delta>={cuts.min_delta!r}"


def derived_group(name: str) -> DerivedGroup | None:
    """What a loader can give under this name although no shard holds it: declusterings (`lund_group_name`)."""
    found = re.fullmatch(r"lund(?: kt>=(\S+) delta>=(\S+))?", name)
    if found is None:
        return None
    cuts = UNCUT if found[1] is None else LundCuts(float(found[1]), float(found[2]))
    return DerivedGroup(LUND_NODE_COLUMNS, partial(lund_nodes, cuts=cuts))


class DerivedColumns:
    """High-level variables of a split by row, computed where the cache lacks a shard.

    The cache ``derived/high_level/<first 16 digits of the shard's sha256>.npy`` is written under a temporary name and
    renamed: two processes that compute the same shard both end with the same complete file. Where the folder
    cannot be written the values stay in memory.

    Parameters
    ----------
    dataset : Dataset
    split : str
    names : tuple of str
        Out of `HIGH_LEVEL_NAMES`.
    """

    def __init__(self, dataset: Dataset, split: str, names: tuple[str, ...]) -> None:
        self._dataset, self._split, self.names = dataset, split, names
        parts, first = [], 0
        for shard in dataset.manifest.splits[split]:
            parts.append(self._shard(shard.sha256, first, first + shard.rows))
            first += shard.rows
        self._parts = parts
        self._starts = np.cumsum([0] + [len(part) for part in parts])
        self._columns = [HIGH_LEVEL_NAMES.index(name) for name in names]

    def _shard(self, sha256: str, low: int, high: int) -> np.ndarray:
        path = self._dataset.local_folder / "derived" / "high_level" / f"{sha256[:16]}.npy"
        if path.exists():
            stored: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
            return stored
        values = self._compute(low, high)
        if is_writable(path.parent):
            save_atomically(path, lambda file: np.save(file, values, allow_pickle=False))
        return values

    def _compute(self, low: int, high: int) -> np.ndarray:
        from jetsweep.data._shards import gather_ragged

        reader = self._dataset.reader(self._split)
        parts = []
        for start in range(low, high, 4096):
            rows = np.arange(start, min(start + 4096, high))
            p4 = gather_ragged(reader.split_by_block(rows), "constituents", ("px", "py", "pz", "energy"), None)
            parts.append(high_level_variables(*p4))
        return np.concatenate(parts) if parts else np.zeros((0, len(HIGH_LEVEL_NAMES)), np.float32)

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns by name at ascending `rows`, each of shape (B,), float32."""
        edges = np.searchsorted(rows, self._starts)
        values = [
            np.asarray(part[rows[a:b] - start])
            for part, start, a, b in zip(self._parts, self._starts, edges, edges[1:])
        ]
        table = np.concatenate(values) if values else np.zeros((0, len(HIGH_LEVEL_NAMES)), np.float32)
        return {name: np.ascontiguousarray(table[:, i]) for name, i in zip(self.names, self._columns)}


def is_writable(folder: Path) -> bool:
    """Whether files can be put into a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def save_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a file that appears under its name only when it is complete.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise DataError(f"{path}: derived columns cannot be written: {error.strerror}") from error
