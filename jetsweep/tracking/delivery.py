"""One thread that does what is due, again and again while it fails, and never makes those wait who ask for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

ASK_AGAIN_S = 5.0
"""How often a store that went away is asked whether it is back, and pause before a failed delivery is tried again."""

MAX_TRIES = 3
"""Of a delivery that fails although the store answers; it is tried again when it is marked again, and at the end."""

Item = Hashable


class Delivery:
    """Keeps a set of things to deliver; marking one twice is marking it once, so an outage of any length costs nothing.

    Parameters
    ----------
    deliver : callable
        Brings an item up to date; raises if it cannot.
    is_there : callable
        Whether the store answers; asked after a failure, and then until it does.
    """

    def __init__(self, deliver: Callable[[Item], object], is_there: Callable[[], bool]) -> None:
        self._deliver, self._is_there = deliver, is_there
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], object]] = deque()
        self._due: dict[Item, float] = {}  # not before this time
        self._tries: dict[Item, int] = {}
        self._given_up: set[Item] = set()
        self._is_away = self._is_busy = False
        self._ends_by: float | None = None
        self.job_error: Exception | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="jetsweep-tracking", daemon=True)
        self._thread.start()

    def mark(self, item: Item) -> None:
        """Ask for an item to be delivered; returns at once."""
        with self._changed:
            self._due.setdefault(item, 0.0)
            self._given_up.discard(item)
            self._changed.notify_all()

    def do(self, job: Callable[[], object]) -> None:
        """Ask for a job that needs no store, done once and before any delivery; returns at once."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        """Whether everything was delivered that was marked."""
        with self._changed:
            return self._has_nothing()

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything is delivered that was marked; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(self._has_nothing, timeout_s)

    def _has_nothing(self) -> bool:
        return not (self._is_busy or self._jobs or self._due or self._given_up)

    def close(self, wait_s: float) -> None:
        """Deliver what is left and end the thread; the second time it only waits for the thread.

        Parameters
        ----------
        wait_s : float
            Seconds for which deliveries that fail are tried again; those that succeed take the time they take.
        """
        with self._changed:
            if self._ends_by is None:
                self._ends_by = time.monotonic() + wait_s
                self._due |= dict.fromkeys(self._given_up, 0.0)
                self._given_up.clear()
            self._changed.notify_all()
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self.abandon()
            raise

    def abandon(self, wait_s: float = 0.0) -> None:
        """End the thread after what it is doing now, and wait so long for it."""
        with self._changed:
            self._ends_by = float("-inf")
            self._changed.notify_all()
        self._thread.join(wait_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                if self._ends_by == float("-inf"):
                    return
                job = self._jobs.popleft() if self._jobs else None
                item = self._next_item() if job is None else None
                if job is None and item is None:
                    if self._ends_by is not None and (not self._due or time.monotonic() >= self._ends_by):
                        return
                    self._changed.notify_all()  # those who `wait`
                    self._changed.wait(self._pause())
                    continue
                self._is_busy = True
            if job is not None:
                self._run(job)
            elif self._is_away and not self._is_there():
                self._postpone(item)
            else:
                self._is_away = False
                self._try(item)

    def _next_item(self) -> Item | None:
        now = time.monotonic()
        for item, not_before in self._due.items():
            if not_before <= now:
                del self._due[item]
                return item
            if self._is_away:  # one item asks for all
                return None
        return None

    def _pause(self) -> float | None:
        """Seconds until something may be tried again; None while nothing waits."""
        ends = [self._ends_by] if self._ends_by is not None else []
        first = next(iter(self._due.values()), None) if self._is_away else min(self._due.values(), default=None)
        times = [*ends, *([first] if first is not None else [])]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            self.job_error = self.job_error or error

    def _try(self, item: Item) -> None:
        try:
            self._deliver(item)
        except Exception as error:
            self.error = error
            self._is_away = not self._is_there()
            self._postpone(item, counts=not self._is_away)
        else:
            self._tries.pop(item, None)

    def _postpone(self, item: Item, counts: bool = False) -> None:
        with self._changed:
            self._tries[item] = self._tries.get(item, 0) + counts
            if self._tries[item] >= MAX_TRIES and item not in self._due:
                self._given_up.add(item)
            else:
                # first in line: it asks for all others while the store is away
                self._due = {item: time.monotonic() + ASK_AGAIN_S, **{k: t for k, t in self._due.items() if k != item}}
