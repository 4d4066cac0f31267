"""Training and test files of VAE-Jet (Cheng et al., arXiv:2007.01850): flat rows E1, px1, py1, pz1, E2, …"""

# Shapes: R jets of a slice, W numbers of a padded row.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._files import FileOptions, FileSource, Published, reading
from jetsweep.data.sources._jets import P4, Jets
from jetsweep.data.sources.cheng import event_jets, jets_of_lists
from jetsweep.errors import DataError

KEYS = ("table", "constituents", "jet1")
"""Where rows are; the last one that is there counts."""


class VaeJetOptions(FileOptions):
    """Options of the source `vae-jet`."""

    name: Literal["vae-jet"] = "vae-jet"
    background: str = Field("qcd", description="Class of jets without a label, or with the label 0.")
    signal: str = Field("signal", description="Class of jets with the label 1 (only the layout `jet1` has labels).")
    event_columns: Literal[4, 5] = Field(
        5, description="Numbers per constituent in event files (objs/jets/constituents); the fifth is left out."
    )

    @model_validator(mode="after")
    def _two_classes(self) -> VaeJetOptions:
        if self.background == self.signal:
            raise ValueError(f"background and signal must have different names, found {self.signal!r} twice")
        return self


@register_source
class VaeJetSource(FileSource):
    """Padded rows, rows of variable length, or the leading jets of event files; found by inspection."""

    config: VaeJetOptions
    options: ClassVar[type[SourceOptions]] = VaeJetOptions
    description = "Your own files in the layouts of VAE-Jet, arXiv:2007.01850 (its training file is not public)."
    plausible_pt = (50.0, 5000.0)

    def __init__(self, config: VaeJetOptions) -> None:
        super().__init__(config)
        self.classes = (config.background, config.signal)

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return P4

    def published(self) -> list[Published]:
        raise DataError("the files of VAE-Jet are not published: name yours, files: {train: [a.h5], test: [b.h5]}")

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "layouts of arXiv:2007.01850",
            "layouts": {item.path.name: self._layout(item.path) for item, _ in self.contents},
        }

    def count(self, path: Path) -> int:
        with _open(path) as file:
            return len(self._rows(file, path)[1])

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with _open(path) as file:
            where, data, labels = self._rows(file, path)
            width = 4 if data.ndim == 1 or where in KEYS else self.config.event_columns
            for start in range(0, rows, self.slice_rows):
                stop = min(start + self.slice_rows, rows)
                with reading(path, "HDF5"):
                    rows_R = list(data[start:stop] if where in KEYS else data[start:stop, 0])
                    label_R = None if labels is None else np.asarray(labels[start:stop]).reshape(-1)
                jets = jets_of_lists(rows_R, width, path, where)
                jets.values = {name: jets.values[name] for name in P4}
                if label_R is not None:
                    if not np.isin(label_R, (0, 1)).all():
                        raise DataError(f"{path}: labels holds {np.unique(label_R)[:5].tolist()}, expected 0 and 1")
                    jets.label[:] = label_R
                yield jets

    def _layout(self, path: Path) -> str:
        with _open(path) as file:
            return self._rows(file, path)[0]

    def _rows(self, file: Any, path: Path) -> tuple[str, Any, Any]:
        """Name and dataset of the rows, and their labels or None."""
        import h5py

        with reading(path, "HDF5"):
            present = [key for key in KEYS if key in file]
            if not present and "objs" in file:
                return "objs/jets/constituents", event_jets(file, path, "objs", 1)[0], None
            data = file[present[-1]] if present else None
        if not isinstance(data, h5py.Dataset):
            found = f"a group {present[-1]}" if present else f"{', '.join(sorted(file)) or 'nothing'}"
            raise DataError(
                f"{path}: expected rows E1, px1, py1, pz1, E2, … in a dataset table, constituents or jet1, or "
                f"objs/jets/constituents, found {found}"
            )
        is_padded = data.ndim == 2 and data.dtype.kind == "f" and data.shape[1] % 4 == 0
        of_lists = h5py.check_vlen_dtype(data.dtype)
        is_ragged = data.ndim == 1 and of_lists is not None and of_lists.kind == "f"
        if not (is_padded or is_ragged):
            raise DataError(
                f"{path}: {present[-1]} has the shape {data.shape} of {data.dtype}, expected (jets, 4 * constituents) "
                "floats, or one list of floats per jet"
            )
        labels = file.get("labels") if present[-1] == "jet1" else None
        if labels is not None and labels.size != len(data):
            raise DataError(f"{path}: there are {labels.size} labels for {len(data)} jets")
        return present[-1], data, labels


def _open(path: Path) -> Any:
    import h5py

    with reading(path, "HDF5"):
        return h5py.File(path, "r")
