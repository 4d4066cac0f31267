"""Slices of a file on their way from the process that has read it to the one that writes the dataset."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jetsweep.data.sources._jets import Jets

_ARRAYS = ("offsets", "label", "source_row")


def write_part(part: Path, slices: Iterable[Jets]) -> int:
    """Write the slices of one file into a folder, which appears under its name when it is complete.

    Returns
    -------
    int
        Jets read, those left out among them.
    """
    folder, read = Path(tempfile.mkdtemp(prefix=f".{part.name}-", dir=part.parent)), 0
    try:
        for number, jets in enumerate(slices):
            _write_slice(folder / f"{number:06d}.npz", jets)
            read += len(jets) + sum(jets.dropped.values())
        if not part.exists():  # else an earlier attempt came so far, and its process died then
            folder.rename(part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return read


def read_part(part: Path) -> Iterator[Jets]:
    """The slices as they were written, one in memory at a time."""
    for path in sorted(part.iterdir()):
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            yield Jets(
                values={name: stored[f"values/{name}"] for name in about["values"]},
                scalars={name: stored[f"scalars/{name}"] for name in about["scalars"]},
                source_file=about["source_file"],
                dropped=about["dropped"],
                **{name: stored[name] for name in _ARRAYS},
            )


def _write_slice(path: Path, jets: Jets) -> None:
    about = {
        "values": list(jets.values),
        "scalars": list(jets.scalars),
        "source_file": jets.source_file,
        "dropped": jets.dropped,
    }
    arrays = {name: getattr(jets, name) for name in _ARRAYS}
    arrays |= {f"values/{name}": x for name, x in jets.values.items()}
    arrays |= {f"scalars/{name}": x for name, x in jets.scalars.items()}
    np.savez(path, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
