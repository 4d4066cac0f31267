"""Numbers of several models combined, by hand."""

import numpy as np
import pytest

from jetsweep.errors import MetricError
from jetsweep.metrics.ensembles import combine, combine_probabilities, standardise


def test_mean_median_and_standard_deviation():
    values = [np.array([0.0, 1.0], np.float32), np.array([3.0, 1.0]), np.array([9.0, 4.0])]
    np.testing.assert_allclose(combine(values, "mean"), [4.0, 2.0])
    np.testing.assert_allclose(combine(values, "median"), [3.0, 1.0])
    np.testing.assert_allclose(combine(values, "std"), [np.sqrt((16 + 1 + 25) / 3), np.sqrt(2)])


def test_medians_of_three_classes_are_scaled_to_one():
    a, b, c = ([[0.8, 0.1, 0.1]], [[0.3, 0.6, 0.1]], [[0.2, 0.2, 0.6]])
    members = [np.array(x) for x in (a, b, c)]
    np.testing.assert_allclose(combine_probabilities(members, "median"), np.array([[0.3, 0.2, 0.1]]) / 0.6)
    np.testing.assert_allclose(combine_probabilities(members, "mean"), np.array([[1.3, 0.9, 0.8]]) / 3)
    with pytest.raises(MetricError, match="1 jets have a median probability of 0 for every class"):
        combine_probabilities([np.eye(3)[[i]] for i in range(3)], "median")


def test_a_score_in_units_of_the_background():
    rng = np.random.default_rng(1)
    score = rng.normal(7.0, 3.0, 200_000)
    is_background = np.arange(len(score)) % 2 == 0
    score[~is_background] += 1e6
    found = standardise(score, is_background)
    assert np.median(found[is_background]) == pytest.approx(0.0, abs=1e-12)
    # half of the central 68 % of a normal distribution is 0.9945 standard deviations
    assert np.std(found[is_background]) == pytest.approx(1 / 0.99446, rel=0.01)
    np.testing.assert_allclose(standardise(5 * score + 3, is_background), found, rtol=1e-6, atol=1e-9)
    with pytest.raises(MetricError, match="found no jets of it"):
        standardise(score, np.zeros(len(score), bool))
    with pytest.raises(MetricError, match="cannot be standardised: 2 is that of most of the background"):
        standardise(np.full(len(score), 2.0), is_background)
