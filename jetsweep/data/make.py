"""From a source to a dataset folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.data.sources._base import SOURCES, UNITS, Progress
from jetsweep.errors import DataError

if TYPE_CHECKING:
    from jetsweep.data.config import SourceOptions
    from jetsweep.data.dataset import Dataset
    from jetsweep.data.sources._jets import Jets


def make_dataset(
    source: SourceOptions | Mapping[str, Any] | str,
    out: str | Path,
    progress: Progress | None = None,
    *,
    stored: Callable[[int], Iterator[Jets]] | None = None,
    **options: Any,
) -> Dataset:
    """Generate, or read and convert, everything that `source` describes.

    The folder appears under its name only when it is complete; the same options always give the same bytes.

    Parameters
    ----------
    source : SourceOptions, mapping or str
        Options of one of the sources, e.g. ``ToyOptions(jets=600)``, ``{"name": "toy", "jets": 600}``, or its name.
    out : str or Path
        Folder to make; it must not exist.
    progress : callable, optional
        Called with (jets done, jets in all or None).
    stored : callable, optional
        `FileSource.stored`: slices of files that were read before.
    **options
        Options of a source that is given by name.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If an option is wrong, a file is missing, damaged or not of the expected layout, or nothing can be written.
    """
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.sources._files import FileSource
    from jetsweep.data.writer import DatasetWriter

    config = source_options(source, options)
    maker = SOURCES.get(config.name)(config)
    if stored is not None:
        assert isinstance(maker, FileSource), "only files can have been read before"
        maker.stored = stored
    columns = maker.constituent_columns
    writer = DatasetWriter(
        Path(out),
        source=config.name,
        options=config.model_dump(mode="json"),
        classes=maker.classes,
        groups={"constituents": {name: UNITS.get(name, "") for name in columns}} if columns else {},
        scalars={name: UNITS.get(name, "") for name in maker.scalar_columns},
        provenance=maker.provenance(),
        seed=config.seed,
        shuffle=maker.shuffle,
    )
    with writer:
        maker.convert(writer, progress)
    return open_dataset(out)


def source_options(source: SourceOptions | Mapping[str, Any] | str, options: Mapping[str, Any]) -> SourceOptions:
    """Validated options of a source given in any form.

    Raises
    ------
    DataError
        Naming the first option that is wrong.
    """
    from pydantic import ValidationError

    from jetsweep.data.config import SourceOptions

    if isinstance(source, SourceOptions):
        if options:
            raise DataError(f"options {', '.join(options)} were given twice: the source has its options already")
        return source
    values = {**({"name": source} if isinstance(source, str) else source), **options}
    if not isinstance(values.get("name"), str):
        raise DataError(f"a source needs a name, one of {', '.join(SOURCES.names())}")
    kind = SOURCES.get(values["name"]).options
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        there = f"; options of {values['name']} are {', '.join(kind.model_fields)}" if "extra" in first["type"] else ""
        raise DataError(f"source {values['name']}{': ' + where if where else ''}: {message}{there}") from error
