"""One driver for a sweep: who runs it, and whether that process still lives."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from jetsweep.errors import JetsweepError, SweepBusyError
from jetsweep.training.ownership import kernel, start_time

LOCK_FILE = "driver.lock"

STOP_FILE = ".stop"
"""Asks the driver of a sweep and all its trials to save and end."""

BEAT_S, SILENT_S = 10.0, 120.0
"""How often a driver touches its lock, and after how long without it a driver on another machine counts as dead."""


@dataclass(frozen=True)
class Driver:
    """The process that runs a sweep.

    Parameters
    ----------
    host : str
    pid : int
    started : str
        Start time of the process in its kernel's clock, since numbers of processes are used again.
    """

    host: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Driver:
    """The calling process."""
    return Driver(socket.gethostname(), os.getpid(), _started(os.getpid()))


def _started(pid: int) -> str:
    """Kernel and clock tick at which a process began; empty if there is no such process."""
    start = start_time(pid)
    return "" if start is None else f"{kernel()} {start}"


def who_drives(sweep_dir: Path) -> Driver | None:
    """The living driver of a sweep, None if nobody runs it."""
    path = Path(sweep_dir) / LOCK_FILE
    try:
        driver = Driver(**json.loads(path.read_text()))
        silent_s = time.time() - path.stat().st_mtime
    except (OSError, ValueError, TypeError):  # none, or cut off by the death of the one that wrote it
        return None
    if driver.host == socket.gethostname():
        return driver if _started(driver.pid) == driver.started else None
    return driver if silent_s < SILENT_S else None


@contextlib.contextmanager
def driving(sweep_dir: Path) -> Iterator[None]:
    """Be the only driver of a sweep; a process that is one already stays it.

    Raises
    ------
    SweepBusyError
        If another process is, naming it.
    JetsweepError
        If the lock cannot be written.
    """
    path, mine = Path(sweep_dir) / LOCK_FILE, this_process()
    if who_drives(sweep_dir) == mine:
        yield
        return
    mark = path.with_name(f"{LOCK_FILE}.{mine.host}.{mine.pid}")
    try:
        mark.write_text(json.dumps(asdict(mine)))
        while True:
            try:
                os.link(mark, path)  # fails if there is one, on network file systems too
                break
            except FileExistsError:
                other = who_drives(sweep_dir)
                if other is not None:
                    raise SweepBusyError(
                        f"{sweep_dir}: {other} runs this sweep; wait for its end, or end it with "
                        f"`jetsweep stop {Path(sweep_dir).name}`"
                    ) from None
                path.unlink(missing_ok=True)
    except OSError as error:
        raise JetsweepError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            mark.unlink()
    stop_file = Path(sweep_dir) / STOP_FILE
    stop_file.unlink(missing_ok=True)  # it was meant for an earlier driver
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, over), name="jetsweep-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        stop_file.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def ask_to_stop(sweep_dir: Path) -> None:
    """Ask all trials of a sweep to save and end."""
    with contextlib.suppress(OSError):  # a full disk; its driver knows all the same
        (Path(sweep_dir) / STOP_FILE).touch()


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)
