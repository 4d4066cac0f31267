"""ROOT trees with an entry for each event: its jets become rows, and an event's jets stay in one split."""

# Shapes: E events of a slice, R their jets.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jetsweep.data.sources._expressions import ColumnExpression
from jetsweep.data.sources._jets import Jets
from jetsweep.data.sources._own_files import OwnFileSource
from jetsweep.data.sources._tables import Lists, RootTable
from jetsweep.errors import DataError

OWN_NAMES = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "num_constituents")
"""What expressions may use beside the fields of the jets: as they are stored in the dataset, momenta in GeV."""
Branches = Mapping[str, Any]
"""Awkward arrays of a slice of events by our names; those of jets begin with ``jet.``."""


class EventTreeSource(OwnFileSource):
    """One row per jet; `source_row` counts the file's jets in the order of events."""

    tree: ClassVar[str]
    suffixes = (".root",)
    slice_rows = 500

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, "event_number")

    @property
    def fields(self) -> list[str]:
        """Fields of the jets that label and selection ask for."""
        label = self.config.label
        texts = (self.config.select, label.column, *(label.columns or {}).values())
        names = [name for text in texts if text is not None for name in ColumnExpression(text).names]
        return [name for name in dict.fromkeys(names) if name not in OWN_NAMES]

    @abstractmethod
    def branches(self, table: RootTable) -> dict[str, str]:
        """Branches to read by our names: ``jet.pt`` and those of `fields` among them; all are there."""

    @abstractmethod
    def jets_of(self, arrays: Branches, path: Path) -> Jets:
        """All jets of a slice of events, with their scalars; `check_unit` sees them before any cut."""

    def count(self, path: Path) -> int:
        with RootTable(path, self.tree) as table:
            branch = self.branches(table)["jet.pt"]
            number, step = 0, 100_000
            for start in range(0, table.num_rows, step):
                arrays = table.awkward([branch], start, min(start + step, table.num_rows))
                number += len(lists(arrays, branch, path).values)
            return number

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with RootTable(path, self.tree) as table:
            branches = self.branches(table)
            for start in range(0, table.num_rows, self.slice_rows):
                if rows == 0:
                    return
                read = table.awkward(list(branches.values()), start, min(start + self.slice_rows, table.num_rows))
                arrays = {name: read[branch] for name, branch in branches.items()}
                jets = self.jets_of(arrays, path)
                if len(jets) > rows:
                    jets = jets.take_jets(np.arange(len(jets)) < rows)
                rows -= len(jets)
                yield self._labelled(jets, arrays, path)

    def _labelled(self, jets: Jets, arrays: Branches, path: Path) -> Jets:
        stored = {**jets.scalars, "num_constituents": np.diff(jets.offsets)}

        def lookup(name: str) -> np.ndarray:
            return stored[name] if name in stored else lists(arrays, f"jet.{name}", path).values[: len(jets)]

        def value(text: str) -> np.ndarray:
            return np.broadcast_to(ColumnExpression(text)(lookup), len(jets))

        return self.chosen(jets, value, path)


def lists(arrays: Branches, name: str, path: Path) -> Lists:
    """A branch that holds a list of numbers for every event."""
    import awkward as ak

    array = arrays[name]
    if ak.fields(array) or array.ndim != 2:
        raise DataError(f"{path}: {name} holds {ak.type(array)}, expected a list of numbers for every event")
    return Lists(np.asarray(ak.to_numpy(ak.flatten(array))), offsets_of(ak.num(array)))


def offsets_of(lengths: Any) -> np.ndarray:
    """Offsets of lists with these lengths."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths), dtype=np.int64)])
