"""One process trains in a trial's folder; the next one waits until it is gone.

A process killed a moment ago, or cut off from its cluster, may still write when its successor begins. The owner is
named in ``owner.json``. On the same machine the kernel knows whether it still lives; an owner elsewhere touches the
file every few seconds and counts as dead when it has stopped doing so.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from jetsweep.errors import JetsweepError
from jetsweep.training.disk import write_error

OWNER = "owner.json"
HEARTBEAT_S = 10.0
SILENCE_S = 60.0
"""Without a touch for so long, an owner on another machine counts as dead."""

_POLL_S = 0.2
_held: set[str] = set()
"""Tokens of the folders that this process owns."""


@dataclass(frozen=True)
class Owner:
    """A process as others can recognise it.

    Parameters
    ----------
    host : str
    pid : int
    started : int
        Start time in clock ticks since boot: a number that a later process with the same id does not share.
    kernel : str
        Boot id and process namespace, within which the process id means something.
    token : str
        Unique for each time that a folder is taken.
    """

    host: str
    pid: int
    started: int
    kernel: str
    token: str


class Ownership:
    """The right to write into a folder, held by this process."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self.touched = time.monotonic()
        self.taken_by: Owner | None = None

    def touch(self) -> None:
        """Say that this process lives, unless another has taken the folder over."""
        other = _read(self.path)
        if other is not None and other.token != self.owner.token:
            self.taken_by = other
            return
        with contextlib.suppress(OSError):  # a file server away for a while; the next touch says it
            os.utime(self.path)
            self.touched = time.monotonic()

    def require(self) -> None:
        """Refuse to go on after another process has taken the folder over, as it may after a long silence of this one.

        Raises
        ------
        JetsweepError
        """
        if time.monotonic() - self.touched > SILENCE_S / 2:  # stopped, or cut off from the files
            self.touch()
        if self.taken_by is not None:
            raise JetsweepError(
                f"{self.path.parent}: process {self.taken_by.pid} on {self.taken_by.host} has taken this folder over, "
                f"since process {self.owner.pid} on {self.owner.host} was silent for more than {SILENCE_S:g} s"
            )


@contextlib.contextmanager
def owned(workdir: Path, wait_s: float = 60.0) -> Iterator[Ownership]:
    """Own a trial's folder for the length of the context.

    Parameters
    ----------
    workdir : Path
    wait_s : float
        How long to wait for another living owner; one on another machine has `SILENCE_S` more, since it may be dead.

    Yields
    ------
    Ownership
        Its `require` is to be called from time to time.

    Raises
    ------
    JetsweepError
        If another process still trains there, or the folder cannot be written.
    """
    path = Path(workdir) / OWNER
    me = Owner(socket.gethostname(), os.getpid(), start_time(os.getpid()) or 0, kernel(), uuid.uuid4().hex)
    _claim_patiently(path, me, wait_s)
    ownership, over = Ownership(path, me), threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            ownership.touch()

    thread = threading.Thread(target=beat, name="jetsweep-owner", daemon=True)
    thread.start()
    try:
        yield ownership
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError), _guard(path):
            if (found := _read(path)) is not None and found.token == me.token:
                path.unlink()
        _held.discard(me.token)


def _claim_patiently(path: Path, me: Owner, wait_s: float) -> None:
    start = time.monotonic()
    while (other := _claim(path, me)) is not None:
        limit = wait_s if other.kernel == me.kernel else wait_s + SILENCE_S
        if time.monotonic() - start > limit:
            raise JetsweepError(
                f"{path.parent}: process {other.pid} on {other.host} still trains in this folder after {limit:g} s of "
                "waiting; end it, or use another folder"
            )
        time.sleep(_POLL_S)


def _claim(path: Path, me: Owner) -> Owner | None:
    """Take the folder; returns the living owner that it has otherwise."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _guard(path):
            other = _read(path)
            if other is not None and _alive(other, path):
                return other
            _held.add(me.token)
            temporary = path.with_name(f"{path.name}.tmp-{me.token}")
            temporary.write_text(json.dumps(asdict(me)))
            os.replace(temporary, path)
    except OSError as error:
        raise write_error(f"{path}: cannot be written: {error.strerror}", error) from error
    return None


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Let one process at a time judge and replace an owner; a lock of the kernel, gone with its process."""
    with path.with_name(f".{path.name}.lock").open("w") as file:
        with contextlib.suppress(OSError):  # some file servers have no locks; the token still shows who came last
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # none, or cut off by a full disk
        return None


def _alive(owner: Owner, path: Path) -> bool:
    if owner.kernel != kernel():
        return _silence(path) < SILENCE_S
    if owner.pid == os.getpid() and owner.started == start_time(owner.pid):
        return owner.token in _held
    return start_time(owner.pid) == owner.started


def _silence(path: Path) -> float:
    """Seconds since the file was touched, by the clock of the machine that stores it."""
    probe = path.with_name(f"{path.name}.now-{uuid.uuid4().hex}")
    try:
        probe.touch()
        with path.open() as file:  # opening makes a network file system ask its server
            return probe.stat().st_mtime - os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return SILENCE_S
    finally:
        probe.unlink(missing_ok=True)


def start_time(pid: int) -> int | None:
    """Start time of a living process, None for a dead one or a zombie; 0 where the system does not tell."""
    try:
        # the name in parentheses may hold anything, so fields are counted after it: state is the 3rd, start the 22nd
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def kernel() -> str:
    """Boot and process namespace: what a process id means something in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
