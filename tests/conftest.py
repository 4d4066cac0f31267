"""Fixtures that several rooms share."""

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """One Ray cluster of two CPUs for the whole test run."""
    import ray

    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()
