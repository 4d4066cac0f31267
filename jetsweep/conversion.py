"""Large conversions as Ray Data jobs: files are read on all cores of a cluster, the dataset is written by one process.

The dataset is the same, byte for byte, as without a cluster: workers leave the slices of each file beside it, and the
writer takes them in the order in which it would have read them.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.data.make import make_dataset
from jetsweep.data.mirror import require_local
from jetsweep.data.sources._base import SOURCES, Progress
from jetsweep.data.sources._files import FileSource, Input
from jetsweep.data.sources._parts import read_part, write_part
from jetsweep.errors import DataError, JetsweepError

if TYPE_CHECKING:
    from jetsweep.data.config import SourceOptions
    from jetsweep.data.dataset import Dataset

PLAN = "plan.json"


def convert_on_cluster(
    config: SourceOptions, out: Path, progress: Callable[[str], AbstractContextManager[Progress]]
) -> Dataset:
    """Convert the files of a source, read by a Ray Data job; see `search.cluster.connected` for which cluster.

    An interrupted conversion keeps the files that were read in ``.<name>-parts`` beside `out`, and the next one of the
    same files with the same options goes on from there. All of `out`'s size is needed there once more.

    Parameters
    ----------
    config : SourceOptions
        Of a source that reads files, which every node must find under the same path.
    out : Path
        Folder to make, on a disk that all nodes share; it must not exist.
    progress : callable
        Gives, for a title, the context that shows how many jets were done.

    Raises
    ------
    DataError
        As `make_dataset`, or if the source reads no files.
    ResourceError
        If the cluster cannot be reached or started.
    """
    maker = SOURCES.get(config.name)(config)
    if not isinstance(maker, FileSource):
        raise DataError(f"source {config.name}: a cluster can only read files, and this source makes its jets")
    if out.exists():
        raise DataError(f"{out}: expected a folder to make, found one that exists; remove it or choose another")
    require_local(out, "dataset")
    parts = out.absolute().parent / f".{out.name}-parts"
    _prepare(parts, maker)
    with progress(f"Reading {len(maker.planned)} files") as show:
        _read(parts, maker, show)
    with progress(f"Making {out.name}") as show:
        made = make_dataset(config, out, show, stored=lambda place: read_part(parts / _name(place)))
    shutil.rmtree(parts)
    return made


def _name(place: int) -> str:
    return f"{place:06d}"


def _prepare(parts: Path, maker: FileSource) -> None:
    """Make the folder of parts, or keep those that an interrupted conversion of the same files has left."""
    files = [[str(item.path.absolute()), item.split, rows] for item, rows in maker.planned]
    stats = [item.path.stat() for item, _ in maker.planned]
    plan = {
        "options": maker.config.model_dump(mode="json"),
        "files": files,
        "states": [[stat.st_size, stat.st_mtime_ns] for stat in stats],
    }
    try:
        found = json.loads((parts / PLAN).read_text())
    except (OSError, ValueError):
        found = None
    try:
        if found != plan:
            shutil.rmtree(parts, ignore_errors=True)
            parts.mkdir(parents=True)
            (parts / PLAN).write_text(json.dumps(plan))
        for unfinished in parts.glob(".*"):
            shutil.rmtree(unfinished)
    except OSError as error:
        raise DataError(f"{parts}: cannot be written: {error.strerror}") from error


def _read(parts: Path, maker: FileSource, progress: Progress) -> None:
    """Have all files read that were not read before."""
    left = [
        {"place": place, "path": str(item.path.absolute()), "split": item.split, "rows": rows}
        for place, (item, rows) in enumerate(maker.planned)
        if not (parts / _name(place)).exists()
    ]
    if not left:
        return
    from jetsweep.search.cluster import connected

    with connected():
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        options = maker.config.model_dump(mode="json")
        job = ray.data.from_items(left, override_num_blocks=len(left)).map(partial(_read_file, str(parts), options))
        done = 0
        for row in job.iter_rows():
            if row["error"]:
                raise DataError(row["error"])
            done += row["jets"]
            progress(done, maker.total)


def _read_file(parts: str, options: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    """On a worker: read one file and leave its slices; a user's mistake is an answer, not an exception."""
    kind = SOURCES.get(options["name"])
    maker = kind(kind.options.model_validate(options))
    assert isinstance(maker, FileSource)
    item = Input(Path(file["path"]), file["split"])
    maker.contents = [(item, file["rows"])]  # no look at all the others
    try:
        return {"jets": write_part(Path(parts, _name(file["place"])), maker.slices(item, file["rows"])), "error": ""}
    except JetsweepError as error:
        return {"jets": 0, "error": str(error)}
    except OSError as error:
        return {"jets": 0, "error": f"{parts}: cannot be written: {error.strerror}"}
