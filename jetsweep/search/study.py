"""The Optuna study of a sweep: a journal file in its folder, which is the only truth about its trials."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from jetsweep.errors import JetsweepError
from jetsweep.search.pruners import build_pruner
from jetsweep.search.samplers import RepeatableSampler
from jetsweep.training.disk import DiskFull, disk_wait_s, write_error

if TYPE_CHECKING:
    from jetsweep.experiment.schema import SearchConfig

STUDY_FILE = "study.log"


class _Journal(JournalFileBackend):
    """A journal that a full disk makes wait, and that never holds half a line.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # one writer, the driver; this lock works where `flock` does not, as on some network file systems
        super().__init__(str(path), lock_obj=JournalFileOpenLock(str(path)))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        give_up = time.monotonic() + disk_wait_s()
        size = self.path.stat().st_size
        while True:
            try:
                super().append_logs(logs)
                return
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, size)
                problem = write_error(f"{self.path}: cannot be written: {error.strerror}", error)
                if not isinstance(problem, DiskFull) or time.monotonic() > give_up:
                    raise problem from error
                time.sleep(1.0)


def open_study(folder: Path, search: SearchConfig, epochs: int = 1) -> optuna.Study:
    """Make or load the study of a sweep's folder, of which the caller is the only driver.

    Parameters
    ----------
    folder : Path
    search : SearchConfig
    epochs : int
        Largest number of epochs of any trial.

    Raises
    ------
    JetsweepError
        If the journal cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / STUDY_FILE
    _heal(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return optuna.create_study(
                storage=JournalStorage(_Journal(path)),
                sampler=RepeatableSampler(search),
                pruner=build_pruner(search, epochs),
                study_name="sweep",
                directions=["maximize" if objective.mode == "max" else "minimize" for objective in search.objectives],
                load_if_exists=True,
            )
        except (OSError, ValueError, KeyError, AssertionError) as error:
            if isinstance(error, JetsweepError):
                raise
            raise JetsweepError(f"{path}: expected the journal of a study, it cannot be used: {error}") from error


def _heal(path: Path) -> None:
    """Cut off half a line and take away the lock of a writer that was killed."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
