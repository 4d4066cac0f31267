"""Real deaths under Ray: the trial goes on as if nothing had happened, or ends with a sentence; nothing is left."""

import os
import signal
import time

import psutil
import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.training import train
from jetsweep.training.checkpoint import read_weights
from jetsweep.training.faults import WorkerError
from jetsweep.training.history import read_history
from jetsweep.training.memory import OutOfMemory
from jetsweep.training.restarts import note_restart, restarts

pytestmark = [
    pytest.mark.ray,
    # Ray Data warns about its own defaults when Ray Train imports it
    pytest.mark.filterwarnings("ignore:.use_.* is deprecated:DeprecationWarning"),
]


def processes(title):
    """Ids of this cluster's processes of an actor class."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE and title in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def kill(title):
    """Kill all processes of an actor class but the first, or the only one."""
    victims = sorted(processes(title))
    assert victims, f"no process {title}"
    os.kill(victims[-1], signal.SIGKILL)


def assert_nothing_left():
    from ray.util import placement_group_table

    assert [group for group in placement_group_table().values() if group["state"] != "REMOVED"] == []
    titles = ("RayTrainWorker", "TrainController", "PlacementGroupCleaner", "Mailbox")
    end = time.monotonic() + 60  # a killed process takes a moment
    while (left := {title: processes(title) for title in titles}) and any(left.values()):
        assert time.monotonic() < end, left
        time.sleep(0.1)


@pytest.fixture
def spec(make_spec):
    def make(cpus=1.0, max_restarts=3, **training):
        one = make_spec({"name": "pfn", "phi_sizes": [16, 16], "f_sizes": [16], "f_dropout": 0.2}, **training)
        resources = {"workers": 2, "cpus_per_worker": cpus, "gpus_per_worker": 0.0, "max_restarts": max_restarts}
        return one.model_copy(update={"resources": one.resources.model_copy(update=resources)})

    return make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed")


def weights(folder):
    return read_weights(folder / "checkpoints" / "last")[0]


def run(spec, folder, data_root, on_report=lambda m, c: False, **more):
    from jetsweep.training.workers import run_distributed

    try:
        return run_distributed(spec, folder, data_root, on_report, **more)
    finally:
        assert_nothing_left()


def assert_as_undisturbed(spec, folder, undisturbed, data_root):
    if not (undisturbed / "result.json").exists():
        run(spec, undisturbed, data_root)
    expected, found = weights(undisturbed), weights(folder)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    rows = read_history(folder / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for a, b in zip(rows, read_history(undisturbed / "history.jsonl"), strict=True):
        assert {k: v for k, v in a.items() if k != "time/epoch_s"} == {
            k: v for k, v in b.items() if k != "time/epoch_s"
        }


@pytest.mark.parametrize("victim", ["RayTrainWorker", "TrainController", "Mailbox"])
def test_a_killed_process_costs_no_more_than_time(ray_cluster, spec, data_root, tmp_path, undisturbed, victim):
    rows = []

    def report(metrics, checkpoint):
        rows.append(metrics)
        if metrics["epoch"] == 2 and restarts(tmp_path) == 0:
            kill(victim)
        return False

    result = run(spec(), tmp_path, data_root, report)
    assert (result.stopped_because, result.epoch, result.restarts) == ("budget", 3, 1)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert_as_undisturbed(spec(), tmp_path, undisturbed, data_root)


def test_a_worker_killed_within_an_epoch(ray_cluster, spec, data_root, tmp_path, undisturbed):
    """Before the first checkpoint, so that training begins again from the start."""
    killed = []

    def stop_requested():
        if not killed and len(processes("RayTrainWorker")) == 2 and (tmp_path / "owner.json").exists():
            kill("RayTrainWorker")
            killed.append(True)
        return False

    rows = []
    result = run(
        spec(), tmp_path, data_root, lambda m, c: rows.append(m["epoch"]) or False, stop_requested=stop_requested
    )
    assert (result.stopped_because, result.restarts, rows) == ("budget", 1, [1, 2, 3])
    assert_as_undisturbed(spec(), tmp_path, undisturbed, data_root)


def test_too_many_deaths_are_one_sentence(ray_cluster, spec, data_root, tmp_path):
    def report(metrics, checkpoint):
        kill("RayTrainWorker")
        return False

    for number in range(3):
        note_restart(tmp_path, f"death {number}")
    with pytest.raises(JetsweepError, match=r"a worker died 4 times \(last: the worker of rank .: its process was kil"):
        run(spec(), tmp_path, data_root, report)
    assert restarts(tmp_path) == 3


def test_an_error_of_the_code_is_not_tried_again(ray_cluster, spec, data_root, tmp_path, monkeypatch):
    from jetsweep.training import workers

    work = workers._work

    def broken(config):
        import ray.train

        from jetsweep.training.loop import TrainingLoop

        def step(self, micro_batches):
            raise KeyError("no such column")

        if ray.train.get_context().get_world_rank() == 1:  # rank 0 waits for gradients that never come
            TrainingLoop._step = step
        return work(config)

    monkeypatch.setattr(workers, "_work", broken)
    with pytest.raises(WorkerError, match="KeyError: 'no such column'") as caught:
        run(spec(), tmp_path, data_root)
    assert "in step" in caught.value.__notes__[0]
    assert restarts(tmp_path) == 0


@pytest.mark.parametrize("what", ["fail", "halve"])
def test_memory_that_runs_out_on_one_rank(ray_cluster, spec, data_root, tmp_path, monkeypatch, what):
    from jetsweep.training import workers

    work = workers._work

    def small(config):
        import ray.train
        import torch

        from jetsweep.training.loop import TrainingLoop

        backward = TrainingLoop._backward

        def limited(self, phase, batches):
            if len(batches["main"]) > 24 and self.progress.step >= 7:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return backward(self, phase, batches)

        if ray.train.get_context().get_world_rank() == 1:
            TrainingLoop._backward = limited
        return work(config)

    monkeypatch.setattr(workers, "_work", small)
    if what == "fail":
        with pytest.raises(
            OutOfMemory, match=r"out of memory on cpu .* with micro-batches of 96 jets .* over 2 workers"
        ):
            run(spec(), tmp_path, data_root)
        return
    rows = []
    result = run(spec(on_out_of_memory=what), tmp_path, data_root, lambda m, c: rows.append(m["epoch"]) or False)
    assert (result.stopped_because, result.accumulate, result.restarts, rows) == ("budget", 2, 0, [1, 2, 3])


def test_a_stop_before_any_worker_runs(ray_cluster, spec, data_root, tmp_path):
    train(spec(epochs=1), tmp_path, data_root)
    result = run(spec(), tmp_path, data_root, stop_requested=lambda: True)
    assert (result.stopped_because, result.epoch, result.best["epoch"]) == ("asked", 1, 1)
    assert result.parameters > 0


def test_only_groups_of_dead_actors_are_orphans(ray_cluster):
    import ray
    from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

    from jetsweep.training.groups import remove_orphaned_groups

    class Maker:
        def make(self):
            self.group = placement_group([{"CPU": 0.1}])
            return self.group.id.hex()

    makers = [ray.remote(num_cpus=0)(Maker).remote() for _ in range(2)]
    orphan, kept = ray.get([maker.make.remote() for maker in makers])
    mine = placement_group([{"CPU": 0.1}])
    ray.kill(makers[0])
    while not remove_orphaned_groups():  # the head learns of the death in a moment
        pass
    states = {name: group["state"] != "REMOVED" for name, group in placement_group_table().items()}
    assert (states[kept], states[mine.id.hex()]) == (True, True)
    while placement_group_table()[orphan]["state"] != "REMOVED":
        pass
    ray.kill(makers[1])
    while not remove_orphaned_groups():
        pass
    remove_placement_group(mine)
    while placement_group_table(mine)["state"] != "REMOVED":
        pass
