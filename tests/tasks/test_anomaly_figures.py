"""Figures of an anomaly search on toy jets: what is drawn are the numbers of the metrics."""

import numpy as np
import pytest

from jetsweep.errors import MetricError
from jetsweep.metrics import cross_fitted, sic_band
from jetsweep.tasks import _anomaly_figures as figures
from jetsweep.tasks._anomaly_jets import AnomalyJets
from jetsweep.tasks._anomaly_report import anomaly_sections
from jetsweep.tasks._report import SplitResults

CLASSES = ("qcd", "w", "top", "other")
SIZES = (4000, 600, 600, 50)


def toy_arrays(seed=1, sizes=SIZES, latents=3):
    """A score `mse` that rises with the mass, the same after the conditional CDF, and `kl`, which does not."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(sizes)), sizes)
    centre, shift = np.array([90.0, 80.0, 174.0, 90.0])[label], np.array([0.0, 1.0, 2.0, 0.0])[label]
    mass = np.where(label == 0, rng.gamma(3.0, 30.0, len(label)), rng.normal(centre, 10.0)).clip(5.0)
    mse = np.exp(0.4 * rng.normal(size=len(label)) + 0.3 * shift + 0.01 * mass)
    arrays = {"rows": np.arange(len(label)), "label": label, "mass": mass, "pt": np.full(len(label), 600.0)}
    arrays |= {"score_mse": mse, "score_kl": rng.normal(size=len(label)) + shift}
    arrays["score_mse_cdf"] = cross_fitted(mse, mass, label == 0, min_jets=50)
    if latents:
        size = np.array([1.0, 1e-4, 0.3])[:latents]
        arrays["latent_kl"] = (rng.exponential(size=(len(label), latents)) * size).astype(np.float32)
    return arrays


def roles(arrays, main="mse"):
    return AnomalyJets.of(arrays, CLASSES, ("qcd",), ("w", "top"), main)


@pytest.fixture(scope="module")
def jets():
    return roles(toy_arrays())


def line(axes, label):
    (found,) = [drawn for drawn in axes.get_lines() if drawn.get_label().startswith(label)]
    return found


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_figure_is_there_and_classes_without_a_role_are_not(jets):
    made = figures.anomaly_figures(jets)
    assert set(made) == {
        "scores", "sic", "signal-matrix-auc", "signal-matrix-sic", "jsd-rejection", "mass", "mass-jsd", "latent-kl"
    }  # fmt: skip
    assert [text.get_text() for text in made["scores"].legends[0].get_texts()] == ["background", "w", "top"]
    assert [a.get_xlabel() for a in made["scores"].axes] == ["score mse", "score kl", "score mse_cdf"]
    assert [a.get_xscale() for a in made["scores"].axes] == ["log", "linear", "linear"]
    for patch in made["scores"].axes[1].patches:
        assert patch.get_data().values.sum() == pytest.approx(1.0)


def test_sic_with_its_statistical_error(jets):
    curve = jets.sic("top")
    (axes,) = figures.sic_figure({"top": curve}).axes
    drawn = line(axes, "top")
    best = curve.maximum
    assert drawn.get_ydata().max() == best.sic
    assert set(zip(drawn.get_xdata(), drawn.get_ydata())) <= set(zip(curve.signal_efficiency, curve.sic))
    assert drawn.get_label() == f"top (max {best.sic:.2f} ± {best.error:.2f})"
    band = axes.collections[0].get_paths()[0].vertices
    at = band[np.isclose(band[:, 0], best.signal_efficiency)][:, 1]
    assert at.max() == pytest.approx(best.sic + best.error, rel=0.02)
    assert at.min() < best.sic
    random = line(axes, "random")
    np.testing.assert_allclose(random.get_ydata(), np.sqrt(random.get_xdata()))


def test_the_band_of_runs_is_that_of_the_metric():
    curves = [roles(toy_arrays(seed, latents=0)).sic("w") for seed in range(4)]
    (axes,) = figures.sic_band_figure({"w": curves}).axes
    drawn = line(axes, "w")
    band = sic_band(curves, drawn.get_xdata())
    np.testing.assert_array_equal(drawn.get_ydata(), band.median)
    area = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (area.min(), area.max()) == pytest.approx((np.nanmin(band.low), np.nanmax(band.high)))
    with pytest.raises(MetricError, match="a band needs two runs or more, found 1"):
        figures.sic_band_figure({"w": curves[:1]})


def test_mass_spectra_before_and_after_the_conditional_cdf(jets):
    figure = figures.anomaly_figures(jets)["mass"]
    assert [axes.get_title() for axes in figure.axes] == ["cut on mse", "cut on mse_cdf"]
    means = []
    for axes in figure.axes:
        assert legend(axes) == ["before the cut", *(f"$\\varepsilon_B$ = {e:g}" for e in (0.5, 0.1, 0.05, 0.01))]
        spectra = [patch.get_data() for patch in axes.patches]
        for values, edges, _ in spectra:
            assert (values * np.diff(edges)).sum() == pytest.approx(1.0)
        means.append([(v * np.diff(e) * (e[1:] + e[:-1]) / 2).sum() for v, e, _ in spectra])
    plain, decorrelated = means
    assert plain == sorted(plain)  # a harder cut on a score that follows the mass
    assert plain[2] > 1.5 * plain[0]
    assert decorrelated[2] == pytest.approx(decorrelated[0], rel=0.1)


def test_cuts_that_leave_too_few_jets_are_left_out():
    jets = roles(toy_arrays(sizes=(300, 40, 40, 1)))
    assert [cut.asked_efficiency for cut in jets.sculpting().cuts] == [0.5, 0.1, 0.05]
    assert min(cut.asked_efficiency for cut in jets.scan().cuts) == pytest.approx(10 / 300)


def test_jsd_against_the_background_efficiency_with_its_floor(jets):
    scans = {name: jets.scan(name) for name in ("mse", "mse_cdf")}
    (axes,) = figures.jsd_figure(scans).axes
    for drawn, (name, scan) in zip(axes.get_lines(), scans.items()):
        assert drawn.get_label() == name
        np.testing.assert_array_equal(drawn.get_xdata(), [cut.efficiency for cut in scan.cuts])
        np.testing.assert_array_equal(drawn.get_ydata(), [cut.jsd for cut in scan.cuts])
    floor = axes.get_lines()[-1].get_ydata()
    np.testing.assert_array_equal(floor, [cut.floor.median for cut in scans["mse"].cuts])
    assert legend(axes) == ["mse", "mse_cdf", "random cut (68 %)"]
    assert axes.get_title(loc="right") == "mass_jsd_base2_pass-all_100bins_0-500"


def test_one_over_jsd_against_rejection_of_every_score_and_signal(jets):
    points = figures.trade_offs(jets)
    (axes,) = figures.trade_off_figure(points, jets.scan()).axes
    drawn = {(bars[0].get_xdata()[0], bars[0].get_ydata()[0]) for bars in axes.containers}
    assert drawn == {(p.rejection, p.inverse_jsd) for of_score in points.values() for p in of_score.values()}
    assert len(drawn) == 6
    assert legend(axes)[:5] == ["mse", "kl", "mse_cdf", "w", "top"]
    assert points["mse_cdf"]["w"].inverse_jsd > 3 * points["mse"]["w"].inverse_jsd


def test_the_matrix_shows_its_numbers(jets):
    matrix = jets.matrix()
    axes = figures.matrix_figure(matrix, "AUC").axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix.values)
    assert [text.get_text() for text in axes.texts] == [f"{value:.3f}" for value in matrix.values.ravel()]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["w", "top"]
    assert matrix.values[1, 1] == pytest.approx(jets.roc("top", "kl").area)


def test_several_background_classes_are_one_background():
    arrays = toy_arrays()
    both = AnomalyJets.of(arrays, CLASSES, ("qcd", "other"), ("w",), "kl")
    merged = arrays | {"label": np.where(arrays["label"] == 3, 0, arrays["label"])}
    assert both.matrix().values.tolist() == roles(merged).matrix().values[:1].tolist()
    assert both.is_background.sum() == SIZES[0] + SIZES[3]


def test_latents_are_ordered_and_the_collapsed_one_is_told(jets):
    (axes,) = figures.latent_figure(jets).axes
    heights = [bar.get_height() for bar in axes.patches]
    mean = jets.latent_kl[jets.is_background].astype(float).mean(axis=0)
    np.testing.assert_allclose(heights, np.sort(mean)[::-1])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "2", "1"]
    assert "background: 2 of 3 latents active" in legend(axes)


def test_too_few_jets_leave_figures_out_rather_than_fail():
    made = figures.anomaly_figures(roles(toy_arrays(sizes=(90, 40, 40, 1), latents=0)))
    assert {"sic", "signal-matrix-sic", "latent-kl"}.isdisjoint(made)
    assert {"scores", "signal-matrix-auc", "mass"} <= set(made)


def results(best, **more):
    return SplitResults("test", "trial 3", best, **more)


def parts_of(sections):
    return {part.name: part for section in sections for part in section.parts}


def test_bands_are_over_repeats_first_and_over_the_front_else():
    runs = [toy_arrays(seed, latents=0) for seed in range(3)]
    front = {"trial 3": runs[0], "trial 5": runs[1]}
    repeated = parts_of(anomaly_sections(results(runs[0], repeats=runs, repeated="trial 3", compared=front), roles))
    assert "3 runs of trial 3 with other seeds" in repeated["sic-band"].caption
    over_front = parts_of(anomaly_sections(results(runs[0], compared=front, is_front=True), roles))
    assert "the 2 trials of the Pareto front" in over_front["sic-band"].caption
    alone = parts_of(anomaly_sections(results(runs[0]), roles))
    assert alone["sic-band"].reason.startswith("one run has no band")
    assert "trials-compared" not in alone
    table = over_front["trials-compared"].table
    assert [row[0] for row in table.rows] == ["trial 3", "trial 5"]
    row = dict(zip(table.columns, table.rows[1]))
    jets = roles(runs[1])
    assert row["worst AUC"] == min(row["AUC w"], row["AUC top"]) == jets.roc("w").area
    assert row["JSD at 0.1"] == jets.sculpting(efficiencies=(0.1,)).cuts[0].jsd


def test_the_report_says_why_a_figure_is_missing():
    few = anomaly_sections(results(toy_arrays(sizes=(90, 40, 40, 1), latents=0)), roles)
    found = parts_of(few)
    assert "fewer than the minimum count of 100" in found["sic"].reason
    assert "fewer than the minimum count of 100" in found["signal-matrix-sic"].reason
    assert found["signal-matrix-auc"].figure is not None
    assert [section.text for section in few if section.title == "Latent space"] == [
        "The model has no latent space with a prior."
    ]
    no_signal = anomaly_sections(results(toy_arrays(sizes=(300, 0, 0, 5))), roles)
    assert no_signal[0].text == "The split has no jets of a signal."
    assert "mass" in parts_of(no_signal)
