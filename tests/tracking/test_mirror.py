"""The mirror: repeated, killed anywhere, refused anywhere, it makes each run once and each step once."""

import importlib.util
import json
from pathlib import Path

import pytest

from jetsweep.errors import TrackingError
from jetsweep.tracking.client import open_client
from jetsweep.tracking.journal import SystemJournal, read_samples
from jetsweep.tracking.mirror import Mirror
from jetsweep.tracking.record import read_record
from jetsweep.tracking.store import MAX_METRICS, Point, RunStore
from jetsweep.tracking.sync import sync_sweep

specification = importlib.util.spec_from_file_location("jetsweep_test_folders", Path(__file__).parent / "folders.py")
by_hand = importlib.util.module_from_spec(specification)
specification.loader.exec_module(by_hand)

ONCE = {"parameters", "train_seconds", "inference_us_per_jet", "test/auc"}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One migrated database for all sweeps of this file."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def client(uri):
    return open_client(uri)


def mirror_of(sweep_dir, client, uri):
    return Mirror(client, uri, sweep_dir, read_record(sweep_dir))


class Killed(BaseException):
    """Like a kill: no `except Exception` sees it."""


class Counted:
    """A client whose n-th request, from 1, raises; before it is carried out or after."""

    def __init__(self, client, number=0, error=Killed, after=False):
        self.client, self.number, self.error, self.after, self.calls = client, number, error, after, []

    def __getattr__(self, name):
        def request(*arguments, **named):
            self.calls.append(name)
            fails = len(self.calls) == self.number
            if fails and not self.after:
                raise self.error
            answer = getattr(self.client, name)(*arguments, **named)
            if fails:
                raise self.error
            return answer

        return request


def events(sweep_dir):
    """A sweep of two trials: what happens to the folder, and what its driver then asks of the mirror."""
    return [
        (lambda: None, lambda m: m.update_sweep()),
        (lambda: by_hand.begin_trial(sweep_dir, 0), lambda m: m.update_trial(0, runs=True)),
        (lambda: by_hand.train(sweep_dir, 0, 1, 2), lambda m: m.update_trial(0, runs=True)),
        (lambda: by_hand.sample(sweep_dir), lambda m: m.update_system()),
        (lambda: by_hand.begin_trial(sweep_dir, 1), lambda m: m.update_trial(1, runs=True)),
        (lambda: by_hand.train(sweep_dir, 1, 1, 1), lambda m: m.update_trial(1, runs=True)),
        (lambda: by_hand.train(sweep_dir, 0, 3, 3), lambda m: m.update_trial(0, runs=True)),
        (lambda: by_hand.end_trial(sweep_dir, 0), lambda m: m.update_trial(0)),
        (lambda: by_hand.end_trial(sweep_dir, 1, "PRUNED", "scheduler"), lambda m: m.update_trial(1)),
        (lambda: by_hand.sample(sweep_dir), lambda m: m.update_system()),
        (lambda: by_hand.end_sweep(sweep_dir), lambda m: m.close_all("KILLED")),
    ]


def check_complete(client, sweep_dir):
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert sweep.info.status == "FINISHED"
    assert {number: run.info.status for number, run in trials.items()} == {0: "FINISHED", 1: "KILLED"}
    by_hand.check_steps(client, trials[0], 3, ONCE)
    by_hand.check_steps(client, trials[1], 1)
    assert {"val/auc", "test/auc", "parameters"} <= trials[0].data.metrics.keys()
    assert [step for step, *_ in by_hand.histories(client, sweep)["system/cpu"]] == [0, 1]
    assert [step for step, *_ in by_hand.histories(client, sweep)["best/test/auc"]] == [0]
    for run in (sweep, *trials.values()):
        assert len(run.inputs.dataset_inputs) == 1
    assert trials[1].data.params["drawn:training.lr"] == "0.002"
    names = {item.path for item in client.list_artifacts(trials[0].info.run_id)}
    assert names == {"experiment.json", "params.json", "outcome.json", "result.json", "history.jsonl"}
    assert sweep.data.tags["mlflow.note.content"] == "| ★ pfn |"


def test_a_sweep_from_its_first_event_to_its_last(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    for change, deliver in events(sweep_dir):
        change()
        deliver(mirror)
    check_complete(client, sweep_dir)
    _, trials = by_hand.runs_of(client, sweep_dir)
    # times that follow from the epochs' lengths
    at = [time - trials[0].info.start_time for _, time, _ in by_hand.histories(client, trials[0])["val/auc"]]
    assert at == [2000, 4000, 6000]


def test_what_is_up_to_date_costs_no_writing_request(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    for change, deliver in events(sweep_dir):
        change()
        deliver(mirror)
    before = by_hand.content(client, sweep_dir)
    counted = Counted(client)
    assert mirror_of(sweep_dir, counted, uri).close_all("FAILED") == 0
    assert set(counted.calls) <= {"get_experiment", "search_runs"}
    assert len(counted.calls) == 2
    assert by_hand.content(client, sweep_dir) == before


def num_requests(client, uri, root):
    sweep_dir = by_hand.make_sweep(root, uri, name="counted")
    counted = Counted(client)
    mirror = mirror_of(sweep_dir, counted, uri)
    for change, deliver in events(sweep_dir):
        change()
        deliver(mirror)
    return len(counted.calls)


def test_a_driver_killed_between_any_two_requests_and_another_that_goes_on(client, uri, tmp_path):
    total = num_requests(client, uri, tmp_path)
    assert total > 20
    for number in range(1, total + 1):
        sweep_dir = by_hand.make_sweep(tmp_path, uri, name=f"killed-at-{number}")
        todo, was_killed = events(sweep_dir), False
        while todo:
            # killed drivers are followed by one that starts from the folder alone
            mortal = client if was_killed else Counted(client, number)
            try:
                mirror = mirror_of(sweep_dir, mortal, uri)
                while todo:
                    change, deliver = todo[0]
                    change()
                    todo[0] = (lambda: None, deliver)
                    deliver(mirror)
                    todo.pop(0)
            except Killed:
                was_killed = True
                # only what the folder says counts: in between, somebody syncs the dead sweep
                if number % 3 == 0:
                    sync_sweep(sweep_dir, uri)
                    sweep, trials = by_hand.runs_of(client, sweep_dir)
                    assert "RUNNING" not in {run.info.status for run in (sweep, *trials.values())}
        assert was_killed
        check_complete(client, sweep_dir)


def test_a_store_that_loses_any_answer(client, uri, tmp_path):
    """The request was carried out, its sender learns of an error and tries again with what it knows."""
    total = num_requests(client, uri, tmp_path)
    for number in range(1, total + 1):
        sweep_dir = by_hand.make_sweep(tmp_path, uri, name=f"lost-{number}")
        flaky = Counted(client, number, ConnectionError, after=True)
        mirror, errors = None, 0
        for change, deliver in events(sweep_dir):
            change()
            while True:
                try:
                    mirror = mirror or mirror_of(sweep_dir, flaky, uri)
                    deliver(mirror)
                    break
                except ConnectionError:
                    errors += 1
        assert errors == 1
        check_complete(client, sweep_dir)


def test_a_request_carried_out_long_after_it_was_given_up_makes_no_second_run(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    mirror.update_sweep()
    by_hand.begin_trial(sweep_dir, 0)
    mirror.update_trial(0, runs=True)
    run = mirror.trials[0]
    tags = {name: value for name, value in run.tags.items() if name != "mlflow.runName"}
    late = RunStore(client, uri, "by-hand").create("late", tags, run.start_time + 1)
    by_hand.train(sweep_dir, 0, 1, 2)
    by_hand.end_trial(sweep_dir, 0)
    mirror.close_all("KILLED")
    _, trials = by_hand.runs_of(client, sweep_dir)
    assert trials[0].info.run_id == run.run_id
    assert client.get_run(late.run_id).info.lifecycle_stage == "deleted"
    by_hand.check_steps(client, trials[0], 2, ONCE)


def test_a_history_of_many_requests_that_was_cut_anywhere(client, uri, tmp_path):
    metrics = {f"val/m{i}": float(i) for i in range(45)}
    epochs = 40
    assert epochs * len(metrics) > 2 * MAX_METRICS
    for number in range(1, 6):
        sweep_dir = by_hand.make_sweep(tmp_path, uri, name=f"cut-{number}")
        by_hand.begin_trial(sweep_dir, 0)
        mirror = mirror_of(sweep_dir, client, uri)
        mirror.update_trial(0, runs=True)
        by_hand.train(sweep_dir, 0, 1, epochs, **metrics)
        cut = Counted(client, number)
        try:
            mirror_of(sweep_dir, cut, uri).update_trial(0, runs=True)
        except Killed:
            assert len(cut.calls) == number
        assert mirror_of(sweep_dir, client, uri).update_trial(0, runs=True) <= epochs
        _, trials = by_hand.runs_of(client, sweep_dir)
        by_hand.check_steps(client, trials[0], epochs)


def test_an_interrupted_trial_goes_on_in_its_run(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    by_hand.begin_trial(sweep_dir, 0)
    by_hand.train(sweep_dir, 0, 1, 2)
    by_hand.end_trial(sweep_dir, 0, "PRUNED", "interrupted")
    by_hand.end_sweep(sweep_dir, "STOPPED")
    mirror.close_all("KILLED")
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert (sweep.info.status, trials[0].info.status) == ("KILLED", "KILLED")
    # a second driver: epoch 2 is trained again from the checkpoint of epoch 1, and one row nobody reports
    (sweep_dir / "outcome.json").unlink()
    record = read_record(sweep_dir)
    record.resumed = 1
    second = Mirror(client, uri, sweep_dir, record)
    second.update_sweep()
    by_hand.begin_trial(sweep_dir, 0)
    second.update_trial(0, runs=True)
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert (sweep.info.status, trials[0].info.status) == ("RUNNING", "RUNNING")
    assert sweep.data.tags["jetsweep.resumed"] == "1"
    by_hand.train(sweep_dir, 0, 2, 3)
    second.update_trial(0, runs=True)
    by_hand.train(sweep_dir, 0, 4, 4)
    by_hand.end_trial(sweep_dir, 0)
    by_hand.end_sweep(sweep_dir)
    second.close_all("KILLED")
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert (sweep.info.status, trials[0].info.status) == ("FINISHED", "FINISHED")
    by_hand.check_steps(client, trials[0], 4, ONCE)
    assert trials[0].data.tags["jetsweep.stopped_because"] == "budget"
    assert [step for step, *_ in by_hand.histories(client, sweep)["best/test/auc"]] == [0, 1]


def test_a_trial_that_failed_and_then_did_not_says_so(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    by_hand.begin_trial(sweep_dir, 0)
    by_hand.end_trial(sweep_dir, 0, "FAILED", "error", "RuntimeError: a node was lost")
    mirror.update_trial(0)
    _, trials = by_hand.runs_of(client, sweep_dir)
    assert trials[0].info.status == "FAILED"
    assert trials[0].data.tags["jetsweep.error"] == "RuntimeError: a node was lost"
    by_hand.begin_trial(sweep_dir, 0)
    by_hand.train(sweep_dir, 0, 1, 1)
    by_hand.end_trial(sweep_dir, 0)
    mirror.update_trial(0)
    _, trials = by_hand.runs_of(client, sweep_dir)
    assert trials[0].info.status == "FINISHED"
    assert trials[0].data.tags["jetsweep.error"] == ""


def test_a_killed_sweep_is_closed_as_its_folder_says_and_else_as_killed(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    for number in (0, 1, 2):
        by_hand.begin_trial(sweep_dir, number)
        by_hand.train(sweep_dir, number, 1, number + 1)
        mirror.update_trial(number, runs=True)
    by_hand.end_trial(sweep_dir, 0)  # the driver dies before it tells
    (sweep_dir / "trials" / "00009").mkdir()  # a trial that had not begun
    done = sync_sweep(sweep_dir)
    assert (done.uri, done.runs, done.epochs) == (uri, 3, 0)
    sweep, trials = by_hand.runs_of(client, sweep_dir)
    assert sweep.info.status == "KILLED"
    assert {n: run.info.status for n, run in trials.items()} == {0: "FINISHED", 1: "KILLED", 2: "KILLED"}
    assert {item.path for item in client.list_artifacts(trials[2].info.run_id)} >= {"experiment.json", "history.jsonl"}


def test_another_store_gets_its_own_runs_once(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    mirror = mirror_of(sweep_dir, client, uri)
    for change, deliver in events(sweep_dir):
        change()
        deliver(mirror)
    central = f"sqlite:///{tmp_path}/central/mlflow.db"
    assert [sync_sweep(sweep_dir, central).epochs for _ in range(2)] == [4, 0]
    other = open_client(central)
    check_complete(other, sweep_dir)
    assert by_hand.content(other, sweep_dir) == by_hand.content(client, sweep_dir)
    record = read_record(sweep_dir)
    assert record.uri == uri
    assert record.place(central)["run_id"] != record.run_id
    # a store that was emptied behind our back is filled again
    other.delete_run(record.place(central)["run_id"])
    sync_sweep(sweep_dir, central)
    check_complete(other, sweep_dir)


def test_sweeps_of_one_name_do_not_mix(client, uri, tmp_path):
    for root in (tmp_path / "a", tmp_path / "b"):
        sweep_dir = by_hand.make_sweep(root, uri, "same-name")
        mirror = mirror_of(sweep_dir, client, uri)
        for change, deliver in events(sweep_dir):
            change()
            deliver(mirror)
    for root in (tmp_path / "a", tmp_path / "b"):
        check_complete(client, root / "sweep")


def test_a_renamed_experiment_is_found(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri, "before")
    mirror = mirror_of(sweep_dir, client, uri)
    run_id = mirror.update_sweep()
    client.rename_experiment(mirror.store.experiment_id, "after")
    assert mirror_of(sweep_dir, client, uri).update_sweep() == run_id


def test_a_sweep_that_runs_or_was_never_tracked_is_refused(uri, tmp_path):
    with pytest.raises(TrackingError, match=r"expected the folder of a sweep, found no mlflow.json"):
        sync_sweep(tmp_path)
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    with pytest.raises(TrackingError, match=r"process 7 on here runs this sweep and delivers it"):
        sync_sweep(sweep_dir, who_drives=lambda folder: "process 7 on here")
    (sweep_dir / "mlflow.json").write_text(json.dumps({"run": 1}))
    with pytest.raises(TrackingError, match=r"mlflow.json: expected a record of jetsweep's tracking"):
        sync_sweep(sweep_dir)


def test_opening_and_closing_a_trial_takes_few_requests(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    counted = Counted(client)
    mirror = mirror_of(sweep_dir, counted, uri)
    mirror.update_sweep()
    counted.calls.clear()
    by_hand.begin_trial(sweep_dir, 0)
    mirror.update_trial(0, runs=True)
    assert counted.calls == ["create_run", "log_batch", "log_inputs"]
    counted.calls.clear()
    by_hand.train(sweep_dir, 0, 1, 3)
    mirror.update_trial(0, runs=True)
    assert counted.calls == ["log_batch"]
    mirror.update_trial(0, runs=True)
    assert counted.calls == ["log_batch"]
    by_hand.end_trial(sweep_dir, 0)
    counted.calls.clear()
    mirror.update_trial(0)
    assert [call for call in counted.calls if call != "log_artifact"] == ["log_batch", "set_terminated"]


def test_numbers_that_are_not_finite_are_left_out(client, uri, tmp_path):
    sweep_dir = by_hand.make_sweep(tmp_path, uri)
    by_hand.begin_trial(sweep_dir, 0)
    by_hand.train(sweep_dir, 0, 1, 1)
    by_hand.train(sweep_dir, 0, 2, 2, **{"val/auc": float("nan"), "train/loss": float("inf")})
    mirror_of(sweep_dir, client, uri).update_trial(0, runs=True)
    _, trials = by_hand.runs_of(client, sweep_dir)
    found = by_hand.histories(client, trials[0])
    assert [step for step, *_ in found["val/auc"]] == [step for step, *_ in found["train/loss"]] == [1]
    assert [step for step, *_ in found["lr"]] == [1, 2]


def test_more_points_than_a_request_may_hold(client, uri):
    store = RunStore(client, uri, "many")
    run = store.create("many", {}, 0)
    points = [Point(f"m{i}", float(step), step, step) for step in range(3) for i in range(MAX_METRICS)]
    params = {f"p{i}": i for i in range(250)}
    store.write(run, points, params, {"jetsweep.a": "x" * 9000})
    again = store.read(run.run_id)
    assert set(again.steps.values()) == {2}
    assert len(again.steps) == MAX_METRICS
    assert len(again.params) == 250
    counted = Counted(client)
    store.client = counted
    store.write(again, points, params, {"jetsweep.a": "x" * 9000})
    assert counted.calls == []


def test_the_journal_survives_a_kill_within_a_line(tmp_path):
    journal = SystemJournal(tmp_path)
    journal.append({"system/cpu": 1.0})
    path = tmp_path / "system.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 1, "ti')
    samples, end = read_samples(tmp_path)
    assert [sample["step"] for sample in samples] == [0]
    journal = SystemJournal(tmp_path)
    journal.append({"system/cpu": 2.0})
    assert [(s["step"], s["metrics"]) for s in read_samples(tmp_path)[0]] == [
        (0, {"system/cpu": 1.0}),
        (1, {"system/cpu": 2.0}),
    ]
    assert [sample["step"] for sample in read_samples(tmp_path, end)[0]] == [1]
    assert read_samples(tmp_path / "nothing") == ([], 0)
