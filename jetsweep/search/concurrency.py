"""How many trials fit on a cluster at once, counted node by node, and what each may use."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetsweep.errors import ResourceError

if TYPE_CHECKING:
    from jetsweep.training.config import ResourcesConfig

Node = Mapping[str, float]
"""Resources of one machine: ``{"CPU": 64, "GPU": 4}``."""


@dataclass(frozen=True)
class Concurrency:
    """What runs at once.

    Parameters
    ----------
    trials : int
        Trials at once.
    fits : int
        Trials that would fit at once, however many are wanted.
    workers : int
        Processes of each trial.
    worker : mapping
        Resources that each worker reserves.
    threads : int
        Threads of each worker, so that the trials together use the cores and no more.
    now : int, optional
        Trials at once on the nodes that are there, if an autoscaler has to add some for the others.
    """

    trials: int
    fits: int
    workers: int
    worker: Mapping[str, float]
    threads: int
    now: int | None = None

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What all workers reserve together, one mapping for each."""
        return [dict(self.worker) for _ in range(self.trials * self.workers)]

    def __str__(self) -> str:
        gpus = self.worker.get("GPU", 0)
        each = f"{self.worker['CPU']:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        trials = "1 trial" if self.trials == 1 else f"{self.trials} trials"
        now = "" if self.now is None else f" ({self.now} now, the others as the autoscaler adds nodes)"
        return f"{trials} at once{now}, each with {workers} of {each}, {self.threads} threads per worker"


def concurrent_trials(nodes: Sequence[Node], worker: Mapping[str, float], workers: int) -> int:
    """Worker groups that fit at once; a worker cannot straddle nodes, a group can.

    Parameters
    ----------
    nodes : sequence of mappings
        Resources of each node.
    worker : mapping
        Resources of one worker.
    workers : int
        Workers of one trial.

    Examples
    --------
    >>> concurrent_trials([{"CPU": 6}, {"CPU": 6}], {"CPU": 4}, 1)
    2
    """
    return sum(_slots(node, worker) for node in nodes) // workers


def _slots(node: Node, worker: Mapping[str, float]) -> int:
    # the small number keeps 0.3 / 0.1 from being 2
    return min(int(node.get(kind, 0.0) / need + 1e-9) for kind, need in worker.items() if need > 0)


def local_nodes() -> list[dict[str, float]]:
    """Resources of this machine as a cluster of one node, without starting Ray."""
    import torch

    node = {"CPU": float(usable_cpus())}
    gpus = torch.cuda.device_count()
    return [node | {"GPU": float(gpus)}] if gpus else [node]


def usable_cpus() -> int:
    """CPUs that this process may run on: batch systems and containers give fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cluster_nodes() -> list[dict[str, float]]:
    """Resources of each living node of the cluster that Ray is connected to."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{kind: float(node.get(kind, 0.0)) for kind in ("CPU", "GPU")} for node in nodes]


def addable_nodes(nodes: Sequence[Node], resources: ResourcesConfig) -> list[Node]:
    """Nodes that the autoscaler may add to those that are there, as ``resources.autoscaler`` says.

    Parameters
    ----------
    nodes : sequence of mappings
        Living nodes; those like a group's are taken for nodes of that group.
    resources : ResourcesConfig
    """
    left: list[Node] = []
    for group in resources.autoscaler:
        kind = {"CPU": group.cpus, "GPU": group.gpus}
        there = sum(all(node.get(name, 0.0) == amount for name, amount in kind.items()) for node in nodes)
        left += [kind] * max(0, group.max - there)
    return left


def plan_concurrency(nodes: Sequence[Node], resources: ResourcesConfig, trials: int) -> Concurrency:
    """Decide how many trials run at once and what each may use.

    Parameters
    ----------
    nodes : sequence of mappings
        From `local_nodes` or `cluster_nodes`.
    resources : ResourcesConfig
    trials : int
        Trials of the sweep.

    Raises
    ------
    ResourceError
        If not even one trial fits; nothing would ever start.
    """
    gpus = resources.gpus_per_worker
    addable = addable_nodes(nodes, resources)
    all_nodes = [*nodes, *addable]
    if gpus == "auto":
        gpus = 1.0 if any(node.get("GPU", 0.0) >= 1 for node in nodes) else 0.0
    worker = {"CPU": float(resources.cpus_per_worker)} | ({"GPU": float(gpus)} if gpus else {})
    fits = concurrent_trials(all_nodes, worker, resources.workers)
    have = _have(nodes) + (f", and its autoscaler may add {_have(addable)}" if addable else "")
    asked = resources.concurrent_trials
    if fits == 0:
        raise ResourceError(f"resources: a trial needs {_words(resources.workers, worker)}, the cluster has {have}")
    if asked != "auto" and asked > fits:
        raise ResourceError(
            f"resources.concurrent_trials: {asked} asked for, but trials of {_words(resources.workers, worker)} fit "
            f"{fits} at once on {have}; use {fits} or auto"
        )
    running = min(fits if asked == "auto" else asked, trials)
    now = concurrent_trials(nodes, worker, resources.workers)
    threads = _threads(all_nodes, worker, running * resources.workers)
    return Concurrency(running, fits, resources.workers, worker, threads, now if now < running else None)


def _threads(nodes: Sequence[Node], worker: Mapping[str, float], workers: int) -> int:
    """Threads of each of so many workers: what they reserved, or more where cores of a single node would idle.

    On several nodes the workers' places are not known, so they keep to what they reserved.
    """
    reserved = max(1, math.floor(worker["CPU"]))
    if len(nodes) != 1:
        return reserved
    return max(reserved, math.floor(nodes[0].get("CPU", 0.0) / workers))


def _words(workers: int, worker: Mapping[str, float]) -> str:
    each = " and ".join(f"{need:g} {kind}" for kind, need in worker.items())
    return f"{workers} worker{'s' if workers > 1 else ''} of {each}{' each' if workers > 1 else ''}"


def _have(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "no living node"
    kinds: dict[str, int] = {}
    for node in nodes:
        text = " and ".join(f"{node.get(kind, 0.0):g} {kind}" for kind in ("CPU", "GPU"))
        kinds[text] = kinds.get(text, 0) + 1
    return ", ".join(f"{count} node{'s' if count > 1 else ''} of {text}" for text, count in kinds.items())
