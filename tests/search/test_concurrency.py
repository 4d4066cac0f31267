import pytest

from jetsweep.errors import ResourceError
from jetsweep.search.concurrency import concurrent_trials, plan_concurrency
from jetsweep.training.config import ResourcesConfig


@pytest.mark.parametrize(
    ("nodes", "worker", "workers", "fits"),
    [
        ([{"CPU": 6}, {"CPU": 6}], {"CPU": 4}, 1, 2),  # totals would say three
        ([{"CPU": 6}, {"CPU": 6}], {"CPU": 4}, 2, 1),  # a group may straddle nodes, a worker may not
        ([{"CPU": 2}], {"CPU": 0.5}, 2, 2),
        ([{"CPU": 0.3}], {"CPU": 0.1}, 1, 3),
        ([{"CPU": 64, "GPU": 4}, {"CPU": 64}], {"CPU": 8, "GPU": 1}, 1, 4),
        ([{"CPU": 64, "GPU": 1}], {"CPU": 8, "GPU": 0.25}, 1, 4),
        ([], {"CPU": 1}, 1, 0),
    ],
)
def test_groups_that_fit_at_once(nodes, worker, workers, fits):
    assert concurrent_trials(nodes, worker, workers) == fits


def test_two_cores_run_two_trials_of_one_thread():
    plan = plan_concurrency([{"CPU": 2}], ResourcesConfig(), trials=8)
    assert (plan.trials, plan.threads, dict(plan.worker)) == (2, 1, {"CPU": 1.0})


def test_a_lone_trial_uses_cores_that_would_idle():
    assert plan_concurrency([{"CPU": 2}], ResourcesConfig(), trials=1).threads == 2
    assert plan_concurrency([{"CPU": 8}], ResourcesConfig(concurrent_trials=2, workers=2), trials=9).threads == 2


def test_auto_takes_a_gpu_where_there_is_one():
    plan = plan_concurrency([{"CPU": 16, "GPU": 2}], ResourcesConfig(), trials=8)
    assert (plan.trials, plan.worker["GPU"]) == (2, 1.0)


def test_what_can_never_fit_is_refused_with_the_numbers():
    with pytest.raises(
        ResourceError, match=r"needs 3 workers of 1 CPU each, the cluster has 1 node of 2 CPU and 0 GPU"
    ):
        plan_concurrency([{"CPU": 2}], ResourcesConfig(workers=3), trials=1)
    with pytest.raises(ResourceError, match="1 GPU"):
        plan_concurrency([{"CPU": 2}], ResourcesConfig(gpus_per_worker=1), trials=1)
    with pytest.raises(ResourceError, match=r"concurrent_trials: 5 asked for, but trials of .* fit 2 at once"):
        plan_concurrency([{"CPU": 2}], ResourcesConfig(concurrent_trials=5), trials=9)


NODES = [{"CPU": 4}]
MORE = ResourcesConfig(cpus_per_worker=4, workers=2, autoscaler=[{"max": 5, "cpus": 8}, {"max": 1, "cpus": 4}])


def test_an_autoscaler_may_add_what_is_not_there_yet():
    plan = plan_concurrency(NODES, MORE, trials=9)
    assert (plan.trials, plan.fits, plan.now) == (5, 5, 0)  # 1 + 5 x 2 workers, two for each trial
    assert len(plan.bundles) == 10
    assert str(plan).startswith("5 trials at once (0 now, the others as the autoscaler adds nodes), each with 2")
    assert plan_concurrency([*NODES, *[{"CPU": 8}] * 5], MORE, trials=9).now is None
    assert plan_concurrency([*NODES, *[{"CPU": 8}] * 3], MORE, trials=9).now == 3


def test_what_even_an_autoscaler_cannot_give_is_refused():
    with pytest.raises(ResourceError, match="its autoscaler may add 5 nodes of 8 CPU and 0 GPU"):
        plan_concurrency(NODES, MORE.model_copy(update={"cpus_per_worker": 16.0}), trials=1)
