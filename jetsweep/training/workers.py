"""One trial on several workers through Ray Train V2; with `groups` the only files of this room that know Ray.

The driver (a Tune trial's process, or any other) owns a small mailbox actor. Rank 0 puts each epoch's metrics there and
waits for the driver's answer, so a stop reaches the loop, the loop saves `last` and returns, and Ray Train takes the
worker group down by itself.

Ray Train never starts workers again. Its own restarts know one kind of death (a worker's), none of the controller, and
would leave the reports of the dead in the mailbox. So each attempt is one `fit`, whose end is total whatever it died of
(`groups.tear_down`), and `run_distributed` begins the next from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray

from jetsweep.errors import JetsweepError, ResourceError
from jetsweep.training.attempts import forget
from jetsweep.training.config import NEW_NODE_S, TrialSpec
from jetsweep.training.disk import WAIT_VARIABLE, PatientDisk, disk_wait_s
from jetsweep.training.faults import Fault
from jetsweep.training.groups import death, make_trainer, remove_orphaned_groups, start_mailbox, tear_down
from jetsweep.training.history import read_history
from jetsweep.training.memory import OutOfMemory
from jetsweep.training.ownership import owned
from jetsweep.training.reporter import Metrics, Reporter
from jetsweep.training.restarts import note_restart, restarts
from jetsweep.training.run import TrainResult, left_off, train
from jetsweep.training.world import World, default_device, lost_peer

_POLL_S = 0.2
_STOP_POLL_STEPS = 10
"""Steps between two questions of a worker whether the driver wants to stop."""

_ROOM_WAIT_S = 600.0
"""Without room for the workers for so long, after a node was lost for instance, the trial fails."""


class _Died(Exception):
    """A process or node of an attempt is gone; the message says which."""


class _NoRoom(Exception):
    """The workers could not be placed in time."""


class _StoppedBeforeTraining(Exception):
    pass


@dataclass(frozen=True)
class _Order:
    """What a worker needs; plain data, since it travels to other nodes."""

    spec: dict[str, Any]
    workdir: str
    data_root: str
    disk_wait_s: float


class _StopQuestion:
    """Asks the mailbox every few steps, since each question is a message to another process."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox, self.calls = mailbox, 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls % _STOP_POLL_STEPS == 1 and bool(ray.get(self.mailbox.stop_requested.remote()))


class _Reports:
    """Passes every epoch on once and in order, also those whose worker died between writing and reporting."""

    def __init__(self, workdir: Path, on_report: Reporter) -> None:
        self.history, self.on_report = workdir / "history.jsonl", on_report
        self.known = max((int(row["epoch"]) for row in read_history(self.history)), default=0)
        self.passed = 0

    def __call__(self, metrics: Metrics, checkpoint: Path | None) -> bool:
        epoch = int(metrics["epoch"])
        stop = self.catch_up(epoch - 1)
        if epoch <= self.passed:  # trained again from an older checkpoint
            return stop
        self.passed = epoch
        return self.on_report(metrics, checkpoint) or stop

    def catch_up(self, epoch: int) -> bool:
        """Pass on what is only in the file, up to `epoch`."""
        after, stop = max(self.known, self.passed), False
        if epoch > after:
            for row in read_history(self.history):
                if after < int(row["epoch"]) <= epoch:
                    self.passed = int(row["epoch"])
                    stop = self.on_report(row, None) or stop
        return stop


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """Train on one worker; returns the result."""
    import ray.train

    order, mailbox = _Order(**config["order"]), config["mailbox"]
    os.environ[WAIT_VARIABLE] = str(order.disk_wait_s)
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), default_device())
    ray.get(mailbox.begin.remote())

    def report(metrics: Metrics, checkpoint: Path | None) -> bool:
        return bool(ray.get(mailbox.report.remote(metrics, None if checkpoint is None else str(checkpoint))))

    stop_requested = _StopQuestion(mailbox) if world.is_first else None
    spec = TrialSpec.model_validate(order.spec)
    try:
        result = train(
            spec, Path(order.workdir), Path(order.data_root), report, world=world, stop_requested=stop_requested
        )
    except Exception as error:
        if lost_peer(error) or isinstance(error, ray.exceptions.RayError):  # the consequence of another's death
            raise
        fault = Fault.of(error)
    else:
        return asdict(result)
    ray.get(mailbox.add_fault.remote(fault))
    # not returned: the other ranks may wait for this one, and a failed worker makes Ray Train end them
    raise RuntimeError(fault.sentence)


def run_distributed(
    spec: TrialSpec,
    workdir: Path,
    data_root: Path,
    on_report: Reporter,
    stop_requested: Callable[[], bool] | None = None,
    *,
    resume: bool = True,
    use_gpu: bool | None = None,
    name: str | None = None,
) -> TrainResult:
    """Train one trial on ``spec.resources.workers`` workers of the connected Ray cluster.

    A process or node that dies takes the whole worker group down, and another begins from the last checkpoint, up to
    ``spec.resources.max_restarts`` times over all attempts in `workdir`; see `jetsweep.training.restarts`.

    Parameters
    ----------
    spec : TrialSpec
    workdir, data_root : Path
        On a filesystem that all nodes share.
    on_report : Reporter
        Called in the calling thread of this process, once for every epoch and in order; its answer True ends training.
    stop_requested : callable, optional
        Asked a few times per second here; True makes the loop save `last` and return "asked".
    resume : bool
        Continue from ``checkpoints/last``; else what the folder holds of an earlier attempt is removed.
    use_gpu : bool, optional
        By default whether the spec, or else the cluster, has GPUs.
    name : str, optional
        Name of the Ray Train run; the folder's name by default.

    Returns
    -------
    TrainResult

    Raises
    ------
    JetsweepError
        If the trial is not possible, if the workers do not fit the cluster, or if processes died too often.
    WorkerError
        An exception of the training code, which would only come again; the worker's traceback is its note.
    """
    workdir, data_root = Path(workdir).absolute(), Path(data_root).absolute()  # workers change directory
    worker = worker_resources(spec, use_gpu)
    room_wait_s = NEW_NODE_S if spec.resources.autoscaler else _ROOM_WAIT_S
    if not spec.resources.autoscaler:
        require_fit(spec.resources.workers, worker)
    remove_orphaned_groups()
    if not resume:
        with owned(workdir):
            forget(workdir)
    reports, stop, name = _Reports(workdir, on_report), stop_requested or (lambda: False), name or workdir.name
    room_until = time.monotonic() + room_wait_s
    while True:
        order = _Order(spec.model_dump(mode="json"), str(workdir), str(data_root), disk_wait_s())
        try:
            _wait_for_room(spec.resources.workers, worker, room_until, stop)
            outcome = _attempt(order, worker, spec.resources.workers, name, reports, stop)
        except _StoppedBeforeTraining:
            return left_off(workdir)
        except _NoRoom as problem:
            if time.monotonic() > room_until:
                raise ResourceError(f"{spec.name}: {problem}, for {room_wait_s:g} s") from None
            continue
        except OutOfMemory as problem:
            if problem.smaller is None:
                raise
            spec = spec.model_copy(update={"training": problem.smaller})
        except _Died as problem:
            _count(spec, workdir, str(problem), stop)
        else:
            result = TrainResult(**outcome)
            reports.catch_up(result.epoch)
            return result
        room_until = time.monotonic() + room_wait_s


def _count(spec: TrialSpec, workdir: Path, reason: str, stop_requested: Callable[[], bool]) -> None:
    """Note a restart, or refuse one more."""
    before = restarts(workdir)
    if before >= spec.resources.max_restarts:
        times = "once" if before == 0 else f"{before + 1} times"
        raise JetsweepError(
            f"{spec.name}: a worker died {times} (last: {reason}); resources.max_restarts is "
            f"{spec.resources.max_restarts}"
        )
    PatientDisk(stop_requested).write(lambda: note_restart(workdir, reason))


def _attempt(
    order: _Order,
    worker: dict[str, float],
    num_workers: int,
    name: str,
    reports: Reporter,
    stop_requested: Callable[[], bool],
) -> dict[str, Any]:
    """One worker group from its start to its end; nothing of it is left afterwards, whatever happens."""
    mailbox = start_mailbox()
    faults: list[Fault] = []
    training = True
    try:
        config = {"order": asdict(order), "mailbox": mailbox}
        storage = Path(order.workdir, "ray-train")
        trainer = make_trainer(_work, config, worker, num_workers, name, storage, order.disk_wait_s)
        outcome, problem = _drive(trainer, mailbox, reports, stop_requested)
    finally:
        faults, training = tear_down(mailbox)
    if problem is None:
        return outcome
    reason, dead, no_room = death(problem)
    for fault in faults:
        if fault.kind != "bug" or not dead:  # where a worker died, strange errors of the others follow
            raise fault.error()
    if no_room and not training:
        raise _NoRoom(reason)
    raise _Died(reason)


def _drive(
    trainer: Any, mailbox: Any, reports: Reporter, stop_requested: Callable[[], bool]
) -> tuple[dict[str, Any], Exception | None]:
    """Run the trainer in a thread; pass reports on and answers back in this one."""
    outcome: dict[str, Any] = {}
    problem: list[Exception] = []

    def fit() -> None:
        try:
            outcome.update(trainer.fit().return_value)
        except Exception as error:
            problem.append(error)

    thread = threading.Thread(target=fit, name="jetsweep-ray-train", daemon=True)
    thread.start()
    asked = False
    try:
        while thread.is_alive():
            asked = asked or stop_requested()
            if asked and ray.get(mailbox.request_stop.remote()):
                raise _StoppedBeforeTraining
            taken = ray.get(mailbox.take.remote(_POLL_S))
            if taken is None:
                continue
            metrics, checkpoint = taken
            stop = reports(metrics, None if checkpoint is None else Path(checkpoint))
            ray.get(mailbox.answer.remote(bool(stop)))
    except ray.exceptions.RayError as error:  # the mailbox is gone, and neither workers nor controller go on without it
        problem.append(error)
    except _StoppedBeforeTraining:
        raise
    except BaseException:
        # whatever ended the driver's side, the workers save before they go
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(mailbox.request_stop.remote())
            ray.get(mailbox.answer.remote(True))
        thread.join()
        raise
    thread.join()
    return outcome, problem[0] if problem else None


def worker_resources(spec: TrialSpec, use_gpu: bool | None = None) -> dict[str, float]:
    """Ray resources of one worker."""
    gpus = spec.resources.gpus_per_worker
    if gpus == "auto":
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0 if use_gpu is None else use_gpu
        gpus = 1.0 if has_gpu else 0.0
    return {"CPU": spec.resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})


def _wait_for_room(workers: int, worker: dict[str, float], until: float, stop_requested: Callable[[], bool]) -> None:
    """Wait until the cluster could hold the workers, as it may not after the loss of a node."""
    while True:
        try:
            return require_fit(workers, worker)
        except ResourceError:
            if time.monotonic() > until:
                raise
        if stop_requested():
            raise _StoppedBeforeTraining
        time.sleep(_POLL_S)


def require_fit(workers: int, worker: dict[str, float]) -> None:
    """Refuse a worker group that the whole cluster could not hold even when empty; counted node by node.

    Raises
    ------
    ResourceError
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(min(int(node.get(k, 0) / need + 1e-9) for k, need in worker.items() if need) for node in nodes)
    if slots < workers:
        have = "; ".join(", ".join(f"{node.get(k, 0):g} {k}" for k in ("CPU", "GPU")) for node in nodes)
        need = ", ".join(f"{amount:g} {k}" for k, amount in worker.items())
        raise ResourceError(
            f"resources.workers: {workers} workers of {need} each do not fit this cluster, which has room for {slots} "
            f"({len(nodes)} nodes: {have})"
        )
