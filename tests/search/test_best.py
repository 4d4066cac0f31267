"""Which trials count, against the definition of dominance."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.experiment import Objective
from jetsweep.search.best import best, counts, non_dominated, pareto_front, ranked
from jetsweep.search.trials import Trial

AUC, LOSS = Objective(metric="val/auc", mode="max"), Objective(metric="val/loss", mode="min")


def trial(number, auc, loss=0.5, status="COMPLETE", **given):
    made = Trial(number, {}, SimpleNamespace(), None, None, status=status, **given)
    made.best = {"val/auc": auc, "val/loss": loss}
    return made


def numbers(trials):
    return [t.number for t in trials]


def test_only_full_feasible_finite_own_trials_count():
    trials = [
        trial(0, 0.99, status="PRUNED"),
        trial(1, 0.98, status="FAILED"),
        trial(2, 0.97, violations={"parameters < 10": 0.2, "val/loss < 1": -1.0}),
        trial(3, 0.96, repeat_of=4),
        trial(4, 0.9, violations={"parameters < 10": -0.2}),
        trial(5, math.nan),
        trial(6, 0.8),
        trial(7, 0.99, status=None),
    ]
    assert numbers([t for t in trials if counts(t, [AUC])]) == [4, 6]
    assert best(trials, [AUC]).number == 4
    assert numbers(pareto_front(trials, [AUC, LOSS])) == [4]
    assert numbers(ranked(trials, [AUC])) == [4, 6]
    assert best(trials[:4], [AUC]) is None
    assert pareto_front([], [AUC]) == ranked([], [AUC]) == []


def test_the_best_epoch_is_judged_and_the_last_where_it_says_nothing():
    first = trial(0, 0.8)
    first.metrics = {"val/auc": 0.99}
    second = trial(1, 0.0)
    second.best, second.metrics = {}, {"val/auc": 0.9}
    assert best([first, second], [AUC]).number == 1


def test_front_and_rank_of_two_objectives():
    trials = [trial(0, 0.9, 0.5), trial(1, 0.8, 0.3), trial(2, 0.8, 0.4), trial(3, 0.95, 0.9), trial(4, 0.9, 0.5)]
    assert numbers(pareto_front(trials, [AUC, LOSS])) == [3, 0, 4, 1]
    assert numbers(ranked(trials, [AUC, LOSS])) == [3, 0, 4, 1, 2]
    assert numbers(pareto_front(trials, [LOSS])) == [1]
    assert best(trials, [LOSS, AUC]).number == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=20))
def test_non_dominated_is_the_definition(rows):
    def dominates(a, b):
        return all(x <= y for x, y in zip(a, b)) and a != b

    assert non_dominated(rows) == [not any(dominates(other, row) for other in rows) for row in rows]


@pytest.mark.parametrize("objectives", [[AUC], [AUC, LOSS]])
@given(values=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_best_leads_the_front_and_the_ranking(objectives, values):
    trials = [trial(i, auc, loss) for i, (auc, loss) in enumerate(values)]
    front, order = pareto_front(trials, objectives), ranked(trials, objectives)
    assert order[0].number == front[0].number
    assert front[0].best["val/auc"] == best(trials, objectives).best["val/auc"] == max(auc for auc, _ in values)
    assert sorted(numbers(order)) == list(range(len(values)))
