"""What the sources of users' own files share: where the files are, which jets are taken, which class each has."""

# Shapes: R jets of a slice.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from jetsweep.data.sources._files import FileOptions, FileSource, Input, Published
from jetsweep.data.sources._jets import SPLITS, Jets
from jetsweep.data.sources._labels import LabelMapping, check_expression, class_indices
from jetsweep.errors import DataError


class OwnFileOptions(FileOptions):
    """Options of the sources that read users' own files."""

    path: str | None = Field(None, description="One file, or a folder whose files are read; divided by `split`.")
    split: dict[str, float] = Field(
        SPLITS, description="Shares of the splits when `path` is given; a hash of the file and of row or event decides."
    )
    label: LabelMapping = Field(description="Where a jet's class is found.")
    select: str | None = Field(None, description="Only jets for which it is true, e.g. 'jet_pt > 500'; momenta in GeV.")

    @model_validator(mode="after")
    def _readable(self) -> OwnFileOptions:
        if self.path is None and self.files is None:
            raise ValueError("give `path` or `files`")
        if not self.split or min(self.split.values()) <= 0 or abs(sum(self.split.values()) - 1) > 1e-6:
            raise ValueError(f"split: expected positive shares that add up to 1, found {self.split}")
        if self.select is not None:
            check_expression(self.select)
        return self


class OwnFileSource(FileSource):
    """Reads files under any name; subclasses know one layout."""

    config: OwnFileOptions
    suffixes: ClassVar[tuple[str, ...]]

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """As the label mapping names them."""
        return self.config.label.names

    @property
    def shares(self) -> Mapping[str, float]:
        return self.config.split

    def published(self) -> list[Published]:
        return []

    def inputs(self) -> list[Input]:
        if self.config.path is None:
            return super().inputs()
        path = Path(self.config.path)
        if path.is_file():
            return [Input(path, "")]
        found = sorted(x for x in path.rglob("*") if x.name.endswith(self.suffixes) and x.is_file())
        if not found:
            here = "holds no file" if path.is_dir() else "no such file or folder with files"
            raise DataError(f"{path}: {here} that ends in {' or '.join(self.suffixes)}")
        return [Input(x, "") for x in found]

    def chosen(self, jets: Jets, value: Callable[[str], np.ndarray], path: Path) -> Jets:
        """Jets that are selected and have a class; the others are counted.

        Parameters
        ----------
        jets : Jets
        value : callable
            Gives the values of a column or an expression, shape (R,).
        path : Path
            Their file.
        """
        selected = np.ones(len(jets), bool)
        if self.config.select is not None:
            selected = value(self.config.select).astype(bool)
        jets.label = class_indices(self.config.label, value, len(jets), selected, path)
        kept = selected & (jets.label >= 0)
        counts = {"not_selected": int((~selected).sum()), "no_class": int((selected & ~kept).sum())}
        return replace(jets.take_jets(kept), dropped={reason: n for reason, n in counts.items() if n})
