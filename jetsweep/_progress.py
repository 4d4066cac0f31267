"""Progress of making jets: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 20.0


@contextmanager
def progress_of_jets(title: str, console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function of (jets done, jets in all or None) that shows them; nothing is shown before its first call."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("jets"))
    is_terminal = console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not is_terminal) as bar:
        task = bar.add_task(title, total=None, visible=False)
        told = time.monotonic() - SECONDS_BETWEEN_LINES

        def show(done: int, total: int | None) -> None:
            nonlocal told
            bar.update(task, completed=done, total=total, visible=True)
            if not is_terminal and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                console.print(f"{title}: {done:,}" + (f" of {total:,}" if total else "") + " jets", highlight=False)

        yield show
