"""Parquet files of any layout, read by a mapping (see `MappedOptions`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._mapping import MappedOptions, MappedSource
from jetsweep.data.sources._tables import ParquetTable, TableFile


class ParquetOptions(MappedOptions):
    """Options of the source `parquet`."""

    name: Literal["parquet"] = "parquet"


@register_source
class ParquetSource(MappedSource):
    """One row of the file is one jet."""

    options: ClassVar[type[SourceOptions]] = ParquetOptions
    description = "Your own Parquet files, lists of numbers or of structs; a mapping names the columns."
    suffixes = (".parquet", ".pq")

    def open(self, path: Path) -> TableFile:
        return ParquetTable(path)
