import json
import math

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from jetsweep.experiment.distributions import Normal
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.space import from_quantile, grid, quantiles
from jetsweep.search.study import open_study

AUC = "val/auc"


def make_searcher(template, folder):
    study = open_study(folder, template.search)
    return StudySearcher(study, template, folder, folder, template.search.trials, 1)


def end(searcher, name, because, value, epoch=2, error=None):
    flat = {
        "epoch": epoch,
        "metrics": json.dumps({AUC: value}),
        "best": json.dumps({AUC: value}),
        "final": True,
        "ended": because,
        "error": error,
    }
    searcher.on_trial_complete(name, flat)


def states(searcher):
    return [trial.state for trial in searcher.study.get_trials()]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "nsga2", "qmc", "grid"])
def test_every_sampler_serves_a_whole_sweep(make_template, tmp_path, sampler):
    lr = "{choice: [1e-3, 3e-3, 1e-2]}" if sampler == "grid" else "{log: [1e-3, 1e-2]}"
    template = make_template("training.batch_size={choice: [32, 64, 96, 128]}", sampler=sampler, trials=12, lr=lr)
    searcher = make_searcher(template, tmp_path)
    for i in range(12):
        assert searcher.suggest(str(i))["number"] == i
        searcher.judge(str(i), {"epoch": 1, "objective": 0.1 * i})
        end(searcher, str(i), ["budget", "scheduler", "diverged", "error"][i % 4], math.nan if i % 4 == 2 else 0.1 * i)
    assert searcher.suggest("13") == Searcher.FINISHED
    assert TrialState.RUNNING not in states(searcher)
    if sampler == "grid":
        drawn = [tuple(trial.params.values()) for trial in searcher.trials.values()]
        assert len(set(drawn)) == 12


def test_a_seed_repeats_its_proposals(make_template, tmp_path):
    def proposals(folder):
        folder.mkdir()
        searcher = make_searcher(make_template(sampler="tpe", trials=4), folder)
        return [searcher.suggest(str(i)) and searcher.trials[str(i)].params for i in range(4)]

    assert proposals(tmp_path / "a") == proposals(tmp_path / "b")


def test_how_trials_are_told(make_template, tmp_path):
    searcher = make_searcher(make_template("resources.max_restarts=0", trials=6, sampler="tpe"), tmp_path)
    for i in range(6):
        searcher.suggest(str(i))
        searcher.judge(str(i), {"epoch": 1, "objective": 0.5 + 0.01 * i})
    end(searcher, "0", "budget", 0.9)
    end(searcher, "1", "patience", 0.8, epoch=1)
    end(searcher, "2", "scheduler", 0.6, epoch=1)
    end(searcher, "3", "diverged", math.nan, error="loss is NaN")
    searcher.on_trial_complete("4", None, error=True)
    trials = searcher.study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "FAIL", "RUNNING"]
    assert [t.value for t in trials[:3]] == [0.9, 0.8, pytest.approx(0.52)]
    assert trials[3].constraints == {"diverged": 1.0}
    assert trials[3].user_attrs["error"] == "loss is NaN"
    assert "process died" in trials[4].user_attrs["error"]
    assert searcher.study.best_trial.number == 0
    assert [(trial.number, trial.status) for trial in searcher.close()] == [(5, "STOPPED")]
    assert states(searcher)[5] == TrialState.RUNNING  # it goes on when the sweep is resumed


def test_divergence_is_worth_the_worst_value_where_pruned_trials_are_not_seen(make_template, tmp_path):
    searcher = make_searcher(make_template(trials=3, sampler="gp"), tmp_path)
    for i, (because, value) in enumerate([("budget", 0.9), ("budget", 0.7), ("diverged", math.nan)]):
        searcher.suggest(str(i))
        end(searcher, str(i), because, value)
    told = searcher.study.get_trials()[2]
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.7)
    assert searcher.trials["2"].status == "PRUNED"


def test_an_infinite_objective_is_no_result(make_template, tmp_path):
    searcher = make_searcher(make_template(trials=1, sampler="tpe"), tmp_path)
    searcher.suggest("0")
    end(searcher, "0", "budget", math.inf)
    assert searcher.trials["0"].status == "PRUNED"
    assert states(searcher) == [TrialState.PRUNED]


def test_the_journal_survives_the_process(make_template, tmp_path):
    template = make_template(trials=1)
    searcher = make_searcher(template, tmp_path)
    searcher.suggest("0")
    end(searcher, "0", "budget", 0.9)
    again = open_study(tmp_path, template.search)
    assert isinstance(again, optuna.Study)
    assert [trial.value for trial in again.trials] == [0.9]


def test_grid_lists_conditional_leaves_only_where_they_apply(make_template):
    template = make_template(
        "training.batch_size={choice: [32, 64]}",
        "training.eval_batch_size={choice: [100, 200], when: {training.batch_size: 32}}",
        sampler="grid",
        lr="1e-3",
    )
    points = list(grid(template))
    assert len(points) == 3
    assert {"training.batch_size": 64} in points


def test_normal_is_normal_inside_its_cuts():
    normal = Normal(mean=1.0, std=2.0, low=-1.0, high=5.0)
    low, high = quantiles(normal)
    assert (low, high) == (pytest.approx(0.158655, abs=1e-6), pytest.approx(0.977250, abs=1e-6))
    assert from_quantile(normal, 0.5) == pytest.approx(1.0)
    assert from_quantile(normal, low) == pytest.approx(-1.0)
    assert from_quantile(normal, high) == pytest.approx(5.0)
