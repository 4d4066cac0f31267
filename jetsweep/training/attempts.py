"""One attempt at a trial among others in the same folder: it owns the folder, and may forget those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jetsweep.errors import JetsweepError
from jetsweep.training.checkpoint import discard
from jetsweep.training.disk import PatientDisk
from jetsweep.training.ownership import Ownership, owned
from jetsweep.training.restarts import RESTARTS
from jetsweep.training.world import World


@contextmanager
def owned_by_all(workdir: Path, world: World, stop_requested: Callable[[], bool] | None) -> Iterator[Ownership | None]:
    """Let rank 0 own the folder; all ranks learn it if another process does."""
    error: JetsweepError | None = None
    with ExitStack() as stack:
        entered: list[Ownership] = []
        if world.is_first:
            try:
                PatientDisk(stop_requested).write(lambda: entered.append(stack.enter_context(owned(workdir))))
            except JetsweepError as problem:
                error = problem
            else:
                error = None if entered else JetsweepError(f"{workdir}: stopped while the disk was full")
        error = world.from_first(error)
        if error is not None:
            raise error
        yield entered[0] if entered else None


def forget(workdir: Path) -> None:
    """Remove what a new attempt could take for its own; the folder has to be owned."""
    for name in ("last", "best"):
        discard(workdir / "checkpoints" / name)
    for name in ("history.jsonl", RESTARTS):
        (workdir / name).unlink(missing_ok=True)
