"""Population-based training: who goes on from whom, with which settings, and that a death changes nothing."""

import random

import pytest
from optuna.trial import TrialState

from jetsweep.errors import ExperimentError
from jetsweep.experiment.distributions import Choice, Float, Int, Normal
from jetsweep.search.pbt import EXPLOITS, changeable, perturbed
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.study import open_study
from jetsweep.search.tune_run import run_sweep
from jetsweep.training.exploit import snapshot_path, taken
from jetsweep.training.history import History, read_history

SPACE = ("model.f_dropout={uniform: [0, 0.5]}", "training.batch_size={choice: [32, 64]}")


def make_searcher(template, folder):
    folder.mkdir(exist_ok=True)
    study = open_study(folder, template.search, template.example.training.epochs)
    return StudySearcher(study, template, folder, folder, template.search.trials, 1, 2)


def population(template, folder, values):
    """A searcher whose trials have all done two epochs, and kept a snapshot."""
    searcher = make_searcher(template, folder)
    orders = []
    for name, value in values.items():
        searcher.suggest(name)
        trial = searcher.trials[name]
        snapshot_path(trial.folder, 2).mkdir(parents=True)
        history = History(trial.folder / "history.jsonl", 0)
        for epoch in (1, 2):
            history.append({"epoch": epoch, "val/auc": value, "stopped_because": ""})
        assert not searcher.judge(name, {"epoch": 1, "objective": value})
    for name, value in values.items():
        orders.append(searcher.judge(name, {"epoch": 2, "objective": value}))
    return searcher, orders


def test_the_weakest_goes_on_from_the_strongest(make_template, tmp_path):
    template = make_template(*SPACE, scheduler="pbt", trials=4, epochs=8)
    before, _ = population(template, tmp_path / "all-alike", dict.fromkeys("abcd", 0.7))
    assert not any(EXPLOITS in trial.user_attrs for trial in before.study.get_trials())  # nobody is stronger
    searcher, orders = population(template, tmp_path, {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6})
    *others, order = orders
    # those that came first had fewer to be compared with
    assert others[0] is False
    assert (order.exploit.epoch, order.exploit.donor) == (2, 0)
    donor, weak = searcher.trials["a"], searcher.trials["d"]
    assert order.exploit.checkpoint == str(snapshot_path(donor.folder, 2))
    assert order.experiment.training.batch_size == donor.experiment.training.batch_size
    assert order.experiment.model == donor.experiment.model  # weights do not fit another network
    was, now = donor.experiment.training.optimizer.lr, order.experiment.training.optimizer.lr
    assert 1e-3 <= now <= 1e-2
    assert now != was
    assert weak.experiment.training.snapshot_every == 2
    assert weak.params == order.leaves


def test_what_was_decided_outlives_the_driver(make_template, tmp_path):
    template = make_template(*SPACE, scheduler="pbt", trials=4, epochs=8)
    searcher, orders = population(template, tmp_path, {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6})
    again = make_searcher(template, tmp_path)
    told = {trial.number: again.config_of(trial) for trial in again.unfinished}
    for name, order in zip("abcd", orders):
        trial = searcher.trials[name]
        assert told[trial.number]["spec"] == trial.experiment.trial_spec().model_dump_json()
        expected = None if not order else order.exploit.checkpoint
        assert (told[trial.number]["exploit"] or {}).get("checkpoint") == expected


def test_a_trial_that_nobody_judged_is_judged_when_the_sweep_goes_on(make_template, tmp_path):
    template = make_template(*SPACE, scheduler="pbt", trials=2, epochs=8)
    searcher = make_searcher(template, tmp_path)
    for name, value in (("a", 0.9), ("b", 0.6)):
        searcher.suggest(name)
        snapshot_path(searcher.trials[name].folder, 2).mkdir(parents=True)
        for epoch in (1, 2):
            row = {"epoch": epoch, "val/auc": value, "stopped_because": ""}
            History(searcher.trials[name].folder / "history.jsonl", epoch - 1).append(row)
    again = make_searcher(template, tmp_path)
    assert [trial.exploit and trial.exploit.donor for trial in again.unfinished] == [None, 0]


def test_what_may_change(make_template):
    leaves = (*SPACE, "training.clip_grad_norm={choice: [0.5, 1.0]}", "training.precision={choice: [fp32, bf16]}")
    assert changeable(make_template(*leaves, scheduler="pbt")) == ["training.optimizer.lr", "training.clip_grad_norm"]


def test_nothing_to_change_is_a_mistake(make_template, tmp_path):
    template = make_template("training.batch_size={choice: [32, 64]}", scheduler="pbt", lr="1e-3")
    with pytest.raises(ExperimentError, match=r"experiment.yaml:\d+: search.scheduler: expected beside pbt a leaf"):
        make_searcher(template, tmp_path)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_that_learns_is_refused(make_template, sampler):
    with pytest.raises(ExperimentError, match=f"beside pbt, .* found {sampler}"):
        make_template(scheduler="pbt", sampler=sampler)


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (Choice((1, 2, 4), (1, 2, 4)), 2),
        (Int(1, 9, step=2, log=False), 5),
        (Float(0.0, 1.0, step=0.25, log=False), 0.5),
        (Float(1e-4, 1e-2, step=None, log=True), 1e-4),
        (Normal(0.0, 1.0, -2.0, 2.0), -2.0),
    ],
)
def test_a_value_near_another(distribution, value):
    rng = random.Random(0)
    near = {perturbed(distribution, value, rng) for _ in range(50)}
    assert len(near) == 2 or value in (1e-4, -2.0)  # at an end one of the two is the end itself
    if isinstance(distribution, Choice):
        assert near == {1, 4}
        return
    assert all(distribution.low <= x <= distribution.high for x in near)
    if getattr(distribution, "step", None):
        assert all((x - distribution.low) % distribution.step == 0 for x in near)


@pytest.mark.ray
def test_real_trials(ray_cluster, make_template, recorder, tmp_path):
    """One learning rate learns nothing; its trial takes the weights of the other, which has ended long ago."""
    options = ("search.pbt.resample=0", "resources.concurrent_trials=1")
    template = make_template(*options, scheduler="pbt", trials=2, epochs=6, lr="{choice: [1e-2, 1e-6]}", sampler="grid")
    result = run_sweep(template, tmp_path / "sweep", tmp_path / "data", recorder)
    assert [trial.status for trial in result.trials] == ["COMPLETE", "COMPLETE"]
    strong, weak = result.trials
    (exploit, *_) = taken(weak.folder)
    assert (exploit.epoch, exploit.donor, taken(strong.folder)) == (2, 0, [])
    rows = read_history(weak.folder / "history.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [epoch for number, epoch in recorder.reports if number == 1] == [1, 2, 3, 4, 5, 6]
    # its next epoch, at a tiny learning rate, is the donor's network; its own would have stayed where it was
    donated, own = read_history(strong.folder / "history.jsonl")[exploit.epoch - 1], rows[exploit.epoch - 1]
    assert rows[exploit.epoch]["val/auc"] == pytest.approx(
        donated["val/auc"], abs=0.2 * (donated["val/auc"] - own["val/auc"])
    )
    told = open_study(tmp_path / "sweep", template.search).get_trials()
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 2
    assert told[1].user_attrs[EXPLOITS][0]["donor"] == 0
    assert not list((tmp_path / "sweep").glob("trials/*/checkpoints/epoch-*"))  # nobody needs them any more
