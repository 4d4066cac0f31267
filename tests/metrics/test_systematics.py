"""The ATLAS recipe: its algebra on rejections made by hand, its bins, its bootstrap."""

import json
from pathlib import Path

import numpy as np
import pytest

from jetsweep.metrics import background_rejection, roc_curve
from jetsweep.metrics._bootstrap import Sample, rejections
from jetsweep.metrics.systematics import (
    ATLAS_TOP_TAGGING as ATLAS,
)
from jetsweep.metrics.systematics import (
    NOMINAL,
    Group,
    Measurement,
    Scheme,
    Variation,
    measure,
    relative_uncertainties,
)

SETS = ("cluster", "string", "angular", "dipole", "ttbar_pythia", "ttbar_herwig")


def known(values, entries=1):
    """Rejections of every measurement, 100 where nothing is said; keys are sample names or measurements."""
    wanted = {m for group in ATLAS.groups for m in group.measurements}
    return {m: np.full(entries, values.get(m, values.get(m.sample, 100.0)), float) for m in wanted}


def jets(size=4000, seed=1, shift=1.5, pt=(350, 3150)):
    rng = np.random.default_rng(seed)
    is_signal = np.arange(size) % 2 == 1
    score = rng.normal(np.where(is_signal, shift, 0.0))
    weights = rng.lognormal(0, 0.1, (size, 27))
    return Sample(score, is_signal, rng.uniform(*pt, size), 10 * np.arange(size), weights)


def changed(sample, **changes):
    return Sample(**{**vars(sample), **changes})


def everything(nominal, **samples):
    """All varied samples, unvaried unless given."""
    found = {NOMINAL: nominal, **{name: changed(nominal, weights=None) for name in ATLAS.paired}}
    for name in SETS:
        other = jets(len(nominal.pt), seed=5)
        found[name] = other.take(other.is_signal == name.startswith("ttbar"))
    return found | samples


def test_algebra_of_the_groups():
    found = relative_uncertainties(
        ATLAS.groups,
        known({"esup": 90, "esdown": 105, "cer": 99, "dipole": 80, "cluster": 90, "string": 90, "ttbar_herwig": 103}),
        ATLAS.edges[:1],
    )
    assert found["cluster"] == pytest.approx(0.100499, abs=1e-6)
    assert found["track"] == 0
    assert found["background_model"] == pytest.approx(0.2)
    assert found["signal_model"] == pytest.approx(0.03)
    assert found["total"] == pytest.approx(np.sqrt(0.1**2 + 0.01**2 + 0.2**2 + 0.03**2))


def test_scale_takes_the_larger_of_two_factors_per_class_and_shower():
    weights = {
        Measurement(NOMINAL, replaces, k): value
        for replaces, k, value in [
            ("signal", 4, 98), ("signal", 9, 101), ("signal", 6, 97), ("background", 7, 110), ("background", 6, 95),
        ]
    }  # fmt: skip
    found = relative_uncertainties(ATLAS.groups, known(weights), ATLAS.edges[:1])
    assert found["scale"] == pytest.approx(np.sqrt(0.02**2 + 0.03**2 + 0.1**2))
    (scale,) = (group for group in ATLAS.groups if group.name == "scale")
    assert {(m.replaces, m.weight) for m in scale.measurements} - {("both", None)} == {
        (replaces, k) for replaces in ("signal", "background") for k in (4, 6, 7, 9)
    }


def test_signal_model_above_its_reach_is_the_largest_of_five_bins():
    rejection = known({}, entries=15)
    herwig = rejection[Measurement("ttbar_herwig", "signal")]
    herwig[:] = [102, 101, 104, 107, 103, 102, *[300] * 9]
    found = relative_uncertainties(ATLAS.groups, rejection, ATLAS.edges)["signal_model"]
    np.testing.assert_allclose(found, [0.02, 0.01, 0.04, 0.07, 0.03, 0.02, *[0.07] * 9])


def test_bins_are_half_open():
    assert ATLAS.edges == tuple(np.linspace(350, 3150, 15))
    sample = jets(2000)
    sample.pt[:2] = 550.0
    sample.pt[2:4] = 3150.0
    found = measure(ATLAS, {NOMINAL: sample}, replicas=2)
    inside = [(sample.pt >= low) & (sample.pt < high) for low, high in zip(ATLAS.edges, ATLAS.edges[1:])]
    assert found.num_jets.tolist() == [2000, *(int(x.sum()) for x in inside)]
    assert found.num_jets[1:].sum() == 1998
    for i, chosen in enumerate(inside):
        roc = roc_curve(sample.score[chosen], sample.is_signal[chosen])
        assert found.rejection[1 + i] == pytest.approx(background_rejection(roc, 0.5)[0], rel=1e-12)


@pytest.mark.parametrize("efficiency", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("rounded", [False, True])
def test_rejections_are_those_of_the_roc_curve(efficiency, rounded):
    sample = jets(500)
    score = sample.score.round(1) if rounded else sample.score
    weight = np.random.default_rng(2).random(500)
    found = rejections(changed(sample, score=score, weight=weight), np.array([0.0, 1.0]), efficiency, 1, seed=1)
    expected = background_rejection(roc_curve(score, sample.is_signal, weight), efficiency)[0]
    assert found[0, 0] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(found[:, 1]).all()


def test_weights_of_one_change_nothing_nor_does_a_common_factor():
    nominal = jets()
    ones = changed(nominal, weights=np.ones((4000, 27)))
    assert (measure(ATLAS, everything(ones), replicas=3).uncertainty["scale"] == 0).all()
    doubled = np.ones((4000, 27))
    doubled[nominal.is_signal, 1:] = 2.0
    found = measure(ATLAS, everything(changed(nominal, weights=doubled)), replicas=3)
    np.testing.assert_allclose(found.uncertainty["scale"], 0, atol=1e-12)


def test_an_unvaried_copy_gives_zero_with_no_error_and_a_varied_one_does_not():
    nominal = jets()
    copy = measure(ATLAS, everything(nominal), replicas=5)
    for name in ("cluster", "track"):
        assert (copy.uncertainty[name] == 0).all()
        assert (copy.uncertainty_error[name] == 0).all()
    order = np.random.default_rng(3).permutation(4000)
    shuffled = changed(nominal, weights=None).take(order)
    assert measure(ATLAS, everything(nominal, esup=shuffled), replicas=5).uncertainty_error["cluster"][0] == 0
    moved = changed(nominal, score=nominal.score + 0.2 * nominal.is_signal, weights=None)
    found = measure(ATLAS, everything(nominal, esup=moved), replicas=5)
    expected = rejections(moved, np.array(ATLAS.edges), 0.5, 1, seed=1)[0, 0] / found.rejection[0] - 1
    assert found.uncertainty["cluster"][0] == pytest.approx(expected)
    assert found.of_kind("experimental")[0] == found.uncertainty["cluster"][0]
    assert found.uncertainty["total"][0] == pytest.approx(
        np.hypot(found.of_kind("experimental"), found.of_kind("theory"))[0]
    )


def test_bootstrap_agrees_with_the_binomial_error_and_keeps_the_correlation():
    nominal = jets(20_000, pt=(400, 500))
    slightly = changed(nominal, score=nominal.score + 0.02 * nominal.is_signal, weights=None)
    found = measure(ATLAS, {NOMINAL: nominal, **dict.fromkeys(ATLAS.paired, slightly)}, replicas=150)
    rejection, error, _ = background_rejection(roc_curve(nominal.score, nominal.is_signal), 0.5)
    # the cut scatters with the signal, which the binomial error of the background does not know
    assert rejection == pytest.approx(found.rejection[0])
    assert error < found.rejection_error[0] < 2 * error
    independent = found.rejection_error[0] / found.rejection[0]
    assert found.uncertainty_error["cluster"][0] < 0.5 * independent
    unpaired = Scheme("x", ATLAS.groups[:1], ATLAS.edges)
    loose = measure(unpaired, {NOMINAL: nominal, **dict.fromkeys(("esup", "esdown", "cer", "cpos"), slightly)})
    assert loose.uncertainty_error["cluster"][0] > 2 * found.uncertainty_error["cluster"][0]
    assert any(text.startswith("cluster: ") for text in loose.warnings)


def test_the_replaced_class_alone_is_replaced():
    nominal = jets()
    background = nominal.take(~nominal.is_signal)
    model = Group("m", "theory", ((Variation(Measurement("b", "background")),),))
    scheme = Scheme("x", (model,), ATLAS.edges)
    same = measure(scheme, {NOMINAL: nominal, "b": changed(background, weights=None)}, replicas=3)
    assert same.uncertainty["m"][0] == 0
    harder = changed(background, score=background.score + 0.5, weights=None)
    # signal jets of the alternative sample are not looked at
    mixed = harder.joined(nominal.take(nominal.is_signal))
    results = [measure(scheme, {NOMINAL: nominal, "b": b}, replicas=3).uncertainty["m"][0] for b in (harder, mixed)]
    assert results[0] == results[1] > 0.1
    with pytest.raises(ValueError, match="the sample 'b' has no background jets"):
        measure(scheme, {NOMINAL: nominal, "b": nominal.take(nominal.is_signal)}, replicas=3)


def test_missing_samples_and_other_events():
    nominal = jets(400)
    lone = measure(ATLAS, {NOMINAL: nominal, "cluster": nominal, "string": nominal, "angular": nominal,
                           "dipole": nominal}, replicas=2)  # fmt: skip
    assert set(lone.left_out) == {"cluster", "track", "signal_model"}
    assert set(lone.uncertainty) == {"background_model", "scale", "total"}
    with pytest.raises(ValueError, match=r"'cluster': the sample 'esdown' is missing, .* found esup, cer, cpos"):
        measure(ATLAS, {NOMINAL: nominal, "esup": nominal, "cer": nominal, "cpos": nominal})
    strange = changed(nominal, event=nominal.event + 1)
    with pytest.raises(ValueError, match="the varied sample 'esup' and the nominal one have no event number in common"):
        measure(ATLAS, everything(nominal, esup=strange), replicas=2)
    zero = nominal.weights.copy()
    zero[3, 0] = 0
    with pytest.raises(ValueError, match=r"w_4 / w_0 is not finite for 1 of 400 jets"):
        measure(ATLAS, everything(changed(nominal, weights=zero)), replicas=2)


def test_empty_bins_are_not_numbers_and_do_not_spoil_the_rest():
    nominal = jets(4000, pt=(350, 900))
    found = measure(ATLAS, everything(nominal), replicas=4)
    assert np.isfinite(found.rejection[:4]).all()
    assert np.isnan(found.rejection[4:]).all()
    assert np.isfinite(found.uncertainty["total"][0])
    assert np.isnan(found.uncertainty["total"][4:]).all()
    assert (found.rows()[4]["pt"], found.rows()[4]["jets"]) == ("950-1150", 0)
    with pytest.raises(ValueError, match=r"no uncertainty can be measured \(cluster: no samples esup, .*weights"):
        measure(ATLAS, {NOMINAL: changed(nominal, weights=None)})


def test_published_benchmarks_carry_the_message():
    published = json.loads(Path(__file__).with_name("atlas_benchmarks.json").read_text())
    rejection, percent = published["rejection"], published["uncertainty_percent"]
    assert min(percent, key=percent.get) == "EFN"
    assert max(percent, key=percent.get) == max(rejection, key=rejection.get) == "ParticleNet"
    for tagger in ("ParticleNet", "hlDNN"):
        for values in published[tagger].values():
            assert len(values) == len(ATLAS.edges)
            assert values[-1] == values[-2]
