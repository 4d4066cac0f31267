"""Signal efficiencies, significance improvement, bands, bootstrap, and objectives over several signals."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from jetsweep.errors import MetricError
from jetsweep.metrics import (
    auc,
    bootstrap_errors,
    mean_signal,
    rank_average,
    roc_curve,
    run_band,
    sic_band,
    sic_curve,
    signal_efficiency,
    signal_matrix,
    soft_minimum,
    worst_signal,
)


def gaussians(distance: float, jets: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    is_signal = np.arange(jets) % 2 == 0
    return np.random.default_rng(seed).normal(is_signal * distance, 1.0), is_signal


def stepped(eps_s: float, rejection: int) -> tuple[np.ndarray, np.ndarray]:
    """Two scores: `eps_s` of 1,000 signal jets and one of `rejection` of 51,000 background jets have the higher one."""
    signal, background = np.arange(1000) < 1000 * eps_s, np.arange(51_000) < 51_000 / rejection
    return np.concatenate([signal, background]).astype(float), np.arange(52_000) < 1000


def test_sic_of_a_half_and_a_rejection_of_51():
    curve = sic_curve(roc_curve(*stepped(0.5, 51)))
    assert curve.maximum.sic == pytest.approx(0.5 * math.sqrt(51))
    assert curve.maximum.sic == pytest.approx(3.57, abs=0.005)
    assert curve.maximum.background_above == pytest.approx(1000)
    assert curve.maximum.error == pytest.approx(curve.maximum.sic * math.sqrt((1 - 1 / 51) / 1000) / 2)
    assert curve.at_signal_efficiency(0.5) == pytest.approx(3.57, abs=0.005)
    assert curve.at_background_efficiency(1 / 51) == pytest.approx(3.57, abs=0.005)


def test_a_random_score_gives_the_root_of_the_efficiency():
    score, is_signal = gaussians(0.0, 400_000)
    curve = sic_curve(roc_curve(score, is_signal))
    for efficiency in (0.05, 0.3, 0.9):
        assert curve.at_background_efficiency(efficiency) == pytest.approx(math.sqrt(efficiency), rel=0.04)
        assert curve.at_signal_efficiency(efficiency) == pytest.approx(math.sqrt(efficiency), rel=0.04)


@pytest.mark.parametrize("minimum", [1, 25, 100])
def test_a_perfect_score_is_limited_by_the_count(minimum):
    is_signal = np.arange(11_000) < 1000
    score = np.where(is_signal, 2.0, np.linspace(0, 1, 11_000))
    best = sic_curve(roc_curve(score, is_signal), minimum).maximum
    assert best.sic == pytest.approx(math.sqrt(10_000 / minimum))
    assert best.background_above == minimum


def test_efficiencies_of_two_gaussians():
    score, is_signal = gaussians(2.0, 400_000)
    roc = roc_curve(score, is_signal)
    for eps_b, tolerance in ((1e-2, 0.013), (1e-3, 0.02), (1e-4, 0.025)):
        expected = norm.sf(norm.isf(eps_b) - 2.0)
        assert signal_efficiency(roc, eps_b) == pytest.approx(expected, abs=tolerance)


def test_efficiency_is_of_the_loosest_cut_and_linear_between():
    # four background jets at 4, 3, 2, 1; signal at 3.5, 3.2 and 2.5, 0
    score = np.array([4.0, 3, 2, 1, 3.5, 3.2, 2.5, 0])
    roc = roc_curve(score, np.arange(8) >= 4)
    assert signal_efficiency(roc, 0.25, 1) == 0.5
    assert signal_efficiency(roc, 0.5, 1) == 0.75
    tied = roc_curve(np.array([1.0, 1, 0, 0]), np.array([True, False, True, False]))
    assert signal_efficiency(tied, 0.25, 0.5) == 0.25


def test_bands_are_quantiles_over_the_runs():
    values = np.random.default_rng(2).normal(3.0, 1.0, (4000, 2)) * [1.0, 2.0]
    band = run_band(values)
    assert band.num_runs == 4000
    np.testing.assert_allclose(band.median, [3, 6], atol=0.15)
    np.testing.assert_allclose((band.high - band.low) / 2, [0.994, 1.989], rtol=0.05)
    curves = [sic_curve(roc_curve(*gaussians(1.0, 20_000, seed)), 50) for seed in range(4)]
    grid = np.array([1e-4, 0.2, 0.8])
    found = sic_band(curves, grid)
    assert np.isnan(found.median[0])
    expected = grid[1:] / np.sqrt(norm.sf(norm.isf(grid[1:]) + 1.0))
    np.testing.assert_allclose(found.median[1:], expected, rtol=0.1)
    assert (found.low <= found.median)[1:].all()
    assert (found.median <= found.high)[1:].all()


def test_bootstrap_error_is_the_scatter_of_independent_samples():
    def measured(score, is_signal):
        return {"auc": auc(score, is_signal), "efficiency": signal_efficiency(roc_curve(score, is_signal), 0.1)}

    score, is_signal = gaussians(1.0, 2000)
    found = bootstrap_errors(lambda rows: measured(score[rows], is_signal[rows]), np.arange(2000), replicas=200)
    others = [measured(*gaussians(1.0, 2000, seed)) for seed in range(100, 300)]
    for name in ("auc", "efficiency"):
        assert found[name].value == measured(score, is_signal)[name]
        assert found[name].error == pytest.approx(np.std([x[name] for x in others]), rel=0.25)


def test_bootstrap_keeps_events_together_and_the_minimum_count():
    score, is_signal = gaussians(1.0, 1000)
    twice = [np.repeat(x, 2) for x in (score, is_signal)]
    together = bootstrap_errors(lambda rows: {"auc": auc(twice[0][rows], twice[1][rows])}, np.arange(2000) // 2)
    alone = bootstrap_errors(lambda rows: {"auc": auc(score[rows], is_signal[rows])}, np.arange(1000))
    assert together["auc"].error == pytest.approx(alone["auc"].error)
    edge = bootstrap_errors(
        lambda rows: {"sic": sic_curve(roc_curve(score[rows], is_signal[rows]), 500).maximum.sic}, np.arange(1000)
    )
    assert edge["sic"].value == pytest.approx(1.0)


def test_matrix_and_objectives():
    rng = np.random.default_rng(3)
    label = np.repeat(["qcd", "w", "top"], 1000)
    good = rng.normal(np.repeat([0.0, 1.0, 2.0], 1000))
    bad = rng.normal(np.repeat([0.0, 1.5, -1.0], 1000))
    matrix = signal_matrix({"good": good, "bad": bad}, label, "qcd")
    assert matrix.signals == ("top", "w")
    used = label != "w"
    assert matrix.values[0, 1] == auc(bad[used], label[used] == "top")
    figures = matrix.of_score("bad")
    assert worst_signal(figures) == figures["top"] < 0.5
    assert worst_signal(figures) < soft_minimum(figures) < mean_signal(figures)
    assert soft_minimum(figures, 1e-4) == pytest.approx(worst_signal(figures), abs=1e-3)
    assert soft_minimum(figures, 1e4) == pytest.approx(mean_signal(figures), abs=1e-3)
    assert rank_average(matrix) == {"good": 1.5, "bad": 1.5}
    assert matrix.rows()[1] == {"signal": "w", "good": matrix.values[1, 0], "bad": matrix.values[1, 1]}
    tied = signal_matrix({"a": good, "b": good, "c": -good}, label, "qcd")
    assert rank_average(tied) == {"a": 1.5, "b": 1.5, "c": 3.0}
    sic = signal_matrix({"good": good}, label, "qcd", lambda roc: sic_curve(roc, 10).maximum.sic, ["top"])
    assert sic.values.shape == (1, 1)
    assert sic.values[0, 0] > 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, s: sic_curve(r, 600), "there are 500 background jets, fewer than the minimum count of 600"),
        (lambda r, s: sic_curve(r, 0), "must be positive, found 0"),
        (lambda r, s: signal_efficiency(r, 1e-4), "leaves 0.05 of 500 background jets above the cut, fewer than"),
        (lambda r, s: signal_efficiency(r, 1.0), r"inside \(0, 1\), found 1.0"),
        (lambda r, s: run_band([1.0]), "two runs or more, found 1"),
        (lambda r, s: sic_band([sic_curve(r, 10), sic_curve(r, 20)], 0.5), r"counts \(10, 20\)"),
        (lambda r, s: bootstrap_errors(lambda rows: {}, np.arange(3), 1), "two replicas or more, found 1"),
        (lambda r, s: roc_curve(np.where(s > 1, np.nan, s), s > 0), "scores are not finite"),
        (lambda r, s: signal_matrix({"a": s}, np.full(1000, "qcd"), "qcd"), "a signal and a score or more"),
        (lambda r, s: signal_matrix({"a": s}, np.full(1000, "w"), "qcd"), "no jets of class 'qcd'; there are w"),
        (
            lambda r, s: signal_matrix({"a": s * np.nan}, np.arange(1000) % 2, "0"),
            "score 'a' on signal '1': 1000 of 1000 scores are not finite",
        ),
        (lambda r, s: worst_signal({"w": math.nan}), "figure of w is not finite"),
        (lambda r, s: mean_signal({}), "a signal or more"),
        (lambda r, s: soft_minimum({"w": 1.0}, 0), "temperature of a soft minimum must be positive"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(call, message):
    score, is_signal = gaussians(1.0, 1000)
    with pytest.raises(MetricError, match=message) as error:
        call(roc_curve(score, is_signal), score)
    assert "\n" not in str(error.value)
