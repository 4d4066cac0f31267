"""Jensen-Shannon values, their floor, distance correlation and the conditional CDF, against closed forms and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import kstest

from jetsweep.errors import MetricError
from jetsweep.metrics import (
    ConditionalCdf,
    MassJsd,
    auc,
    cross_fitted,
    cut_threshold,
    distance_correlation,
    jensen_shannon,
    rejection_and_sculpting,
    sculpting,
)


def background(jets: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass, pT and a score that grows with both."""
    rng = np.random.default_rng(seed)
    mass, pt = rng.gamma(3.0, 25.0, jets) + 5, rng.uniform(500, 700, jets)
    return mass, pt, np.log(mass) + pt / 300 + rng.gamma(2.0, 0.5, jets)


def test_published_numbers_of_the_divergence():
    assert jensen_shannon([1, 0], [0, 1], math.e) == pytest.approx(math.log(2))
    assert jensen_shannon([1, 0], [0, 1], math.e, root=True) == pytest.approx(0.8326, abs=1e-4)
    assert jensen_shannon([1, 0], [0, 1], 2, root=True) == pytest.approx(1.0)
    assert jensen_shannon([0.5, 0.5], [0.9, 0.1], math.e) == pytest.approx(0.10175, abs=1e-5)
    assert jensen_shannon([0.5, 0.5], [0.9, 0.1], math.e, root=True) == pytest.approx(0.31898, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([2.0, math.e, 10.0]))
def test_distance_equals_scipy_with_empty_bins(seed, base):
    rng = np.random.default_rng(seed)
    p, q = rng.poisson(1.0, (2, 30)) * rng.uniform(0.5, 2.0, (2, 1))
    assert jensen_shannon(p, q, base, root=True) == pytest.approx(jensenshannon(p, q, base), abs=1e-7)
    assert jensen_shannon(p, q, base) == pytest.approx(jensen_shannon(q, p, base), abs=1e-12)


def test_conventions_are_in_the_name_and_kept():
    mass, _, score = background(5000)
    passes = score > np.median(score)
    weight = np.random.default_rng(0).uniform(0.5, 2, 5000)
    for base, number in (("2", 2), ("e", math.e)):
        for reference in ("all", "failed"):
            measure = MassJsd(40, 20, 150, base, True, reference)
            before, after = (
                np.histogram(mass[x], np.linspace(20, 150, 41), weights=weight[x])[0]
                for x in (~passes if reference == "failed" else slice(None), passes)
            )
            assert measure.of_cut(mass, passes, weight) == pytest.approx(jensenshannon(before, after, number))
            assert measure.name == f"mass_jsdistance_base{base}_pass-{reference}_40bins_20-150"
    assert MassJsd().name == "mass_jsd_base2_pass-all_100bins_0-500"


@pytest.mark.parametrize("reference", ["all", "failed"])
def test_floor_is_the_value_of_random_cuts(reference):
    mass, _, _ = background(4000)
    measure = MassJsd(30, 0, 150, reference=reference)
    floor = measure.floor(mass, 400, repeats=300)
    rng = np.random.default_rng(5)
    values = [measure.of_cut(mass, rng.permutation(4000) < 400) for _ in range(300)]
    assert floor.mean == pytest.approx(np.mean(values), rel=0.1)
    np.testing.assert_allclose([floor.low, floor.high], np.quantile(values, [0.16, 0.84]), rtol=0.15)
    assert floor.low < floor.median < floor.high
    # fewer jets, larger floor
    assert measure.floor(mass, 40).median > 3 * floor.median


def test_cuts_of_a_sculpting_score_and_of_a_random_one():
    mass, _, score = background(20_000)
    found = sculpting(score, mass)
    assert [cut.efficiency for cut in found.cuts] == pytest.approx([0.5, 0.1, 0.05, 0.01, 0.001])
    assert all(cut.jsd > cut.floor.high for cut in found.cuts[:4])
    assert found.cuts[3].jsd > found.cuts[1].jsd > found.cuts[0].jsd
    for cut in found.cuts:
        np.testing.assert_array_equal(cut.histogram, found.measure.histogram(mass[score >= cut.threshold]))
    assert found.rows()[1]["jets"] == 2000
    assert found.rows()[1]["mass_jsd_base2_pass-all_100bins_0-500"] == found.cuts[1].jsd
    blind = sculpting(np.random.default_rng(4).random(20_000), mass, efficiencies=(0.5, 0.1))
    assert all(cut.jsd < 1.5 * cut.floor.high for cut in blind.cuts)


def test_ties_make_the_cut_looser_and_say_so():
    mass, _, _ = background(1000)
    cut = sculpting(np.repeat([0.0, 1.0], [700, 300]), mass, efficiencies=(0.1,)).cuts[0]
    assert (cut.asked_efficiency, cut.efficiency, cut.threshold) == (0.1, 0.3, 1.0)


def test_trade_off_of_rejection_and_sculpting():
    mass, _, score = background(10_000)
    rng = np.random.default_rng(3)
    everything = np.concatenate([score, rng.normal(np.quantile(score, 0.95), 0.5, 3000)])
    masses = np.concatenate([mass, rng.normal(80, 8, 3000)])
    is_signal = np.arange(13_000) >= 10_000
    point = rejection_and_sculpting(everything, is_signal, masses)
    assert point.rejection == pytest.approx(20, rel=0.2)
    passes = score >= np.median(everything[is_signal])
    assert point.inverse_jsd == pytest.approx(1 / MassJsd().of_cut(mass, passes), rel=0.1)
    assert point.inverse_floor > point.inverse_jsd


def slow_distance_correlation(x, y, w):
    w = w / w.sum()
    a, b = abs(x[:, None] - x), abs(y[:, None] - y)
    a, b = (d - (d @ w)[:, None] - w @ d + w @ d @ w for d in (a, b))
    mean = lambda d: w @ d @ w  # noqa: E731
    return mean(a * b) / math.sqrt(mean(a * a) * mean(b * b))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(3, 70), st.booleans(), st.booleans())
def test_distance_correlation_equals_the_loop(seed, jets, weighted, tied):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=jets)
    y = x**2 + rng.normal(size=jets)
    if tied:
        x, y = np.round(x), np.round(y)
        x[:2], y[:2] = [0, 1], [1, 0]
    w = rng.uniform(0, 2, jets) if weighted else np.ones(jets)
    found = distance_correlation(x, y, w if weighted else None)
    assert found == pytest.approx(slow_distance_correlation(x, y, w), abs=1e-9)
    assert distance_correlation(y, x, w) == pytest.approx(found, abs=1e-9)
    assert distance_correlation(5 - 3 * x, 1e3 + y, w) == pytest.approx(found, abs=1e-9)


def test_counted_distance_correlations():
    x = np.arange(4.0)
    assert distance_correlation(x, x**2) == pytest.approx(0.9379228370)
    assert distance_correlation(x, x**2, power=2) == pytest.approx(0.8796992481)
    assert distance_correlation(x, [1, 0, 1, 0]) == pytest.approx(0.2773500981)
    assert distance_correlation(np.arange(5), (np.arange(5) - 2) ** 2) == pytest.approx(0.2661770134)
    assert distance_correlation(x, 3 - 2 * x) == pytest.approx(1)
    assert distance_correlation(x, np.ones(4)) == 0
    assert distance_correlation([0, 1, 2, 3], x**2, [1, 2, 0, 1]) == pytest.approx(
        distance_correlation([0, 1, 1, 3], [0, 1, 1, 9])
    )


def test_distance_correlation_needs_no_matrix():
    # 60,000 jets: one distance matrix would hold 29 GB
    mass, _, score = background(60_000)
    assert 0.05 < distance_correlation(score, mass) < 0.6
    rng = np.random.default_rng(1)
    assert distance_correlation(rng.permutation(score), mass) < 2e-4


def test_conditional_cdf_makes_held_out_background_uniform():
    (mass, pt, score), (held_mass, held_pt, held_score) = background(60_000), background(20_000, seed=2)
    cdf = ConditionalCdf.fit(score, mass, pt)
    assert cdf.num_bins > 50
    u = cdf(held_score, held_mass, held_pt)
    assert kstest(u, "uniform").pvalue > 1e-3
    assert u.min() > 0
    assert u.max() < 1
    bins = cdf.bin_of(held_mass, held_pt)
    fitted = np.bincount(cdf.bin_of(mass, pt), minlength=cdf.num_bins)
    held = np.bincount(bins, minlength=cdf.num_bins)
    for epsilon in (0.5, 0.1):
        kept = np.bincount(bins, u > 1 - epsilon, minlength=cdf.num_bins)
        error = np.sqrt(epsilon * (1 - epsilon) * (held + held**2 / fitted))
        pull = (kept - epsilon * held)[held > 20] / error[held > 20]
        assert np.abs(pull).max() < 4.5
        assert np.mean(pull**2) == pytest.approx(1, abs=0.5)


def test_cut_on_the_conditional_cdf_is_at_the_floor():
    mass, _, score = background(40_000)
    held_mass, _, held_score = background(10_000, seed=2)
    u = ConditionalCdf.fit(score, mass, mass_bins=40)(held_score, held_mass)
    measure = MassJsd(40, 0, 250)
    before, after = (sculpting(x, held_mass, measure, (0.1,)).cuts[0] for x in (held_score, u))
    assert before.jsd > 3 * before.floor.high
    assert after.jsd < 1.5 * after.floor.high


def test_order_inside_a_bin_is_kept_beyond_the_range_too():
    mass, _, score = background(5000)
    signal = np.random.default_rng(9).normal(score.max(), 1.0, 500)
    cdf = ConditionalCdf.fit(score, mass)
    bins = cdf.bin_of(mass)
    everything = np.concatenate([score, signal])
    for number in range(cdf.num_bins):
        here = np.flatnonzero(bins == number)
        rows = np.concatenate([here, np.arange(5000, 5500)])
        u = cdf(everything[rows], np.full(len(rows), mass[here[0]]))
        assert auc(u, rows >= 5000) == pytest.approx(auc(everything[rows], rows >= 5000), abs=1e-12)


def test_cross_fitting_uses_other_jets_and_keeps_events_together():
    mass, pt, score = background(6000)
    is_background = np.arange(6000) < 5000
    u = cross_fitted(score, mass, is_background, pt, min_jets=50)
    assert kstest(u[is_background], "uniform").pvalue > 1e-3
    # signal is not fitted
    other = cross_fitted(np.where(is_background, score, score + 1), mass, is_background, pt, min_jets=50)
    np.testing.assert_array_equal(other[is_background], u[is_background])
    assert (other[~is_background] > u[~is_background]).all()
    # nor is a jet by itself, or by another of its event: one outlier changes no quantile in its own fold
    event = np.arange(6000) // 2
    first = cross_fitted(score, mass, is_background, event=event)
    score[0] += 100
    second = cross_fitted(score, mass, is_background, event=event)
    assert second[1] == first[1]
    assert second[0] > 0.999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s: jensen_shannon([0, 0], [1, 0]), "all 2 bins of the first histogram are empty"),
        (lambda m, s: jensen_shannon([1, 0], [1, -1]), "second histogram has bins that are negative"),
        (lambda m, s: jensen_shannon([1], [1, 1]), r"found shapes \(1,\) and \(2,\)"),
        (lambda m, s: jensen_shannon([1, 0], [1, 0], 1), "base of the logarithm must be above 1"),
        (lambda m, s: MassJsd(0), "at least one bin, found 0"),
        (lambda m, s: MassJsd(10, 5, 5), "must ascend, found 5 to 5 GeV"),
        (lambda m, s: MassJsd(9, 0, 1).of_cut(m, s > 0), "all 9 bins of the mass histogram of jets that pass the cut"),
        (lambda m, s: MassJsd(9, 0, 1).floor(m, 5), "all bins are empty"),
        (lambda m, s: MassJsd().floor(m, 0), "cannot let 0 of 1000 jets pass"),
        (lambda m, s: MassJsd(reference="failed").of_cut(m, m > 0), "that fail it are empty"),
        (lambda m, s: MassJsd().of_cut(m * np.nan, s > 0), "1000 of 1000 masses are not finite"),
        (lambda m, s: sculpting(s, m), "leaves 1 of 1000 background jets above the cut, fewer than the minimum of 10"),
        (lambda m, s: sculpting(s * np.nan, m), "1000 of 1000 scores are not finite"),
        (lambda m, s: cut_threshold(s, 1.5), r"inside \(0, 1\], found 1.5"),
        (
            lambda m, s: rejection_and_sculpting(m * 0 + (m > np.median(m)) * 9 + s * 0.1, m > np.median(m), m),
            "leaves 0 of 500 background jets above the cut",
        ),
        (lambda m, s: distance_correlation(m, s[1:]), "of the same number"),
        (lambda m, s: distance_correlation(m, s * np.nan), "1000 of 1000 second variables are not finite"),
        (lambda m, s: distance_correlation(m, s, -m), "add up to -.*, expected more than 0"),
        (lambda m, s: sculpting(s, m, weight=-m), "weights of 1000 jets add up to -.*, expected more than 0"),
        (lambda m, s: sculpting(s, m, weight=m * np.nan), "1000 of 1000 weights are not finite"),
        (lambda m, s: sculpting(s, m, weight=m[1:]), "there are 1000 jets but 999 weights"),
        (
            lambda m, s: cut_threshold(s, 0.1, 10, np.where(s > s[np.argsort(s)[-60]], 1.0, 1e-3)),
            r"leaves 6 of 60\.\d+ background jets above the cut, fewer than the minimum of 10",
        ),
        (
            lambda m, s: ConditionalCdf.fit(s, m, weight=np.where(s > np.quantile(s, 0.95), 1.0, 1e-6)),
            r"needs 100 background jets per bin, found 50\.\d+ in all",
        ),
        (lambda m, s: ConditionalCdf.fit(s[:50], m[:50]), "needs 100 background jets per bin, found 50 in all"),
        (lambda m, s: ConditionalCdf.fit(s, -m), "1000 of 1000 masses are negative"),
        (lambda m, s: ConditionalCdf.fit(s, m, m + s, min_jets=5)(s, m), "the pT is missing"),
        (lambda m, s: ConditionalCdf.fit(s, m, mass_bins=0), "found 0 mass bins"),
        (lambda m, s: cross_fitted(s, m, m > 0, folds=1), "two folds or more, found 1"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(call, message):
    mass, _, score = background(1000)
    with pytest.raises(MetricError, match=message) as error:
        call(mass, score)
    assert "\n" not in str(error.value)


def repeated(times, *columns):
    return tuple(np.repeat(x, times) for x in columns)


def test_unit_weights_are_no_weights():
    mass, pt, score = background(3000)
    ones, efficiencies = np.ones(3000), (0.5, 0.1234, 0.01)
    one, two = (sculpting(score, mass, None, efficiencies, weight=w) for w in (None, 3.0 * ones))
    for a, b in zip(one.cuts, two.cuts, strict=True):
        assert (a.threshold, a.efficiency, a.floor) == (b.threshold, b.efficiency, b.floor)
        assert b.jsd == pytest.approx(a.jsd, rel=1e-12)
        np.testing.assert_array_equal(3 * a.histogram, b.histogram)
        np.testing.assert_array_equal(9 * a.squared, b.squared)
    one, two = (sculpting(score, mass, None, efficiencies, weight=w).rows() for w in (None, ones))
    assert one == two
    is_signal = score > 6.5
    trade = rejection_and_sculpting(mass, is_signal, mass, min_jets=1)
    assert rejection_and_sculpting(mass, is_signal, mass, min_jets=1, weight=ones) == trade
    plain, weighted = (ConditionalCdf.fit(score, mass, pt, weight=w) for w in (None, ones))
    np.testing.assert_array_equal(weighted(score, mass, pt), plain(score, mass, pt))
    u = cross_fitted(score, mass, ~is_signal)
    np.testing.assert_array_equal(cross_fitted(score, mass, ~is_signal, weight=ones), u)


@pytest.mark.parametrize("reference", ["all", "failed"])
def test_whole_weights_are_repeated_jets(reference):
    """But for the floor and least numbers: a jet of weight 3 is known less well than three jets."""
    mass, pt, score = background(4000)
    times = np.random.default_rng(3).integers(1, 4, 4000)
    again = repeated(times, score, mass, pt)
    measure = MassJsd(30, 0, 200, reference=reference)
    for efficiency in (0.5, 0.1, 0.0333):
        (weighted,), (copies,) = (
            sculpting(s, m, measure, (efficiency,), weight=w).cuts
            for s, m, w in ((score, mass, times), (again[0], again[1], None))
        )
        assert weighted.threshold == copies.threshold
        assert weighted.efficiency == pytest.approx(copies.efficiency, rel=1e-12)
        assert weighted.jsd == pytest.approx(copies.jsd, rel=1e-9)
        np.testing.assert_array_equal(weighted.histogram, copies.histogram)
        assert (weighted.squared >= copies.squared).all()
        assert weighted.floor.median > copies.floor.median
    # bins that are filled so well that their edges do not hang on the least number
    even = np.exp(np.linspace(3, 5, 4000))
    first = ConditionalCdf.fit(score, even, mass_bins=5, weight=times)
    second = ConditionalCdf.fit(again[0], np.repeat(even, times), mass_bins=5)
    assert first.num_bins == second.num_bins == 5
    np.testing.assert_allclose(first(score, even), second(score, even), rtol=1e-12)
    event = np.arange(4000)
    weighted = cross_fitted(score, even, score < 8, event=event, mass_bins=5, weight=times)
    copies = cross_fitted(again[0], *repeated(times, even, score < 8), event=np.repeat(event, times), mass_bins=5)
    np.testing.assert_allclose(np.repeat(weighted, times), copies, rtol=1e-12)


def test_weighted_cuts_keep_the_share_of_the_weights():
    """Jets that were thinned at random and weigh what was thinned give the spectrum before, within errors."""
    mass, _, score = background(100_000)
    rng = np.random.default_rng(2)
    share = np.clip(mass / 150, 0.1, 1.0)
    kept = rng.random(len(mass)) < share
    m, s, w = mass[kept], score[kept], 1e-3 / share[kept]
    full = sculpting(score, mass, efficiencies=(0.1,)).cuts[0]
    thinned, unweighted = (sculpting(s, m, efficiencies=(0.1,), weight=x).cuts[0] for x in (w, None))
    assert thinned.efficiency == pytest.approx(0.1, rel=1e-3)
    assert thinned.threshold == pytest.approx(full.threshold, rel=0.01)
    assert thinned.jsd == pytest.approx(full.jsd, rel=0.05)
    assert abs(unweighted.jsd - full.jsd) > 0.15 * full.jsd
    u = ConditionalCdf.fit(s, m, weight=w)(score, mass)
    assert np.abs(np.quantile(u, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.02


def test_negative_weights_add_up():
    """Of pairs of jets of weight 1 and -1 at the same place nothing is left."""
    mass, _, score = background(5000)
    rng = np.random.default_rng(8)
    ghost_score, ghost_mass = rng.normal(8, 1, 500), rng.uniform(20, 150, 500)
    s, m = (np.concatenate([x, y, y]) for x, y in ((score, ghost_score), (mass, ghost_mass)))
    w = np.concatenate([np.ones(5500), -np.ones(500)])
    clean, signed = (sculpting(*x, efficiencies=(0.2,)).cuts[0] for x in ((score, mass), (s, m)))
    assert abs(signed.jsd - clean.jsd) > 1e-3
    signed = sculpting(s, m, efficiencies=(0.2,), weight=w).cuts[0]
    assert (signed.threshold, signed.efficiency) == (clean.threshold, clean.efficiency)
    assert signed.jsd == pytest.approx(clean.jsd, rel=1e-9)
    assert signed.floor.median > clean.floor.median
    assert distance_correlation(s, m, w) == pytest.approx(distance_correlation(score, mass), rel=1e-9)
    plain, weighted = ConditionalCdf.fit(score, mass, mass_bins=1), ConditionalCdf.fit(s, m, mass_bins=1, weight=w)
    np.testing.assert_allclose(weighted(score, mass), plain(score, mass), atol=0.02)
    # negative jets a little off: their share of the weights falls now and then, the quantile does not
    s[-500:] += 0.05
    weighted = ConditionalCdf.fit(s, m, mass_bins=1, weight=w)
    assert (np.diff(np.cumsum(w[np.argsort(s)])) < 0).any()
    u = weighted(np.linspace(-5, 15, 5000), np.full(5000, 50.0))
    assert (np.diff(u) >= 0).all()
    assert u.min() > 0
    assert u.max() < 1


def test_a_bin_of_negative_content_is_empty():
    measure, mass = MassJsd(2, 0, 2), np.array([0.5, 0.5, 1.5, 1.5])
    passes, weight = np.array([True, False, True, False]), np.array([1.0, 1.0, -1.0, 2.0])
    assert measure.of_cut(mass, passes, weight) == pytest.approx(jensen_shannon([2, 1], [1, 0]))
