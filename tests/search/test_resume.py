"""A searcher that begins again in the middle of a sweep proposes, ends and counts as one that did not."""

import json
import math

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.search.best import own_trials
from jetsweep.search.resume import find_sweep, load_to_resume, newest
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.study import open_study
from jetsweep.training.history import History

SPACE = ("training.batch_size={choice: [32, 64, 96]}", "model.f_dropout={normal: [0.2, 0.05]}")


def make_searcher(template, folder, concurrent=2):
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(folder, template.search, template.example.training.epochs)
    return StudySearcher(study, template, folder, folder, template.search.trials, 1, concurrent)


def value_of(trial):
    """An AUC that depends on the leaves alone."""
    lr = trial.experiment.training.optimizer.lr
    return 0.9 - abs(math.log10(lr) + 2.5) / 10 - trial.experiment.training.batch_size / 1e4


def end(searcher, name, because="budget"):
    trial = searcher.trials[name]
    value = value_of(trial)
    trial.folder.mkdir(parents=True, exist_ok=True)
    (trial.folder / "result.json").write_text(json.dumps({"best": {"val/auc": value}, "parameters": 1, "seconds": 1.0}))
    searcher.on_trial_complete(
        name, {"epoch": 2, "best": json.dumps({"val/auc": value}), "final": True, "ended": because}
    )


def finish(searcher, concurrent, stop_after=None):
    """Run trials in rounds; after so many ends everything is forgotten, as by a kill."""
    running, ends, name = [], 0, 0
    while True:
        while len(running) < concurrent:
            answer = searcher.suggest(str(name))
            if not isinstance(answer, dict):
                break
            running.append(str(name))
            name += 1
        if not running:
            assert answer == Searcher.FINISHED
            return True
        end(searcher, running.pop(0))
        ends += 1
        if ends == stop_after:
            return False


def outcome(folder, template):
    trials = own_trials(open_study(folder, template.search))
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * len(trials)
    return [(trial.params, trial.value) for trial in trials]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "nsga2", "qmc"])
def test_a_deterministic_search_is_the_same_however_often_it_dies(make_template, tmp_path, sampler):
    options = ("search.deterministic=true", *SPACE)
    template = make_template(*options, sampler=sampler, trials=16)
    assert finish(make_searcher(template, tmp_path / "once"), 2)
    for stop_after in (1, 2, 3, 1, 2):
        assert not finish(make_searcher(template, tmp_path / "often"), 2, stop_after)
    assert finish(make_searcher(template, tmp_path / "often", concurrent=1), 2)
    assert outcome(tmp_path / "often", template) == outcome(tmp_path / "once", template)
    assert len(outcome(tmp_path / "once", template)) == 16


def test_a_grid_goes_on_where_it_stopped(make_template, tmp_path):
    lr = "{choice: [1e-3, 3e-3, 1e-2]}"
    template = make_template("training.batch_size={choice: [32, 64]}", sampler="grid", trials=6, lr=lr)
    assert not finish(make_searcher(template, tmp_path), 2, stop_after=3)
    searcher = make_searcher(template, tmp_path)
    assert (len(searcher.ended), searcher.num_continued) == (3, 1)
    assert finish(searcher, 2)
    drawn = [tuple(trial.params.values()) for trial in searcher.all_trials]
    assert len(drawn) == len(set(drawn)) == 6


def test_an_unfinished_trial_goes_on_with_its_number_and_leaves(make_template, tmp_path):
    template = make_template(*SPACE, trials=3)
    before = make_searcher(template, tmp_path)
    told = before.suggest("a")
    again = make_searcher(template, tmp_path)
    assert again.suggest("b") == told
    assert again.trials["b"].params == before.trials["a"].params


def test_what_ended_before_counts_for_the_best(make_template, tmp_path):
    template = make_template(*SPACE, trials=4)
    first = make_searcher(template, tmp_path)
    finish(first, 1)
    again = make_searcher(template, tmp_path)
    assert again.suggest("x") == Searcher.FINISHED
    shown = [(t.number, t.status, t.stopped_because, t.best, dict(t.params)) for t in again.all_trials]
    assert shown == [(t.number, t.status, t.stopped_because, t.best, dict(t.params)) for t in first.all_trials]
    assert [t.experiment for t in again.all_trials] == [t.experiment for t in first.all_trials]


def test_epochs_that_no_driver_heard_of_are_judged(make_template, tmp_path):
    """The first trial is better at its first rung; the second wrote its epoch down, and then the driver died."""
    template = make_template(scheduler="asha", trials=2, epochs=9)
    searcher = make_searcher(template, tmp_path)
    for name, auc in (("a", 0.9), ("b", 0.6)):
        searcher.suggest(name)
        folder = searcher.trials[name].folder
        folder.mkdir(parents=True)
        History(folder / "history.jsonl", 0).append({"epoch": 1, "val/auc": auc, "stopped_because": ""})
    assert not searcher.judge("a", {"epoch": 1, "objective": 0.9})
    again = make_searcher(template, tmp_path)
    assert [(trial.number, trial.asked_by) for trial in again.unfinished] == [(0, ""), (1, "scheduler")]
    assert again.suggest("x")["asked_by"] == ""
    assert again.suggest("y")["asked_by"] == "scheduler"
    third = make_searcher(template, tmp_path)  # a verdict outlives the next driver too
    assert [trial.asked_by for trial in third.unfinished] == ["", "scheduler"]


def test_half_a_line_and_a_dead_writers_lock_do_no_harm(make_template, tmp_path):
    template = make_template(*SPACE, trials=2)
    make_searcher(template, tmp_path).suggest("a")
    with (tmp_path / "study.log").open("a") as journal:
        journal.write('{"op_code": 5, "worker_id"')
    (tmp_path / "study.log.lock").touch()
    searcher = make_searcher(template, tmp_path)
    assert finish(searcher, 1)
    assert len(outcome(tmp_path, template)) == 2


def test_a_lost_process_starts_its_trial_again_so_often(make_template, tmp_path):
    template = make_template("resources.max_restarts=2", trials=1)
    searcher = make_searcher(template, tmp_path)
    for name in "abc":
        assert searcher.suggest(name)["number"] == 0
        assert searcher.suggest("other") is None  # not the end: the trial that runs may need to start again
        searcher.on_trial_complete(name, error=True)
    assert searcher.suggest("d") == Searcher.FINISHED
    (trial,) = searcher.all_trials
    assert (trial.status, trial.error) == ("FAILED", "the trial's process died 3 times")
    (told,) = own_trials(searcher.study)
    assert (told.state, told.user_attrs["restarts"]) == (TrialState.FAIL, 2)


def write(folder, template):
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(template.to_yaml())
    return folder


def test_what_may_change(make_template, tmp_path):
    folder = write(tmp_path / "runs" / "test", make_template(*SPACE, sampler="tpe", trials=4))
    assert load_to_resume(folder, more_trials=3).search.trials == 7
    assert load_to_resume(folder, ["search.budget.hours=2", "resources.max_restarts=0"]).search.budget.hours == 2
    with pytest.raises(ExperimentError, match=r"model\.f_dropout \(.*0\.2.*→ 0\.1\).*-o search\.start\.sweep=test$"):
        load_to_resume(folder, ["model.f_dropout=0.1"])
    with pytest.raises(ExperimentError, match=r"training\.epochs \(2 → 3\)"):
        load_to_resume(folder, wanted=make_template(*SPACE, sampler="tpe", trials=4, epochs=3))


def test_which_sweep(make_template, tmp_path):
    runs = tmp_path / "runs"
    assert newest(runs, "test") is None
    for name in ("test", "test-2", "test-4"):
        write(runs / name, make_template())
    assert newest(runs, "test") == runs / "test-2"
    assert find_sweep(runs, "test-2") == find_sweep(tmp_path, str(runs / "test-2")) == runs / "test-2"
    with pytest.raises(JetsweepError, match=r"found 'tset', did you mean 'test'\?$"):
        find_sweep(runs, "tset")
