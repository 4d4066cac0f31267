"""Fixtures that several rooms share."""

import importlib.util
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("jetsweep", deadline=None)  # a machine may be slow
settings.load_profile("jetsweep")


@pytest.fixture(scope="session")
def ray_cluster():
    """One Ray cluster of two CPUs for the whole test run."""
    import ray

    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def processes():
    """Context for processes that begin in a fork of a server which has imported PyTorch, instead of importing it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch.distributed", "torch._dynamo", "jetsweep.training.run", "jetsweep.tasks.tagging"]
    )
    return context


@pytest.fixture(scope="session")
def two_ranks(processes):
    """Call ``function(rank, *arguments)`` in two processes and wait for them."""
    import torch.multiprocessing as mp

    def run(function, arguments):
        mp.start_processes(function, arguments, nprocs=2, start_method="forkserver")

    return run


@pytest.fixture(scope="session")
def sweeps():
    """Helpers that run and track a sweep on toy jets without Ray: ``tests/tracking/sweeps.py``."""
    spec = importlib.util.spec_from_file_location("jetsweep_test_sweeps", Path(__file__).parent / "tracking/sweeps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_sweep(sweeps, tmp_path_factory):
    """A tracked sweep of a PFN and an EFN that finished, a pruned and a failed trial: (its folder, mlflow.json).

    Its data are in ``data`` beside the folder of sweeps. Tests do not change it.
    """
    root = tmp_path_factory.mktemp("toy-sweep")
    return sweeps.complete_sweep(root / "runs", root / "data")
