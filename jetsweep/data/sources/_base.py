"""What a source of jets is: its options, its columns, and how it fills a dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa

from jetsweep.registry import Registry

if TYPE_CHECKING:
    from jetsweep.data.config import SourceOptions
    from jetsweep.data.sources._jets import Jets
    from jetsweep.data.writer import DatasetWriter

Progress = Callable[[int, int | None], None]
"""Called with (jets done so far, jets in all or None when that is not known)."""

UNITS = {
    "px": "GeV", "py": "GeV", "pz": "GeV", "energy": "GeV", "d0": "mm", "d0_err": "mm", "dz": "mm", "dz_err": "mm",
    "charge": "e", "jet_pt": "GeV", "jet_mass": "GeV", "jet_energy": "GeV", "jet_sdmass": "GeV", "jet_phi": "rad",
    "split12": "GeV", "split23": "GeV", "ecf1": "GeV", "ecf2": "GeV^2", "ecf3": "GeV^3", "qw": "GeV",
    "truth_px": "GeV", "truth_py": "GeV", "truth_pz": "GeV", "truth_energy": "GeV",
    "resonance_mass": "GeV", "mass_light": "GeV", "mass_difference": "GeV",
}  # fmt: skip
"""Units of the columns that have one."""

ARROW_TYPES = {
    "charge": pa.int8(),
    "pdg_id": pa.int32(),
    "origin": pa.int8(),
    "vertex": pa.int16(),
    "taste": pa.int8(),
    "event_number": pa.int64(),
}


class Source(ABC):
    """A public dataset or a generator.

    Parameters
    ----------
    config : SourceOptions
        Validated options, of the class that `options` names.
    """

    options: ClassVar[type[SourceOptions]]
    description: ClassVar[str]
    shuffle: ClassVar[bool] = True
    classes: tuple[str, ...]
    num_shower_weights: int = 0
    """Length of the column `shower_weights`; without it 0."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def constituent_columns(self) -> tuple[str, ...]:
        """Children of the constituents, px, py, pz, energy first; empty where rows have scalars only."""

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        """Jet scalars that are stored."""
        return ("jet_pt", "jet_eta", "jet_phi", "jet_mass")

    @property
    def total(self) -> int | None:
        """Number of jets that will be read or made, None when that is not known."""
        jets: int | None = self.config.jets
        return jets

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Generator and settings, or files with checksums; licence and conventions."""

    @abstractmethod
    def jets(self) -> Iterator[tuple[str, Jets]]:
        """Yield (split, jets) chunk by chunk, in an order that depends on the options alone."""

    def convert(self, writer: DatasetWriter, progress: Progress | None = None) -> None:
        """Fill `writer` with everything `jets` yields; jets that cannot be used are counted and left out."""
        done = 0
        for split, chunk in self.jets():
            clean = chunk.checked()
            for reason, count in clean.dropped.items():
                writer.drop(reason, count)
            if len(clean):
                writer.write(split, self.table(clean))
            done += len(clean) + sum(clean.dropped.values())
            if progress is not None:
                progress(done, self.total)

    def table(self, jets: Jets) -> pa.Table:
        """Arrow form of a chunk: `constituents`, scalars, `label`, `source_file`, `source_row`, `shower_weights`."""
        columns = {}
        if self.constituent_columns:
            children = [_array(jets.values[name], name) for name in self.constituent_columns]
            struct = pa.StructArray.from_arrays(children, names=list(self.constituent_columns))
            columns["constituents"] = pa.ListArray.from_arrays(pa.array(jets.offsets.astype(np.int32)), struct)
        columns |= {name: _array(jets.scalars[name], name) for name in self.scalar_columns}
        labels = pa.array(list(self.classes), pa.string())
        columns["label"] = pa.DictionaryArray.from_arrays(pa.array(jets.label.astype(np.int32)), labels)
        files = pa.array([jets.source_file], pa.string())
        columns["source_file"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(jets), np.int32)), files)
        columns["source_row"] = pa.array(jets.source_row.astype(np.int64))
        if self.num_shower_weights:
            columns["shower_weights"] = _shower_weights(jets, self.num_shower_weights)
        return pa.table(columns)


def _shower_weights(jets: Jets, count: int) -> pa.Array:
    """The scalars ``shower_<i>`` as one column; null where there are none."""
    if "shower_0" not in jets.scalars:
        return pa.nulls(len(jets), pa.list_(pa.float32(), count))
    flat = np.column_stack([jets.scalars[f"shower_{i}"] for i in range(count)]).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), count)


def _array(x: np.ndarray, name: str) -> pa.Array:
    if x.dtype == bool:
        return pa.array(x)
    return pa.array(np.asarray(x, dtype=ARROW_TYPES.get(name, pa.float32()).to_pandas_dtype()))


SOURCES: Registry[type[Source]] = Registry("source", "jetsweep.data.sources")
S = TypeVar("S", bound=type[Source])


def register_source(source: S) -> S:
    """Register a source under the default of its options' `name`."""
    SOURCES.add(source.options.model_fields["name"].default)(source)
    return source
