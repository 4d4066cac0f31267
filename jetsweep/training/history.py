"""The trial's ``history.jsonl``: one line per epoch, without gaps or repeats after a resume."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from jetsweep.training.disk import write_error
from jetsweep.training.reporter import Metrics


class History:
    """Appends one JSON object per epoch; numbers that are not finite are written as NaN and Infinity.

    Parameters
    ----------
    path : Path
        File to continue.
    keep : int
        Completed epochs of the checkpoint that training continues from; later lines are dropped, since the epochs
        are trained again.
    """

    def __init__(self, path: Path, keep: int) -> None:
        from jetsweep.training.checkpoint import write_file  # with torch, which who only reads a history can do without

        self.path = path
        rows = [row for row in read_history(path) if int(row["epoch"]) <= keep and row["stopped_because"] != "diverged"]
        write_file(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def append(self, row: Metrics) -> None:
        """Write one epoch's metrics, the whole line or none of it.

        Raises
        ------
        DiskFull, JetsweepError
            If the disk is full, or not writable.
        """
        try:
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    file.write(line := json.dumps(row).encode() + b"\n")
                    if file.tell() != size + len(line):  # the last bytes of a device take part of a line
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise write_error(f"{self.path}: cannot be written: {error.strerror}", error) from error


def read_history(path: Path) -> list[Metrics]:
    """Rows of a history file, [] where there is none; a line cut off by a kill is left out."""
    rows: list[Metrics] = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
