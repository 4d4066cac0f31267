"""The actor between the workers of one attempt and the driver; it knows no Ray, and starts fast without PyTorch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jetsweep.training.faults import Fault
    from jetsweep.training.reporter import Metrics


class Mailbox:
    """Takes one report at a time, answered before training goes on.

    Every attempt has its own, so that nothing of workers that have died reaches those that follow.
    """

    def __init__(self) -> None:
        self.reports: asyncio.Queue[tuple[Metrics, str | None]] = asyncio.Queue()
        self.answers: asyncio.Queue[bool] = asyncio.Queue()
        self.stop = self.training = False
        self.controllers: list[Any] = []
        self.faults: list[Fault] = []

    async def add_controller(self, controller: Any) -> None:
        """Remember the handle of the actor that starts the workers."""
        self.controllers.append(controller)

    async def begin(self) -> None:
        """Say that a worker runs."""
        self.training = True

    async def report(self, metrics: Metrics, checkpoint: str | None) -> bool:
        """Give one report and wait for the driver's answer."""
        await self.reports.put((metrics, checkpoint))
        return await self.answers.get()

    async def take(self, timeout_s: float) -> tuple[Metrics, str | None] | None:
        """Next report, or None after `timeout_s`."""
        try:
            return await asyncio.wait_for(self.reports.get(), timeout_s)
        except TimeoutError:
            return None

    async def answer(self, stop: bool) -> None:
        """Answer the report taken last."""
        await self.answers.put(stop)

    async def request_stop(self) -> bool:
        """Make the workers stop at their next question; returns whether there is a controller and no worker yet."""
        self.stop = True
        return bool(self.controllers) and not self.training

    async def stop_requested(self) -> bool:
        """Whether the driver wants to stop."""
        return self.stop

    async def add_fault(self, fault: Fault) -> None:
        """Say why a worker ends."""
        self.faults.append(fault)

    async def left(self) -> tuple[list[Fault], list[Any], bool]:
        """Faults in order of time, controllers, and whether any worker ran."""
        return self.faults, self.controllers, self.training
