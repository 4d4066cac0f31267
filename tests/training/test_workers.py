"""Ray Train: the same curve with two workers, orderly stops, nothing left behind."""

import pytest

from jetsweep.errors import JetsweepError, ResourceError
from jetsweep.training import train
from jetsweep.training.history import read_history

pytestmark = [
    pytest.mark.ray,
    # Ray Data warns about its own defaults when Ray Train imports it
    pytest.mark.filterwarnings("ignore:.use_.* is deprecated:DeprecationWarning"),
]


def groups_left():
    from ray.util import placement_group_table

    return [group for group in placement_group_table().values() if group["state"] != "REMOVED"]


def with_workers(spec, workers, cpus=1.0):
    resources = spec.resources.model_copy(update={"workers": workers, "cpus_per_worker": cpus, "gpus_per_worker": 0.0})
    return spec.model_copy(update={"resources": resources})


def test_two_workers_equal_one_and_leave_nothing(ray_cluster, make_spec, data_root, tmp_path):
    from jetsweep.training.workers import run_distributed

    spec, rows = make_spec(epochs=3, batch_size=96), []
    train(spec, tmp_path / "one", data_root)

    def report(metrics, checkpoint):
        rows.append(metrics)
        return metrics["epoch"] == 2

    two = with_workers(spec, 2)
    result = run_distributed(two, tmp_path / "two", data_root, report)
    assert (result.stopped_because, result.epoch) == ("asked", 2)
    assert groups_left() == []
    result = run_distributed(two, tmp_path / "two", data_root, lambda m, c: rows.append(m) or False)
    assert (result.stopped_because, result.epoch) == ("budget", 3)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert groups_left() == []
    assert result.test
    one = read_history(tmp_path / "one" / "history.jsonl")
    for a, b in zip(one, rows, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)
        assert a["val/loss"] == pytest.approx(b["val/loss"], rel=1e-4)


def test_a_mistake_on_the_workers_is_one_sentence(ray_cluster, make_spec, data_root, tmp_path):
    from jetsweep.training.workers import run_distributed

    spec = with_workers(make_spec(epochs=1, monitor={"metric": "val/acu"}), 2, cpus=0.5)
    with pytest.raises(JetsweepError, match="found 'val/acu'"):
        run_distributed(spec, tmp_path, data_root, lambda m, c: False)
    assert groups_left() == []


def test_more_workers_than_fit_are_refused_at_once(ray_cluster, make_spec, data_root, tmp_path):
    from jetsweep.training.workers import run_distributed

    with pytest.raises(ResourceError, match="99 workers of 1 CPU each do not fit this cluster"):
        run_distributed(with_workers(make_spec(), 99), tmp_path, data_root, lambda m, c: False)
