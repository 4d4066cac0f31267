"""ROOT files of any layout, read by a mapping (see `MappedOptions`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._mapping import MappedOptions, MappedSource
from jetsweep.data.sources._tables import RootTable, TableFile


class RootOptions(MappedOptions):
    """Options of the source `root`."""

    name: Literal["root"] = "root"
    tree: str | None = Field(None, description="Name of the tree, where a file holds several.")


@register_source
class RootSource(MappedSource):
    """One row of the file is one jet."""

    config: RootOptions
    options: ClassVar[type[SourceOptions]] = RootOptions
    description = "Your own ROOT files, a tree with a row for each jet; a mapping names the branches."
    suffixes = (".root",)

    def open(self, path: Path) -> TableFile:
        return RootTable(path, self.config.tree)
