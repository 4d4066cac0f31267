"""From a source to a dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetsweep.data.config import SourceOptions
    from jetsweep.data.dataset import Dataset
    from jetsweep.data.sources._base import Progress


def make_dataset(source: SourceOptions, out: str | Path, progress: Progress | None = None) -> Dataset:
    """Generate, or read and convert, everything that `source` describes.

    The folder appears under its name only when it is complete; the same options always give the same bytes.

    Parameters
    ----------
    source : SourceOptions
        Options of one of the sources, e.g. ``ToyOptions(jets=600)``.
    out : str or Path
        Folder to make; it must not exist.
    progress : callable, optional
        Called with (jets done, jets in all or None).

    Raises
    ------
    DataError
        If a file is missing, damaged or not of the expected layout, or nothing can be written.
    """
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.sources._base import SOURCES, UNITS
    from jetsweep.data.writer import DatasetWriter

    maker = SOURCES.get(source.name)(source)
    writer = DatasetWriter(
        Path(out),
        source=source.name,
        options=source.model_dump(mode="json"),
        classes=maker.classes,
        groups={"constituents": {name: UNITS.get(name, "") for name in maker.constituent_columns}},
        scalars={name: UNITS.get(name, "") for name in maker.scalar_columns},
        provenance=maker.provenance(),
        seed=source.seed,
        shuffle=maker.shuffle,
    )
    with writer:
        maker.convert(writer, progress)
    return open_dataset(out)
