"""Worker groups of Ray Train V2: how one is started, why it ended, and how nothing is left of it.

Ray removes a dead controller's placement group by a detached actor that asks the dashboard whether the controller
lives; clusters without a dashboard keep such a group for ever, and the actor as well. Here the driver removes it, and
asks the head's own tables, which every cluster has.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from jetsweep.training.faults import Fault
from jetsweep.training.mailbox import Mailbox

_GONE_S = 60.0
_POLL_S = 0.05
_COLLECTIVE_S = 1800.0


def start_mailbox() -> Any:
    """A mailbox on this node: it shall not die with another."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()


def make_trainer(
    work: Callable[[dict[str, Any]], Any],
    config: dict[str, Any],
    worker: dict[str, float],
    num_workers: int,
    name: str,
    storage: Path,
    disk_wait_s: float,
) -> Any:
    """A trainer that gives up at the first failure and makes its controller known to ``config["mailbox"]``.

    Parameters
    ----------
    work : callable
        Runs on each worker with `config`.
    config : dict
    worker : dict
        Ray resources of each worker.
    num_workers : int
    name : str
    storage : Path
        Folder that Ray Train asks for; nothing of ours is in there.
    disk_wait_s : float
        How long rank 0 may wait for room on a full disk while the other ranks wait for it.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.callback import ControllerCallback

    mailbox = config["mailbox"]
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one process less: a node taken away is a death

    class Introduction(ControllerCallback):  # type: ignore[misc]
        def after_controller_start(self, train_run_context: Any) -> None:
            ray.get(mailbox.add_controller.remote(ray.get_runtime_context().current_actor))

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]

    class Rendezvous(TorchConfig().backend_cls):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(_name_interface)
            super().on_start(worker_group, backend_config)

    class Network(TorchConfig):  # type: ignore[misc]
        backend_cls = Rendezvous

    gpu = bool(worker.get("GPU"))
    return Trainer(
        work,
        train_loop_config=config,
        torch_config=Network("nccl" if gpu else "gloo", timeout_s=int(_COLLECTIVE_S + disk_wait_s)),
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=gpu, resources_per_worker=worker),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=[Introduction()],
        ),
    )


def _name_interface() -> None:
    """Let gloo talk where Ray does; by itself it takes what the host's name leads to, which may be this host alone."""
    import psutil

    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address == address for found in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def death(problem: Exception) -> tuple[str, bool, bool]:
    """Why `fit` failed: in words; whether a process or node died; whether there was no room for the workers."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError
    from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

    if isinstance(problem, WorkerGroupError):
        failures = sorted(problem.worker_failures.items())
        for rank, error in failures:
            if isinstance(error, WorkerHealthCheckFailedError):
                return f"the worker of rank {rank}: {_cause(error.health_check_failure)}", True, False
        for rank, error in failures:
            return f"the worker of rank {rank}: {_line(error)}", False, False
    if isinstance(problem, PreemptionError):
        return "a node was taken away", True, False
    if isinstance(problem, ControllerError):
        failure = problem.controller_failure
        no_room = isinstance(failure, WorkerGroupStartupTimeoutError)
        return ("no room for the workers" if no_room else f"the controller: {_line(failure)}"), False, no_room
    if isinstance(problem, ray.exceptions.RayActorError):
        return f"the controller or its mailbox: {_cause(problem)}", True, False
    return _line(problem), False, False


def _cause(error: Exception) -> str:
    text = str(error)
    if "node has died" in text or "node was terminated" in text:
        return "its node was lost"
    if "running low on memory" in text:
        return "killed since its node ran low on memory"
    return "its process was killed or crashed"


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def tear_down(mailbox: Any) -> tuple[list[Fault], bool]:
    """End all that is left of an attempt, its placement group included.

    Returns
    -------
    faults : list of Fault
        What its workers told.
    training : bool
        Whether any worker ran.
    """
    faults, controllers, training = [], [], True
    with contextlib.suppress(ray.exceptions.RayError):  # with the mailbox, this node's other actors are gone too
        faults, controllers, training = ray.get(mailbox.left.remote(), timeout=_GONE_S)
    creators = set()
    for controller in controllers:
        ray.kill(controller)
        creators.add(controller._actor_id.hex())
    end = time.monotonic() + _GONE_S
    while time.monotonic() < end:
        alive = any(ray._private.state.actors(creator).get("State", "DEAD") != "DEAD" for creator in creators)
        if not _remove_groups(lambda group: group.creator_actor_id.hex() in creators) and not alive:
            break
        time.sleep(_POLL_S)
    ray.kill(mailbox)
    return faults, training


def remove_orphaned_groups() -> int:
    """Remove this job's placement groups whose creating actor is dead, as after the kill of a trial's process.

    Returns
    -------
    int
        Groups that were there.
    """
    job = ray.get_runtime_context().get_job_id()
    return _remove_groups(lambda group: group.creator_actor_dead and group.creator_job_id.hex() == job)


def _remove_groups(unwanted: Callable[[Any], bool]) -> int:
    """Ask for the removal of groups; returns how many are not removed yet."""
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    found = 0
    # what `ray.util.placement_group_table` reads; that function leaves the creator out
    for content in ray._private.state.state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(content)
        if ray.ActorID(group.creator_actor_id).is_nil():  # made by a driver, which counts as a dead actor
            continue
        if group.state != PlacementGroupTableData.REMOVED and unwanted(group):
            found += 1
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return found
