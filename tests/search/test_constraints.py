"""Outcome constraints and requirements in a study: what is told, what is never trained, what can be best."""

import json
import math

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from jetsweep.errors import JetsweepError
from jetsweep.experiment.costs import count_parameters
from jetsweep.search.best import best, own_trials
from jetsweep.search.constraints import VIOLATIONS
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.study import open_study

SIZES = "model.phi_sizes={choice: [[8, 8], [16, 16], [256, 256]]}"
SMALL = 'search.constraints=["parameters < 2e3"]'


def make_searcher(template, folder):
    return StudySearcher(open_study(folder, template.search), template, folder, folder, template.search.trials, 1)


def end(searcher, name, auc, because="budget", seconds=1.0):
    trial = searcher.trials[name]
    trial.folder.mkdir(parents=True, exist_ok=True)
    parameters = count_parameters(trial.experiment, ("qcd", "top"))
    result = {"parameters": parameters, "seconds": seconds, "timing": {"inference_us_per_jet": 5.0}, "best": {}}
    (trial.folder / "result.json").write_text(json.dumps(result))
    flat = {
        "epoch": 2,
        "metrics": json.dumps({"val/auc": auc}),
        "best": json.dumps({"val/auc": auc}),
        "final": True,
        "ended": because,
        "error": None,
    }
    searcher.on_trial_complete(name, flat)


def test_outcomes_are_judged_and_told(make_template, tmp_path):
    bounds = ["val/auc >= 0.8", "train_seconds < 10", "inference_us_per_jet <= 5"]
    template = make_template(f"search.constraints={json.dumps(bounds)}", sampler="tpe", trials=4)
    searcher = make_searcher(template, tmp_path)
    for i, (auc, seconds) in enumerate([(0.85, 1.0), (0.99, 20.0), (0.7, 1.0), (0.9, 5.0)]):
        searcher.suggest(str(i))
        end(searcher, str(i), auc, seconds=seconds)
    told = searcher.study.get_trials()
    assert [t.state for t in told] == [TrialState.COMPLETE] * 4
    assert told[1].constraints == pytest.approx(
        {"val/auc >= 0.8": -0.2375, "train_seconds < 10": 1.0, "inference_us_per_jet <= 5": 0.0}
    )
    assert told[1].user_attrs[VIOLATIONS] == told[1].constraints
    assert told[2].constraints["val/auc >= 0.8"] == pytest.approx(0.125)
    assert searcher.study.best_trial.number == 3
    assert best(list(searcher.trials.values()), template.search.objectives).number == 3


def test_a_network_that_is_too_large_is_never_trained(make_template, tmp_path):
    template = make_template(SIZES, SMALL, sampler="tpe", trials=8)
    searcher = make_searcher(template, tmp_path)
    for i in range(8):
        searcher.study.enqueue_trial({"model.phi_sizes": "[256,256]"})
        searcher.suggest(str(i))
        end(searcher, str(i), 0.5 + 0.01 * i)
    assert {trial.params["model.phi_sizes"] for trial in searcher.trials.values()} <= {"[8,8]", "[16,16]"}
    refused = [t for t in searcher.study.get_trials() if t.state == TrialState.PRUNED]
    assert len(refused) >= 8
    for t in refused:
        assert t.params["model.phi_sizes"] == "[256,256]"
        assert t.constraints["parameters < 2e3"] > 10
        assert t.user_attrs["stopped_because"] == "infeasible"
        assert t.user_attrs["error"].startswith("expected parameters < 2e3, found ")
    assert all(t.constraints["parameters < 2e3"] < 0 for t in searcher.study.get_trials() if t not in refused)


def test_nothing_fits(make_template, tmp_path):
    template = make_template(SIZES, 'search.constraints=["parameters < 5"]', sampler="random")
    with pytest.raises(
        JetsweepError, match=r"200 combinations in a row .* expected parameters < 5, found [\d,]+ param"
    ):
        make_searcher(template, tmp_path).suggest("0")


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "nsga2", "qmc"])
def test_every_sampler_bears_constraints_invalid_draws_and_divergence(make_template, tmp_path, sampler):
    # more trials than any sampler draws at random before it models
    template = make_template(
        SIZES,
        'search.constraints=["parameters < 2e3", "val/auc > 0.6"]',
        'search.require=["training.optimizer.lr < 8e-3"]',
        sampler=sampler,
        trials=18,
    )
    searcher = make_searcher(template, tmp_path)
    for i in range(18):
        searcher.suggest(str(i))
        end(searcher, str(i), math.nan if i % 6 == 5 else 0.5 + 0.02 * i, "diverged" if i % 6 == 5 else "budget")
    assert searcher.suggest("18") == Searcher.FINISHED
    trials = list(searcher.trials.values())
    assert all(trial.experiment.training.optimizer.lr < 8e-3 for trial in trials)
    assert best(trials, template.search.objectives).number == max(t.number for t in trials if t.status == "COMPLETE")
    told = searcher.study.get_trials()
    assert TrialState.RUNNING not in {t.state for t in told}
    assert len([t for t in own_trials(searcher.study) if t.user_attrs["stopped_because"] == "budget"]) == 15


def test_a_grid_is_shorter_by_the_points_that_do_not_fit(make_template, tmp_path):
    template = make_template(SIZES, SMALL, sampler="grid", trials=10, lr="{choice: [1e-3, 3e-3]}")
    searcher = make_searcher(template, tmp_path)
    names = []
    while searcher.suggest(str(len(names))) != Searcher.FINISHED:
        names.append(str(len(names)))
        end(searcher, names[-1], 0.9)
    drawn = {tuple(trial.params.values()) for trial in searcher.trials.values()}
    assert len(names) == len(drawn) == 4
