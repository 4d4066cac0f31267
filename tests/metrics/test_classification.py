import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from jetsweep.metrics import accuracy, auc, background_rejection, one_vs_one_auc, roc_curve


def two_gaussians(distance: float, jets: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_signal = np.arange(jets) % 2 == 0
    return rng.normal(is_signal * distance, 1.0), is_signal


def test_closed_form_of_two_gaussians():
    score, is_signal = two_gaussians(1.5, 400_000, seed=1)
    assert auc(score, is_signal) == pytest.approx(norm.cdf(1.5 / math.sqrt(2)), abs=2e-3)
    assert accuracy(score > 0.75, is_signal) == pytest.approx(norm.cdf(0.75), abs=2e-3)
    rejection, error, above = background_rejection(roc_curve(score, is_signal), 0.5)
    expected = 1.0 / norm.sf(1.5)
    assert abs(rejection - expected) < 4 * error
    assert error == pytest.approx(expected * math.sqrt((1 - 1 / expected) / above), rel=0.05)


@given(st.integers(0, 10_000), st.integers(2, 12), st.booleans())
def test_area_equals_scikit_learn_with_ties_and_weights(seed, levels, weighted):
    rng = np.random.default_rng(seed)
    is_signal = rng.random(200) < 0.4
    is_signal[:2] = [True, False]
    score = rng.integers(0, levels, 200) / levels
    weight = rng.uniform(0.1, 3.0, 200) if weighted else None
    assert auc(score, is_signal, weight) == pytest.approx(
        roc_auc_score(is_signal, score, sample_weight=weight), abs=1e-12
    )


def test_curve_equals_scikit_learn():
    score, is_signal = two_gaussians(1.0, 500, seed=3)
    score = np.round(score, 1)
    fpr, tpr, threshold = sklearn_roc_curve(is_signal, score, drop_intermediate=False)
    roc = roc_curve(score, is_signal)
    np.testing.assert_allclose(roc.signal_efficiency, tpr)
    np.testing.assert_allclose(roc.background_efficiency, fpr)
    np.testing.assert_allclose(roc.threshold, threshold)
    np.testing.assert_allclose(roc.background_above, fpr * 250)


def test_pairwise_area_equals_scikit_learn():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 4, 3000)
    logits = rng.normal(size=(3000, 4)) + 1.2 * np.eye(4)[label]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = roc_auc_score(label, probability, multi_class="ovo", average="macro")
    assert one_vs_one_auc(probability, label) == pytest.approx(expected, abs=1e-12)


def test_rejection_interpolates_the_background_efficiency():
    # four signal jets at 4, 3, 2, 1 and ten background jets, two of them between the second and third
    score = np.array([4.0, 3.0, 2.0, 1.0] + [2.5, 2.4] + [0.5] * 8)
    is_signal = np.array([True] * 4 + [False] * 10)
    roc = roc_curve(score, is_signal)
    assert background_rejection(roc, 0.75)[0] == pytest.approx(1 / 0.2)
    rejection, error, above = background_rejection(roc, 0.5)
    assert (rejection, error, above) == (10.0, math.inf, 0.0)


def test_integer_weights_equal_repeated_jets():
    score, is_signal = two_gaussians(1.0, 300, seed=7)
    times = np.random.default_rng(8).integers(1, 4, 300)
    weighted = roc_curve(score, is_signal, times)
    repeated = roc_curve(np.repeat(score, times), np.repeat(is_signal, times))
    for efficiency in (0.3, 0.5, 0.8):
        assert background_rejection(weighted, efficiency)[0] == pytest.approx(
            background_rejection(repeated, efficiency)[0]
        )
    assert weighted.area == pytest.approx(repeated.area)
    assert weighted.num_background < repeated.num_background


def test_common_factor_of_weights_changes_nothing():
    score, is_signal = two_gaussians(1.0, 300, seed=9)
    weight = np.random.default_rng(8).uniform(0.5, 2.0, 300)
    one = background_rejection(roc_curve(score, is_signal, weight), 0.5)
    two = background_rejection(roc_curve(score, is_signal, 7.0 * weight), 0.5)
    assert one == pytest.approx(two)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5])
def test_efficiency_outside_the_open_interval_is_refused(value):
    roc = roc_curve(np.array([0.1, 0.9]), np.array([False, True]))
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        background_rejection(roc, value)


def test_one_class_and_nan_scores_are_refused():
    with pytest.raises(ValueError, match="all 3 jets are signal"):
        roc_curve(np.ones(3), np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        roc_curve(np.array([np.nan, 1.0]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"only class \[1\]"):
        one_vs_one_auc(np.full((3, 2), 0.5), np.ones(3, dtype=int))
