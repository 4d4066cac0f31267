"""How often a trial was started again after a process of it had died: a line for each in ``restarts.jsonl``."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from jetsweep.training.disk import write_error

RESTARTS = "restarts.jsonl"


def note_restart(workdir: Path, reason: str) -> int:
    """Remember that the trial in `workdir` is started again.

    Parameters
    ----------
    workdir : Path
        The trial's folder.
    reason : str
        One sentence: what died.

    Returns
    -------
    int
        Restarts so far, this one included.

    Raises
    ------
    DiskFull, JetsweepError
        If it cannot be written: restarts that are not counted could go on for ever.
    """
    path = Path(workdir) / RESTARTS
    row = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(f"{path}: cannot be written: {error.strerror}", error) from error
    return restarts(workdir)


def restarts(workdir: Path) -> int:
    """Restarts of the trial in `workdir` so far, over all its attempts."""
    try:
        return (Path(workdir) / RESTARTS).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
