"""Repetitions: which configurations and seeds, and intervals that hold what they promise."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.search.repeats import COVERAGE, repeats, seeds, spread
from jetsweep.search.trials import Trial


def make_trials(template, aucs):
    trials = []
    for i, auc in enumerate(aucs):
        trial = Trial(i, {}, template.concrete({"training.optimizer.lr": 1e-3 * (i + 1)}), None, None)
        trial.status, trial.best = "COMPLETE", {"val/auc": auc}
        trials.append(trial)
    return trials


def test_the_best_configurations_with_other_seeds_and_nothing_else(make_template):
    template = make_template("search.repeats={seeds: 3, best: 2}", "seed=7")
    trials = make_trials(template, [0.8, 0.99, 0.9, 0.95])
    trials[1].status = "PRUNED"
    made = list(repeats(trials, template.search))
    assert [(repeat.origin, repeat.index) for repeat in made] == [(3, 0), (3, 1), (3, 2), (2, 0), (2, 1), (2, 2)]
    assert [repeat.seed for repeat in made[:3]] == [repeat.seed for repeat in made[3:]] == seeds(7, 3)
    for repeat in made:
        origin = trials[repeat.origin].experiment
        assert repeat.experiment.seed == repeat.seed != 7
        assert repeat.experiment.model_copy(update={"seed": 7}) == origin
        assert repeat.experiment.data == origin.data


def test_a_number_is_so_many_seeds_of_the_best(make_template):
    template = make_template("search.repeats=2")
    assert [r.origin for r in repeats(make_trials(template, [0.8, 0.9]), template.search)] == [1, 1]
    assert list(repeats(make_trials(template, [0.8]), make_template().search)) == []


def test_fewer_trials_than_configurations(make_template):
    template = make_template("search.repeats={seeds: 2, best: 5}")
    assert [r.origin for r in repeats(make_trials(template, [0.8, 0.9]), template.search)] == [1, 1, 0, 0]


@given(st.integers(0, 2**40), st.integers(1, 40))
def test_seeds_are_different_repeatable_and_extend(base, count):
    found = seeds(base, count)
    assert len({*found, base}) == count + 1
    assert found == seeds(base, count + 5)[:count]
    assert all(0 <= seed < 2**31 for seed in found)


def test_five_runs_in_numbers():
    got = spread([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (got.median, got.low, got.high, got.mean) == (3.0, 1.0, 5.0, 3.0)
    assert got.std == pytest.approx(math.sqrt(2.5))
    assert got.coverage == pytest.approx(4 / 6)


def test_many_runs_against_numpy():
    values = list(np.random.default_rng(0).normal(size=31))
    got, tail = spread(values), (1 - COVERAGE) / 2
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(values, [tail, 1 - tail], method="weibull")))
    assert (got.median, got.std) == pytest.approx((np.median(values), np.std(values, ddof=1)))
    assert got.coverage == COVERAGE


@pytest.mark.parametrize("count", [2, 3, 5, 6, 10])
@pytest.mark.parametrize("law", ["normal", "exponential", "uniform"])
def test_the_interval_holds_one_more_run_as_often_as_it_says(count, law):
    draws = getattr(np.random.default_rng(1), law)(size=(4000, count + 1))
    held = []
    for *runs, one_more in draws:
        got = spread(runs)
        held.append(got.low <= one_more <= got.high)
    # exact for the whole range; between two runs the law matters a little
    assert np.mean(held) == pytest.approx(got.coverage, abs=0.035)


def test_one_run_none_and_infinities():
    one = spread([2.0])
    assert (one.median, one.low, one.high, one.mean, one.coverage) == (2.0, 2.0, 2.0, 2.0, 0.0)
    assert math.isnan(one.std)
    assert spread([]) is None
    assert spread([math.nan]) is None
    assert spread([1.0, math.nan, 3.0]).values == (1.0, 3.0)
    lost = spread([1.0, math.inf, 3.0, math.inf, 2.0, math.inf, math.inf])
    assert (lost.median, lost.high) == (math.inf, math.inf)
    assert lost.low == pytest.approx(1 + ((1 - COVERAGE) / 2 * 8 - 1))
    assert math.isnan(lost.mean)
    assert math.isnan(lost.std)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_interval_is_inside_the_runs_and_around_the_median(values):
    got = spread(values)
    bounds = [min(values), got.low, got.median, got.high, max(values)]
    assert all(a <= b + 1e-9 for a, b in pairwise(bounds))
