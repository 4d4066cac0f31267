"""What went wrong in one of several workers, told to the driver as plain data."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Literal

from jetsweep.errors import JetsweepError
from jetsweep.training.config import TrainingConfig
from jetsweep.training.memory import OutOfMemory


class WorkerError(RuntimeError):
    """An exception of the training code on a worker; the traceback from there is its note."""


@dataclass(frozen=True)
class Fault:
    """Why a worker ended; a process that dies leaves none.

    Parameters
    ----------
    kind : str
        "mistake" (of the user, or a fault of the machine: one sentence is enough), "memory" or "bug".
    sentence : str
    details : str
        The traceback.
    smaller : dict or None
        For "memory": settings of training to go on with.
    """

    kind: Literal["mistake", "memory", "bug"]
    sentence: str
    details: str
    smaller: dict[str, Any] | None = None

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """Describe an exception."""
        details = "".join(traceback.format_exception(error))
        if isinstance(error, OutOfMemory):
            smaller = None if error.smaller is None else error.smaller.model_dump(mode="json")
            return cls("memory", str(error), details, smaller)
        if isinstance(error, JetsweepError):
            return cls("mistake", str(error), details)
        return cls("bug", "".join(traceback.format_exception_only(error)).strip(), details)

    def error(self) -> Exception:
        """The exception to raise in the driver."""
        if self.kind == "mistake":
            return JetsweepError(self.sentence)
        if self.kind == "memory":
            smaller = None if self.smaller is None else TrainingConfig.model_validate(self.smaller)
            return OutOfMemory(self.sentence, smaller)
        error = WorkerError(self.sentence)
        error.add_note(f"\nOn the worker:\n{self.details}")
        return error
