"""One trial as Ray Tune sees it: a class whose every step is an epoch, and whose end is orderly."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ray.tune import Trainable

from jetsweep.errors import JetsweepError
from jetsweep.search.schedulers import TIME, VALUE
from jetsweep.training.exploit import Exploit

if TYPE_CHECKING:
    from jetsweep.training.config import TrialSpec
    from jetsweep.training.reporter import Metrics, Reporter
    from jetsweep.training.run import TrainResult

ERROR_FILE = "error.txt"
FINAL, REPORTED, ENDED, ERROR = "final", "reported", "ended", "error"

_ANSWER_S = 1.0
_STOP_FILE_S = 0.5


class TrainFunction(Protocol):
    """`jetsweep.training.train`, or what a test puts in its place."""

    def __call__(
        self, spec: TrialSpec, workdir: Path, data_root: Path, reporter: Reporter, *, stop_requested: Any
    ) -> TrainResult: ...


class TrialActor(Trainable):  # type: ignore[misc]
    """Trains in a thread, so that Tune can ask for results, and the loop can be asked to stop.

    The loop waits a moment after each report for the verdict, which is the next call of `step`; when the driver is
    slow it goes on and learns of a stop between two batches. A trial never ends before its loop has returned, which
    for several workers means before their placement group is gone.
    """

    train_function: TrainFunction | None = None

    def setup(self, config: dict[str, Any]) -> None:
        self.config: dict[str, Any] = {}  # else Tune sends it back with every result
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial: a process that has imported everything is worth keeping."""
        self._finish()
        self.config = {}
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self.spec_json = config["spec"]
        self.workdir, self.data_root = Path(config["workdir"]), Path(config["data_root"])
        self.stop_file, self.metric = Path(config["stop_file"]), str(config["metric"])
        self.threads, self.patient = int(config["threads"]), bool(config.get("patient"))
        self.reports: queue.SimpleQueue[Metrics | None] = queue.SimpleQueue()
        self.asked, self.go_on, self.asked_by = threading.Event(), threading.Event(), ""
        self.exploit = Exploit(**config["exploit"]) if config.get("exploit") else None
        if config.get("asked_by"):
            self.request_stop(config["asked_by"])
        self.sent = self.taken = 0
        self.last: Metrics = {}
        self.result: TrainResult | None = None
        self.error: str | None = None
        self.crash: BaseException | None = None
        self.looked = 0.0
        self.thread = threading.Thread(target=self._run, name="jetsweep-training", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            (self.workdir / ERROR_FILE).unlink(missing_ok=True)  # of an earlier attempt
            from jetsweep.training.config import TrialSpec  # here, so that what fails is written down

            self.spec = TrialSpec.model_validate_json(self.spec_json)
            self.result = self._train_trial()
        except BaseException as error:
            self.error, self.crash = describe(error), None if isinstance(error, JetsweepError) else error
            with contextlib.suppress(OSError):  # a full disk may be the very reason
                (self.workdir / ERROR_FILE).write_text(f"{self.error}\n\n{traceback.format_exc()}")
        finally:
            self.reports.put(None)

    def _train_trial(self) -> TrainResult:
        """Train, as often as the trial takes over from another one."""
        while True:
            self._take_over()
            result = self._train_once()
            if result.stopped_because != "asked" or self.exploit is None or self.asked.is_set():
                return result

    def _take_over(self) -> None:
        """Carry out what population-based training decided, perhaps in an earlier process."""
        from jetsweep.training.disk import PatientDisk
        from jetsweep.training.exploit import may_take, take

        exploit = self.exploit
        if exploit is not None and may_take(self.workdir, exploit):
            PatientDisk(self.asked.is_set).write(lambda: take(self.workdir, exploit, self.spec))
        self.exploit = None

    def _train_once(self) -> TrainResult:
        if self.train_function is not None:
            return type(self).train_function(  # type: ignore[misc]
                self.spec, self.workdir, self.data_root, self._report, stop_requested=self._stop_requested
            )
        if self.spec.resources.workers > 1:
            from jetsweep.training.workers import run_distributed

            return run_distributed(self.spec, self.workdir, self.data_root, self._report, self._stop_requested)
        import torch

        from jetsweep.training.run import train

        torch.set_num_threads(self.threads)
        return train(self.spec, self.workdir, self.data_root, self._report, stop_requested=self._stop_requested)

    def _report(self, metrics: Metrics, checkpoint: Path | None) -> bool:
        self.sent += 1
        self.go_on.clear()
        self.reports.put(dict(metrics))
        if not metrics.get("stopped_because"):
            self.go_on.wait(None if self.patient else _ANSWER_S)
        self.looked = 0.0  # between epochs a stop is never missed
        return self._stop_requested()

    def _stop_requested(self) -> bool:
        now = time.monotonic()
        if not self.asked.is_set() and now - self.looked > _STOP_FILE_S:
            self.looked = now
            if self.stop_file.exists():
                self.request_stop("interrupted")
        return self.asked.is_set() or self.exploit is not None

    def request_stop(self, by: str) -> None:
        """Ask the loop to save and return; `by` is "scheduler" or "interrupted"."""
        self.asked_by = self.asked_by or by
        self.asked.set()
        self.go_on.set()

    def request_exploit(self, exploit: dict[str, Any], spec: str) -> None:
        """Ask the loop to save and return, and to go on from another trial's snapshot with other settings."""
        from jetsweep.training.config import TrialSpec

        self.spec, self.exploit = TrialSpec.model_validate_json(spec), Exploit(**exploit)
        self.go_on.set()

    def step(self) -> dict[str, Any]:
        """Wait for the next epoch, or for the end.

        Returns
        -------
        dict
            `epoch` and `objective` for schedulers; `metrics` of the epoch, as JSON, since Tune keeps statistics of all
            numbers; and once the loop has returned `done`, with
            `ended` ("budget", "patience", "diverged", "scheduler", "interrupted" or "error") and `error`.
        """
        if self.taken == self.sent:  # else this call asks for a report that Tune has not judged yet
            self.go_on.set()
        metrics = self.reports.get()
        self.taken += 1
        if metrics is not None and not metrics.get("stopped_because"):
            self.last = metrics
            return self._numbers() | {FINAL: False, REPORTED: True, "metrics": json.dumps(metrics)}
        if metrics is not None:  # of the last epoch: the loop still evaluates and writes
            self.last = metrics
            while self.reports.get() is not None:
                pass
        self.thread.join()
        if self.crash is not None:  # Tune then gives up this process, which nobody should use again
            raise RuntimeError(self.error) from self.crash
        return self._numbers() | {
            FINAL: True,
            REPORTED: metrics is not None,
            "metrics": json.dumps(self.last),
            ENDED: self._ended(),
            ERROR: self.error or (self.result.error if self.result is not None else None),
            "best": json.dumps(self.result.best if self.result is not None else {}),
            "done": True,
        }

    def _ended(self) -> str:
        if self.result is None:
            return "error"
        return (
            (self.asked_by or "interrupted") if self.result.stopped_because == "asked" else self.result.stopped_because
        )

    def _numbers(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        if TIME in self.last:
            numbers[TIME] = self.last[TIME]
        if self.metric in self.last:
            numbers[VALUE] = float(self.last[self.metric])
        return numbers

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the loop keeps its own checkpoints, and the study remembers the sweep."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, see `save_checkpoint`."""

    def cleanup(self) -> None:
        self._finish()

    def _finish(self) -> None:
        self.request_stop("interrupted")
        self.thread.join()


def describe(error: BaseException) -> str:
    """One sentence for tables: a user's mistake as it is, anything else with its kind."""
    from jetsweep.training.faults import WorkerError

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if isinstance(error, JetsweepError | WorkerError):
        return text
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def trial_actor(train: TrainFunction | None) -> type[TrialActor]:
    """Class for Tune; `train` replaces the real training, as tests and benchmarks want."""
    if train is None:
        return TrialActor
    return type("TrialActor", (TrialActor,), {"train_function": staticmethod(train)})


def read_error(workdir: Path) -> str | None:
    """The sentence that a trial left behind when it failed."""
    try:
        return (workdir / ERROR_FILE).read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
