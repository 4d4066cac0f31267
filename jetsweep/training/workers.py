"""One trial on several workers through Ray Train V2; the only file of the training room that knows Ray.

The driver (a Tune trial's process, or any other) owns a small mailbox actor. Rank 0 puts each epoch's metrics there and
waits for the driver's answer, so a stop reaches the loop, the loop saves `last` and returns, Ray Train takes the worker
group down by itself, and no placement group is left behind (ray#54305).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray

from jetsweep.errors import JetsweepError, ResourceError
from jetsweep.training.config import TrialSpec
from jetsweep.training.reporter import Metrics, Reporter
from jetsweep.training.run import TrainResult, train
from jetsweep.training.world import World, default_device

_POLL_S = 0.2
_STOP_POLL_STEPS = 10
"""Steps between two questions of a worker whether the driver wants to stop."""


class _Mailbox:
    """Actor between rank 0 and the driver: one report at a time, answered before training goes on."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[tuple[Metrics, str | None]] = asyncio.Queue()
        self.answers: asyncio.Queue[bool] = asyncio.Queue()
        self.stop = False

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

    async def request_stop(self) -> None:
        """Make the workers stop at their next question."""
        self.stop = True

    async def stop_requested(self) -> bool:
        """Whether the driver wants to stop."""
        return self.stop


@dataclass(frozen=True)
class _Order:
    """What a worker needs; plain data, since it travels to other nodes."""

    spec: dict[str, Any]
    workdir: str
    data_root: str
    resume: bool


class _StopQuestion:
    """Asks the mailbox every few steps, since each question is a message to another process."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox, self.calls = mailbox, 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls % _STOP_POLL_STEPS == 1 and bool(ray.get(self.mailbox.stop_requested.remote()))


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """Train on one worker; returns the result, or the one sentence of a user's mistake."""
    import ray.train

    order, mailbox = _Order(**config["order"]), config["mailbox"]
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), default_device())

    def report(metrics: Metrics, checkpoint: Path | None) -> bool:
        return bool(ray.get(mailbox.report.remote(metrics, None if checkpoint is None else str(checkpoint))))

    restarted = Path(order.workdir, ".started").exists()
    world.barrier()
    if world.is_first:
        Path(order.workdir).mkdir(parents=True, exist_ok=True)
        Path(order.workdir, ".started").touch()
    try:
        result = train(
            TrialSpec.model_validate(order.spec),
            Path(order.workdir),
            Path(order.data_root),
            report,
            world=world,
            resume=order.resume or restarted,
            stop_requested=_StopQuestion(mailbox) if world.is_first else None,
        )
    except JetsweepError as error:  # no failure of the machine: trying again would not help
        return {"error": str(error)}
    return {"result": asdict(result)}


def run_distributed(
    spec: TrialSpec,
    workdir: Path,
    data_root: Path,
    on_report: Reporter,
    stop_requested: Callable[[], bool] | None = None,
    *,
    resume: bool = True,
    max_failures: int = 0,
    use_gpu: bool | None = None,
    name: str | None = None,
) -> TrainResult:
    """Train one trial on ``spec.resources.workers`` workers of the connected Ray cluster.

    Parameters
    ----------
    spec : TrialSpec
    workdir, data_root : Path
        On a filesystem that all nodes share.
    on_report : Reporter
        Called in the calling thread of this process after every epoch; its answer True ends training.
    stop_requested : callable, optional
        Asked a few times per second here; True makes the loop save `last` and return "asked".
    resume : bool
        Continue from ``checkpoints/last``; workers that Ray restarts always do.
    max_failures : int
        Worker failures after which the worker group is started again.
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
        If the trial is not possible, if the workers do not fit the cluster, or if they failed more than
        `max_failures` times.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workdir, data_root = Path(workdir).absolute(), Path(data_root).absolute()  # workers change directory
    worker = worker_resources(spec, use_gpu)
    require_fit(spec.resources.workers, worker)
    (workdir / ".started").unlink(missing_ok=True)
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    order = _Order(spec.model_dump(mode="json"), str(workdir), str(data_root), resume)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"order": asdict(order), "mailbox": mailbox},
        torch_config=TorchConfig(backend="nccl" if worker.get("GPU") else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=spec.resources.workers, use_gpu=bool(worker.get("GPU")), resources_per_worker=worker
        ),
        run_config=RunConfig(
            name=name or workdir.name,
            storage_path=str(workdir / "ray-train"),
            failure_config=FailureConfig(
                max_failures=max_failures, controller_failure_limit=2, max_preemption_failures=max(2, max_failures)
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        outcome = _drive(trainer, mailbox, on_report, stop_requested)
    finally:
        (workdir / ".started").unlink(missing_ok=True)
        ray.kill(mailbox)
    if "error" in outcome:
        raise JetsweepError(outcome["error"])
    return TrainResult(**outcome["result"])


def _drive(
    trainer: Any, mailbox: Any, on_report: Reporter, stop_requested: Callable[[], bool] | None
) -> dict[str, Any]:
    """Run the trainer in a thread; pass reports on and answers back in this one."""
    outcome: dict[str, Any] = {}
    problem: list[BaseException] = []

    def fit() -> None:
        try:
            outcome.update(trainer.fit().return_value)
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=fit, name="jetsweep-ray-train", daemon=True)
    thread.start()
    asked = False
    try:
        while thread.is_alive():
            if not asked and stop_requested is not None and stop_requested():
                asked = True
                ray.get(mailbox.request_stop.remote())
            taken = ray.get(mailbox.take.remote(_POLL_S))
            if taken is None:
                continue
            metrics, checkpoint = taken
            stop = on_report(metrics, None if checkpoint is None else Path(checkpoint))
            ray.get(mailbox.answer.remote(bool(stop)))
    except BaseException:
        # whatever ended the driver's side, the worker group goes first
        ray.get(mailbox.request_stop.remote())
        ray.get(mailbox.answer.remote(True))
        thread.join()
        raise
    thread.join()
    if problem:
        raise JetsweepError(f"training on several workers failed: {_reason(problem[0])}") from problem[0]
    return outcome


def _reason(error: BaseException) -> str:
    """The first worker's own exception, in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    inner = next(iter(failures.values()), error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return lines[-1] if lines else type(inner).__name__


def worker_resources(spec: TrialSpec, use_gpu: bool | None = None) -> dict[str, float]:
    """Ray resources of one worker."""
    gpus = spec.resources.gpus_per_worker
    if gpus == "auto":
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0 if use_gpu is None else use_gpu
        gpus = 1.0 if has_gpu else 0.0
    return {"CPU": spec.resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})


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
