"""HDF5 files of any layout, read by a mapping (see `MappedOptions`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._mapping import MappedOptions, MappedSource
from jetsweep.data.sources._tables import HDF5Table, TableFile


class HDF5Options(MappedOptions):
    """Options of the source `hdf5`."""

    name: Literal["hdf5"] = "hdf5"


@register_source
class HDF5Source(MappedSource):
    """One row of the file is one jet."""

    options: ClassVar[type[SourceOptions]] = HDF5Options
    description = "Your own HDF5 files, padded arrays or compounds; a mapping names the columns."
    suffixes = (".h5", ".hdf5", ".hdf")

    def open(self, path: Path) -> TableFile:
        return HDF5Table(path)
