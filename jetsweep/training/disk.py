"""A full disk is no reason to lose a trial: writing waits until there is room again, and hears a stop meanwhile."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable

from jetsweep.errors import JetsweepError

WAIT_VARIABLE = "JETSWEEP_DISK_WAIT_S"
_DEFAULT_WAIT_S = 600.0
_RETRY_S = 2.0
_LISTEN_S = 0.2

_log = logging.getLogger("jetsweep")


class DiskFull(JetsweepError):
    """No room left on the device, or of the user's quota."""


def write_error(message: str, error: OSError) -> JetsweepError:
    """The error to raise with `message`: `DiskFull` where room is what lacks."""
    return (DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else JetsweepError)(message)


def disk_wait_s() -> float:
    """Seconds to wait for room on a full disk, from the environment variable ``JETSWEEP_DISK_WAIT_S``; default 600.

    Raises
    ------
    JetsweepError
        If the variable is no number of seconds.
    """
    text = os.environ.get(WAIT_VARIABLE, "")
    try:
        seconds = float(text) if text else _DEFAULT_WAIT_S
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise JetsweepError(f"{WAIT_VARIABLE}: expected seconds to wait for room on a full disk, found {text!r}")
    return seconds


class PatientDisk:
    """Writes for one trial; after a stop was heard while it waited for room, it writes no more.

    Parameters
    ----------
    stop_requested : callable, optional
        Asked while waiting.
    """

    def __init__(self, stop_requested: Callable[[], bool] | None = None) -> None:
        self.stop_requested = stop_requested
        self.gave_up = False

    def write(self, write: Callable[[], object]) -> bool:
        """Call `write`, again and again while it raises `DiskFull`.

        Returns
        -------
        bool
            Whether it was written; False once a stop was heard while waiting.

        Raises
        ------
        DiskFull
            After `disk_wait_s`.
        """
        start: float | None = None
        while not self.gave_up:
            try:
                write()
            except DiskFull as full:
                now = time.monotonic()
                if start is None:
                    start = now
                    _log.warning("%s; waiting up to %g s for room", full, disk_wait_s())
                if now - start >= disk_wait_s():
                    raise
            else:
                if start is not None:
                    _log.warning("the disk has room again after %.0f s, training goes on", time.monotonic() - start)
                return True
            self._listen(min(time.monotonic() + _RETRY_S, start + disk_wait_s()))
        return False

    def _listen(self, until: float) -> None:
        while True:
            if self.stop_requested is not None and self.stop_requested():
                self.gave_up = True
                return
            if time.monotonic() >= until:
                return
            time.sleep(_LISTEN_S)
