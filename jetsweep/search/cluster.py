"""A Ray cluster for a sweep: an existing one, or one on this machine for as long as it is needed."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator

import psutil

from jetsweep.errors import ResourceError
from jetsweep.search.concurrency import local_nodes

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard copies of what jetsweep keeps itself
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the sweep has its own
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial may end without any metric
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Tune's own state is never read
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # training is the work; Ray's 15 lets whatever else runs go first
    # threads that wait give their core up soon: beside one busy process, spinning doubled the time of an epoch
    "GOMP_SPINCOUNT": "2000",
    # trials train in a thread that is not their process's first; its own arena glibc gives back and takes anew for ever
    "MALLOC_ARENA_MAX": "1",
}
"""Environment of a sweep and of the cluster that it starts."""

_OF_WORKERS = ("GOMP_SPINCOUNT", "MALLOC_ARENA_MAX")
"""Of these what workers on a cluster that somebody else started are given; the rest is read by drivers and raylets."""

_M_ARENA_MAX = -8  # from malloc.h
_EXIT_S = 5.0
"""Time that workers of an ended cluster have for their own exit."""

_OBJECT_STORE_BYTES = 200 * 1024**2
"""Datasets do not travel through Ray, so a local cluster needs little shared memory."""


def quiet() -> None:
    """Set Ray up for sweeps, the terminal left to the sweep's own table; what the user has set stays."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def few_arenas() -> None:
    """Let the driver's threads share two arenas of glibc's allocator, where that is the allocator.

    By default each of the dozens of threads of Ray and of tracking keeps an arena of freed memory of its own.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Be connected to a Ray cluster; one that is started here ends here.

    Workers on an existing cluster get the driver's settings of jetsweep (``JETSWEEP_…``) and those for speed.

    Parameters
    ----------
    address : str, optional
        Of an existing cluster; by default that of ``RAY_ADDRESS``. Without either a cluster of this machine is started.

    Raises
    ------
    ResourceError
        If the cluster cannot be reached or started.
    """
    quiet()
    few_arenas()
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            given = {name: x for name, x in os.environ.items() if name in _OF_WORKERS or name.startswith("JETSWEEP_")}
            ray.init(address, runtime_env={"env_vars": given}, log_to_driver=False, logging_level=logging.ERROR)
        else:
            (node,) = local_nodes()
            ray.init(
                "local",  # else Ray would look for a cluster that somebody has started here, and refuse the numbers
                num_cpus=int(node["CPU"]),
                num_gpus=int(node.get("GPU", 0)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
            )
    except Exception as error:  # Ray raises many kinds
        where = f"the Ray cluster at {address} cannot be reached" if address else "Ray cannot be started"
        raise ResourceError(f"{where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    raylets = {str(child.pid) for child in psutil.Process().children() if child.name() == "raylet"}
    try:
        yield
    finally:
        ray.shutdown()
        end_stragglers(raylets)


def end_stragglers(raylets: set[str]) -> None:
    """End workers that outlive their cluster: Ray 2.60 sometimes locks up in a worker's own exit, for ever.

    The worker has left its work by then: the lock is taken twice while the process tears its core down.

    Parameters
    ----------
    raylets : set of str
        Process ids of this cluster's raylets, as Ray writes them into the environment of workers.
    """
    left = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"].startswith("ray::") and process.environ().get("RAY_RAYLET_PID") in raylets:
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=_EXIT_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


@contextlib.contextmanager
def demanded(bundles: list[dict[str, float]]) -> Iterator[None]:
    """Have the cluster's autoscaler hold room for a sweep, and let it go at the end.

    The trials' own waiting is no demand that an autoscaler sees: several workers wait in their trial's process for
    nodes, before anything is reserved.

    Parameters
    ----------
    bundles : list of mappings
        What each worker reserves; with none this does nothing.
    """
    if not bundles:
        yield
        return
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)
    try:
        yield
    finally:
        request_resources(bundles=[])
