"""A sweep in the terminal: a live table, or plain lines where nobody watches."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.search.listener import SweepInfo, SweepStatus, TrialStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from jetsweep.experiment.schema import Experiment
    from jetsweep.search.repeats import Repeat

_ROWS = 20
_STYLE = {"COMPLETE": "green", "PRUNED": "yellow", "FAILED": "red", "STOPPED": "yellow", "running": "cyan"}


class _Row:
    def __init__(self, number: int, params: Mapping[str, Any], experiment: Experiment) -> None:
        self.number, self.params, self.model = number, params, experiment.model.name
        self.epochs, self.monitor = experiment.training.epochs, experiment.training.monitor
        self.kept = math.nan  # the monitored metric of the epoch whose weights are kept
        self.epoch, self.values, self.state, self.note = 0, dict[str, float](), "running", ""
        self.began, self.took = time.monotonic(), math.nan

    def keeps(self, metrics: Mapping[str, float | int | str]) -> bool:
        """Whether the epoch of these metrics is the best so far; its values are the trial's."""
        value = float(metrics.get(self.monitor.metric, math.nan))
        gain = value - self.kept if self.monitor.mode == "max" else self.kept - value
        if not math.isfinite(value) or gain <= self.monitor.min_delta:  # gain is NaN before there is one
            return False
        self.kept = value
        return True

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began if math.isnan(self.took) else self.took


class Progress:
    """A `SweepListener` that shows trials as they run.

    Parameters
    ----------
    console : rich.console.Console
        Where it is no terminal, one line is printed per trial that ends.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: dict[int, _Row] = {}
        self.info: SweepInfo | None = None
        self.live: Live | None = None

    def sweep_started(self, info: SweepInfo) -> None:
        self.info = info
        trials = "1 trial" if info.trials == 1 else f"{info.trials} trials"
        threads = "1 thread" if info.threads == 1 else f"{info.threads} threads"
        self.console.print(f"Sweep {info.name}: {trials}, {info.concurrent} at once, {threads} per worker")
        for note in info.notes:
            self.console.print(note, markup=False, highlight=False, soft_wrap=True)
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2)
            self.live.start()

    def trial_started(self, number: int, params: Mapping[str, Any], experiment: Experiment, trial_dir: Path) -> None:
        self.rows[number] = _Row(number, params, experiment)

    def trial_reported(self, number: int, metrics: Mapping[str, float | int | str]) -> None:
        assert self.info is not None
        row = self.rows[number]
        row.epoch = int(metrics.get("epoch", row.epoch))
        if row.keeps(metrics):
            row.values = {name: float(metrics[name]) for name, _ in self.info.objectives if name in metrics}

    def trial_ended(
        self, number: int, status: TrialStatus, stopped_because: str, trial_dir: Path, error: str | None
    ) -> None:
        row = self.rows[number]
        row.state, row.note, row.took = status, error or stopped_because, row.seconds
        if self.live is None:
            values = " ".join(f"{metric}={value:.5g}" for metric, value in row.values.items())
            params = " ".join(f"{name}={_short(value)}" for name, value in row.params.items())
            self.console.print(
                f"trial {number} {status.lower()} ({row.note}) after epoch {row.epoch}, {row.seconds:.0f} s: "
                f"{values} | {row.model} {params}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def repeat_ended(self, repeat: Repeat, status: TrialStatus, folder: Path, error: str | None) -> None:
        self.console.print(
            f"repeat {repeat.index + 1} of trial {repeat.origin} {status.lower()} (seed {repeat.seed})"
            + (f": {error}" if error else ""),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def sweep_ended(self, status: SweepStatus) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.console.print(f"Sweep {status.lower()}")

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        assert self.info is not None
        done = len(self.info.ended) + sum(row.state != "running" for row in self.rows.values())
        table = Table(title=f"{self.info.name}: {done} of {self.info.trials} trials ended", title_justify="left")
        for name in ("trial", "model", "state", "epoch", *(metric for metric, _ in self.info.objectives), "s"):
            table.add_column(name, justify="left" if name in ("model", "state") else "right", no_wrap=True)
        table.add_column("parameters", overflow="ellipsis", no_wrap=True)
        running_first = sorted(self.rows.values(), key=lambda row: (row.state != "running", -row.number))
        for row in sorted(running_first[:_ROWS], key=lambda row: row.number):
            values = [_short(row.values.get(metric, "")) for metric, _ in self.info.objectives]
            params = ", ".join(f"{name.rsplit('.', 1)[-1]} {_short(value)}" for name, value in row.params.items())
            table.add_row(
                str(row.number),
                row.model,
                Text(row.state.lower(), style=_STYLE[row.state]),
                f"{row.epoch}/{row.epochs}",
                *values,
                f"{row.seconds:.0f}",
                Text(row.note if row.state == "FAILED" else params),
            )
        return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
