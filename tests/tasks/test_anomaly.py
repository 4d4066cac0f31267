"""Task anomaly: what the loss is made of, what labels may and may not do, figures of merit, two ranks, resumption."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist

from jetsweep.data.batch import Batch
from jetsweep.data.config import DataConfig, prepare
from jetsweep.errors import DataError, JetsweepError
from jetsweep.experiment import load_experiment
from jetsweep.losses import distance_correlation, kl_per_jet
from jetsweep.losses.reconstruction import reconstruction_error
from jetsweep.metrics import MassJsd, cross_fitted, roc_curve
from jetsweep.metrics import distance_correlation as exact_correlation
from jetsweep.models.vae import Reconstruction
from jetsweep.search.space import grid_points
from jetsweep.tasks import build_task
from jetsweep.tasks._anomaly_config import AnomalyConfig
from jetsweep.training import TrialSpec, train
from jetsweep.training.check import check_data
from jetsweep.training.checkpoint import load_checkpoint, read_weights
from jetsweep.training.history import read_history
from jetsweep.training.world import World

CLASSES = ("qcd", "w", "top")
SOURCE = {"name": "toy", "jets": 3000, "seed": 1}
VAE = {"name": "vae", "features": "energyflow", "widths": [16, 8], "latent": 3, "num_constituents": 8}
SMALL = {"background": ["qcd"], "min_background": 20}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("anomaly-data")
    prepare(DataConfig.model_validate({"source": SOURCE}), root)
    return root


def make_spec(task=(), model=(), data=(), **training):
    return TrialSpec.model_validate(
        {
            "name": "test",
            "seed": 3,
            "data": {"source": SOURCE, "max_constituents": 16, **dict(data)},
            "task": {"name": "anomaly", **SMALL, **dict(task)},
            "model": VAE | dict(model),
            "training": {"epochs": 2, "batch_size": 200, "optimizer": {"name": "adam", "lr": 3e-3}, **training},
        }
    )


def task_of(**config):
    return build_task(AnomalyConfig(**{"background": ["qcd"], **config}), CLASSES)


def toy_outputs(num_jets=64, seed=0, grad=False):
    source = torch.Generator().manual_seed(seed)
    target, output = torch.randn(2, num_jets, 5, 3, generator=source)
    mask = torch.arange(5) < torch.randint(1, 6, (num_jets, 1), generator=source)
    mean, log_variance = torch.randn(2, num_jets, 4, generator=source)
    output.requires_grad_(grad)
    error = reconstruction_error(target, output, mask)
    return Reconstruction(error, target, output, mask, mean, log_variance, None)


def toy_batch(num_jets=64, weight=None, seed=0, pair=None):
    mass = torch.rand(num_jets, generator=torch.Generator().manual_seed(seed)) * 200
    targets = {"label": torch.zeros(num_jets, dtype=torch.long)} | ({} if pair is None else {"pair": pair})
    scalars = {"jet_mass": mass, "jet_pt": 600 + mass}
    return Batch({}, scalars, targets, weight, torch.arange(num_jets))


def test_loss_is_the_sum_of_its_terms():
    outputs, batch = toy_outputs(), toy_batch()
    task = task_of(kl={"beta": 0.3, "convention": "sum"}, disco={"weight": 5.0, "power": 2.0})
    total, parts = task.loss(outputs, batch)
    per_jet = outputs.error + 0.3 * kl_per_jet(outputs.mean, outputs.log_variance, "sum")
    correlation = distance_correlation(per_jet, batch.scalars["jet_mass"], power=2.0)
    torch.testing.assert_close(total, per_jet.mean() + 5 * correlation)
    assert set(parts) == {"loss", "reconstruction", "kl", "disco"}
    torch.testing.assert_close(parts["reconstruction"], outputs.error.mean())


@pytest.mark.parametrize(("of", "shift"), [("reconstruction", 0), ("score", 1)])
def test_what_is_decorrelated_can_be_chosen(of, shift):
    outputs, batch = toy_outputs(), toy_batch()
    outputs = outputs._replace(error_of_mean=outputs.error + 1)
    _, parts = task_of(kl={"beta": 0.0}, disco={"of": of}).loss(outputs, batch)
    expected = distance_correlation(outputs.error + shift, batch.scalars["jet_mass"])
    torch.testing.assert_close(parts["disco"], expected)


def test_terms_are_annealed_by_the_epoch():
    outputs, batch = toy_outputs(), toy_batch()
    task = task_of(kl={"beta": 2.0, "annealing": {"name": "published", "table": "vae-jet"}})
    reconstruction, divergence = outputs.error.mean(), kl_per_jet(outputs.mean, outputs.log_variance, "mean").mean()
    for epoch, weight in ((0, 0.0), (0.9, 0.0), (2.5, 0.5), (7, 1.0), (10, 0.0)):
        task.epoch = epoch
        torch.testing.assert_close(task.loss(outputs, batch)[0], reconstruction + 2 * weight * divergence)
    task = task_of(kl={"beta": 2.0, "annealing": {"name": "linear", "rise": 4}})
    task.epoch = 1.0
    torch.testing.assert_close(task.loss(outputs, batch)[0], reconstruction + 0.5 * divergence)
    torch.testing.assert_close(task.validation_loss(outputs).mean(), reconstruction + 2 * divergence)


def test_weights_of_jets_enter_every_mean():
    outputs = toy_outputs()
    weight = torch.rand(64, generator=torch.Generator().manual_seed(5))
    total, _ = task_of(kl={"beta": 0.0}).loss(outputs, toy_batch(weight=weight))
    torch.testing.assert_close(total, (weight * outputs.error).mean())
    total, _ = task_of(kl={"beta": 0.0}, use_weights=False).loss(outputs, toy_batch(weight=weight))
    torch.testing.assert_close(total, outputs.error.mean())


@pytest.mark.parametrize("kind", ["mse-sigmoid", "mse-margin", "mae-margin", "kl-margin"])
def test_equal_outliers_cost_what_the_formula_says(kind):
    outputs, batch = toy_outputs(), toy_batch()
    margin = {"margin": 1.5} if kind.endswith("margin") else {}
    task = task_of(exposure={"classes": ["w"], "kind": kind, **margin})
    found = task.exposure(outputs, outputs, batch)
    assert float(found) == pytest.approx(1.5 if margin else -0.5)


def test_outliers_of_ranks_add_up_to_those_of_the_whole_batch():
    """A sum over outliers, whatever part of them a rank has, over the ratio times its background."""
    background, outliers = toy_outputs(40), toy_outputs(60, seed=1)
    pair = torch.arange(60) * 40 // 60
    task = task_of(exposure={"classes": ["w"], "ratio": 1.5})
    whole = task.exposure(background, outliers, toy_batch(60, pair=pair))
    total = 0.0
    for first, last, low, high in ((0, 16, 0, 24), (16, 40, 24, 60)):
        part = Reconstruction(*(x[first:last] if x is not None else None for x in background))
        theirs = Reconstruction(*(x[low:high] if x is not None else None for x in outliers))
        found = task.exposure(part, theirs, toy_batch(high - low, pair=pair[low:high] - first))
        total = total + found * (last - first) / 40
    torch.testing.assert_close(total, whole)


def test_background_alone_is_trained_on(data_root):
    result_of = {}
    for name, task in {"plain": {}, "contaminated": {"contamination": {"top": 0.1}}}.items():
        folder = data_root.parent / f"anomaly-{name}"
        train(make_spec(task, epochs=1), folder, data_root)
        result_of[name] = json.loads((folder / "streams.json").read_text())["main"]["classes"]
    assert [name for name, count in result_of["plain"].items() if count] == ["qcd"]
    assert result_of["contaminated"]["top"] == pytest.approx(0.1 * result_of["contaminated"]["qcd"], abs=1)


def test_labels_of_signals_change_nothing_but_their_metrics(data_root, tmp_path):
    """Weights and the choice of the best epoch are the same whether or not signals are looked at."""
    train(make_spec(), tmp_path / "blind", data_root)
    train(make_spec({"select_on": ["top"]}), tmp_path / "seeing", data_root)
    blind, seeing = (read_history(tmp_path / name / "history.jsonl") for name in ("blind", "seeing"))
    for a, b in zip(blind, seeing, strict=True):
        assert a["val/reported_auc_top"] == b["val/auc_top"]
        for name in ("train/loss", "val/loss", "val/mass_jsd_at_0.1"):
            assert a[name] == b[name]
    weights = [read_weights(tmp_path / name / "checkpoints" / "best")[0] for name in ("blind", "seeing")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_reported_signals_are_no_objectives():
    config = AnomalyConfig(background=["qcd"], select_on=["w"])
    names = build_task(config, CLASSES).metric_names()
    assert {"worst_signal_auc", "auc_w", "mass_jsd_at_0.1"} <= set(names)
    assert not any("top" in name or name.startswith("reported") for name in names)


def scored(num_background=4000, num_signal=1000, seed=0, weight=None, times=None, **config):
    """A task with jets whose loss grows with the mass, and its evaluator; jets weigh `weight` or come `times` times."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1, 2], [num_background, num_signal, num_signal])
    mass = np.where(label == 0, rng.exponential(40, len(label)) + 20, rng.normal(80 + 90 * (label == 2), 8))
    error = torch.from_numpy(mass / 100 + rng.exponential(0.3, len(label)) + 0.4 * (label > 0)).float()
    task = task_of(kl={"beta": 0.0}, scores=["loss", "reconstruction", "kl"], **config)
    evaluator = task.evaluator()
    latents = torch.from_numpy(rng.normal(size=(2, len(label), 3))).float() * torch.tensor([1.0, 0.3, 0.0])
    order = rng.permutation(len(label))
    order = order if times is None else np.repeat(order, times[order])
    for part in np.array_split(order, 7):
        rows = torch.from_numpy(part)
        slots = torch.zeros(len(part), 1, 1)
        outputs = Reconstruction(error[rows], slots, slots, slots[..., 0] == 0, *latents[:, rows])
        scalars = {"jet_mass": torch.from_numpy(mass[part]).float(), "jet_pt": torch.full((len(part),), 600.0)}
        weight_B = None if weight is None else torch.from_numpy(weight[part]).float()
        evaluator.update(outputs, Batch({}, scalars, {"label": torch.from_numpy(label[part])}, weight_B, rows))
    return task, evaluator, label, mass, error.numpy()


def test_figures_of_merit_agree_with_plain_arrays():
    from sklearn.metrics import roc_auc_score

    task, evaluator, label, mass, error = scored(select_on=["w", "top"], mass_jsd={"bins": 30, "high": 300})
    values = evaluator.compute(lambda x: x)
    assert set(values) == set(task.metric_names())
    areas = [roc_auc_score(label[keep] > 0, error[keep]) for keep in ((label != 2), (label != 1))]
    assert values["worst_signal_auc"] == pytest.approx(min(areas), abs=1e-6)
    assert values["mean_signal_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    score, m = error[label == 0], mass[label == 0].astype(np.float32)
    passes = score >= np.sort(score)[-400]
    assert values["mass_jsd_at_0.1"] == pytest.approx(MassJsd(30, 0, 300).of_cut(m, passes))
    assert values["mass_correlation"] == pytest.approx(exact_correlation(score, m), rel=1e-5)
    assert values["active_latents"] == 2


IN_THE_LOSS = {"loss", "penalised_loss", "reconstruction", "kl"}
"""Means of weight times value, as the loss has them."""


def test_weights_of_jets_enter_every_metric():
    config = {"select_on": ["w", "top"], "background_efficiencies": [0.3, 0.0777]}
    plain = scored(**config)[1].compute(lambda x: x)
    assert scored(**config, weight=np.ones(6000))[1].compute(lambda x: x) == plain
    times = np.random.default_rng(1).integers(1, 4, 6000)
    weight = times.astype(float)
    weighted = scored(**config, weight=weight)[1].compute(lambda x: x)
    copies = scored(**config, times=times)[1].compute(lambda x: x)
    thrice = scored(**config, weight=3 * weight)[1].compute(lambda x: x)
    for name in set(plain) - IN_THE_LOSS:
        assert thrice[name] == pytest.approx(weighted[name], rel=1e-6), name
        # what the largest SIC must leave is an effective number, which is not that of copies
        assert weighted[name] == pytest.approx(copies[name], rel=0.02 if "sic" in name else 1e-6), name
    assert sum(abs(weighted[name] / plain[name] - 1) > 1e-3 for name in set(plain) - IN_THE_LOSS) >= 6
    for name in ("loss", "reconstruction", "kl"):
        assert thrice[name] == pytest.approx(3 * weighted[name], rel=1e-6)
    ignored = scored(**config, weight=weight, use_weights=False)[1].compute(lambda x: x)
    assert ignored == plain


def test_weights_enter_the_conditional_cdf():
    config = {"select_on": ["w", "top"], "main_score": "loss_cdf"}
    weight = np.random.default_rng(1).uniform(0.1, 3.0, 6000)
    plain, ones, weighted = (scored(**config, weight=w)[1] for w in (None, np.ones(6000), weight))
    assert plain.compute(lambda x: x) == ones.compute(lambda x: x)
    weighted.compute(lambda x: x)
    arrays = weighted.arrays()
    score, mass, label = (arrays[name] for name in ("score_loss", "mass", "label"))
    expected = cross_fitted(score, mass, label == 0, weight=weight.astype(np.float32))
    np.testing.assert_array_equal(arrays["score_loss_cdf"], expected)
    assert np.abs(expected - plain.arrays()["score_loss_cdf"]).max() > 0.01


def test_weights_enter_the_figures_as_they_do_the_metrics():
    weight = np.random.default_rng(1).uniform(0.1, 3.0, 6000)
    task, evaluator, *_ = scored(select_on=["top"], weight=weight)
    values, jets = evaluator.compute(lambda x: x), task.jets(evaluator.arrays())
    assert jets.roc("top").area == values["auc_top"]
    assert jets.matrix().of_score("loss")["top"] == values["auc_top"]
    assert jets.sculpting(efficiencies=(0.1,), measure=task.config.mass_jsd.measure()).cuts[0].jsd == pytest.approx(
        values["mass_jsd_at_0.1"], rel=1e-12
    )
    assert {"scores", "mass", "mass-jsd", "sic", "jsd-rejection", "latent-kl"} <= set(task.figures(evaluator.arrays()))


def test_negative_weights_are_added_as_tagging_adds_them():
    sign = np.where(np.random.default_rng(2).random(6000) < 0.1, -1.0, 1.0)
    _, evaluator, label, _, error = scored(select_on=["top"], weight=sign)
    values = evaluator.compute(lambda x: x)
    used = label != 1
    assert values["auc_top"] == roc_curve(error[used], label[used] == 2, sign[used]).area
    assert all(np.isfinite(value) for value in values.values())
    with pytest.raises(DataError, match=r"task.disco: the correlation needs weights of 0 and above, \d+ of 4000"):
        scored(weight=sign, disco={})[1].compute(lambda x: x)
    with pytest.raises(DataError, match=r"weights of 4000 jets of 'qcd' add up to -4000, expected more than 0"):
        scored(weight=-np.ones(6000))[1].compute(lambda x: x)


def test_quantiles_among_equal_masses_do_not_sculpt():
    plain = scored(select_on=["top"])[1].compute(lambda x: x)
    task, evaluator, label, *_ = scored(select_on=["top"], main_score="loss_cdf")
    values = evaluator.compute(lambda x: x)
    assert values["mass_jsd_at_0.1"] < 0.2 * plain["mass_jsd_at_0.1"]
    arrays = evaluator.arrays()
    found = arrays["score_loss_cdf"][label == 0]
    assert np.abs(np.quantile(found, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.03
    assert {"scores", "mass", "mass-jsd", "sic"} <= set(task.figures(arrays))


def test_worst_signal_is_never_better_than_the_mean():
    for seed in range(3):
        values = scored(select_on=["w", "top"], seed=seed)[1].compute(lambda x: x)
        assert values["worst_signal_auc"] <= values["mean_signal_auc"]


def test_scores_that_are_not_numbers_end_the_trial(data_root, tmp_path):
    spec = make_spec(optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"})
    result = train(spec, tmp_path, data_root)
    assert result.stopped_because == "diverged"
    assert "is not finite" in result.error


@pytest.mark.parametrize(
    ("task", "model", "training", "message"),
    [
        ({"select_on": ["top"], "report_on": ["top"]}, {}, {}, r"report_on: expected each class in one place"),
        ({"select_on": ["qcd"]}, {}, {}, r"select_on: expected each class in one place, found 'qcd' in background"),
        ({"main_score": "mse"}, {}, {}, r"main_score: expected one of scores \(loss, reconstruction, kl\)"),
        ({"background_efficiencies": [1.0]}, {}, {}, r"expected numbers inside \(0, 1\), found 1"),
        ({"contamination": {"qcd": 0.1}}, {}, {}, r"contamination: expected other classes than the background"),
        ({"exposure": {"classes": ["qcd"]}}, {}, {}, r"exposure.classes: expected other classes"),
        ({"exposure": {"classes": ["top"], "kind": "mse-sigmoid", "margin": 1}}, {}, {}, r"margin: expected none"),
        ({"mass_jsd": {"low": 10, "high": 5}}, {}, {}, r"expected low < high, found 10 and 5"),
        ({"kl": {}}, {"variational": False}, {}, r"task.kl.beta: expected 0 beside model.variational: false"),
        ({}, {"variational": False}, {}, r"task.scores: kl needs model.variational: true"),
        ({"kl": {"beta": 0}}, {"variational": False}, {}, r"task.scores: kl needs model.variational: true"),
        ({"scores": ["loss", "iwae"]}, {}, {}, r"task.scores: iwae needs model.posterior_samples of at least 1"),
        ({"disco": {}}, {}, {"accumulate": 2}, r"expected 1 and on_out_of_memory: fail beside task.disco"),
        ({"disco": {"of": "score"}}, {}, {}, r"task.disco.of: score needs model.decode_mean: true"),
        (
            {"exposure": {"classes": ["top"], "kind": "mae-margin"}},
            {"reconstruction": "chamfer"},
            {},
            r"mae-margin compares slot by slot, found model.reconstruction: chamfer",
        ),
        (
            {},
            {"name": "pfn", "widths": None},
            {},
            r"expects an architecture that returns reconstruction or density, found pfn",
        ),
        (
            {},
            {},
            {"ensemble_epochs": 10},
            r"training.ensemble_epochs: expected 1 beside task anomaly, since a reconstruction has no mean .* found 10",
        ),
        ({"disco": {"lambda": 3}}, {}, {}, r"disco.lambda"),
    ],
)
def test_settings_that_do_not_fit(task, model, training, message):
    if model.get("name") == "pfn":
        with pytest.raises(ValueError, match=message):
            TrialSpec.model_validate(make_spec().model_dump() | {"model": {"name": "pfn"}})
        return
    with pytest.raises(ValueError, match=message):
        make_spec(task, model, **training)


def test_classes_and_splits_are_checked(data_root):
    with pytest.raises(JetsweepError, match=r"task.select_on: expected classes of the dataset .*, found 'higgs'"):
        build_task(AnomalyConfig(background=["qcd"], select_on=["higgs"]), CLASSES)
    task = task_of(background_efficiencies=[0.01], select_on=["w"])
    with pytest.raises(DataError, match=r"'val' has 500 background jets \(qcd\): expected at least 1000 for a cut"):
        task.check_split("val", 900, {"qcd": 500, "w": 400})
    with pytest.raises(DataError, match=r"no jets of 'w', which task\.select_on names"):
        task.check_split("val", 2000, {"qcd": 2000})
    with pytest.raises(DataError, match="no jets of the background"):
        task.check_split("train", 10, {"w": 10})
    spec = make_spec({"background_efficiencies": [0.001]})
    with pytest.raises(DataError, match="background jets"):
        check_data(spec, prepare(spec.data, data_root))


EXPOSURE = {"classes": ["top"], "kind": "mse-margin", "pairing": {"by": ["mass"], "window": [60.0]}}


def _rank(rank, specs, workdir, data_root, rendezvous):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        for name, spec in specs.items():
            train(TrialSpec.model_validate(spec), workdir / name, data_root, world=World(rank, 2, torch.device("cpu")))
    finally:
        dist.destroy_process_group()


def test_two_ranks_equal_one(two_ranks, data_root, tmp_path):
    """With latent noise, DisCo, free bits and paired outliers."""
    torch.set_num_threads(1)
    kl = {"beta": 0.1, "free_bits": 0.02}
    specs = {
        "disco": make_spec({"kl": kl, "disco": {"weight": 2.0}}),
        "exposure": make_spec({"kl": kl, "exposure": EXPOSURE}),
        "unpaired": make_spec({"exposure": {"classes": ["top"], "kind": "kl-margin", "ratio": 0.5}}),
    }
    for name, spec in specs.items():
        train(spec, tmp_path / "one" / name, data_root)
    dumped = {name: spec.model_dump(mode="json") for name, spec in specs.items()}
    two_ranks(_rank, (dumped, tmp_path / "two", data_root, tmp_path / "rendezvous"))
    for name in specs:
        one, two = (read_history(tmp_path / ranks / name / "history.jsonl") for ranks in ("one", "two"))
        for a, b in zip(one, two, strict=True):
            for key in a:
                if key.startswith(("train/", "val/")) and "sic" not in key:
                    assert b[key] == pytest.approx(a[key], rel=2e-3, abs=2e-4), (name, key)


def test_resumed_is_bitwise_the_uninterrupted(data_root, tmp_path):
    torch.set_num_threads(1)
    spec = make_spec({"exposure": EXPOSURE, "disco": {"weight": 2.0}}, epochs=3)
    train(spec, tmp_path / "once", data_root)
    asked = iter([False] * 9)
    stopped = train(spec, tmp_path / "twice", data_root, stop_requested=lambda: next(asked, True))
    assert stopped.stopped_because == "asked"
    train(spec, tmp_path / "twice", data_root)
    once, twice = (read_weights(tmp_path / name / "checkpoints" / "last")[0] for name in ("once", "twice"))
    assert all(torch.equal(value, twice[name]) for name, value in once.items())


def test_decorrelation_lowers_the_sculpting_of_the_mass(tmp_path_factory, tmp_path):
    """The plain score follows the mass; DisCo and the conditional CDF take that away, and cost sensitivity."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("more-toys")
    source = {"name": "toy", "jets": 16_000, "seed": 1}
    test = {}
    for name, task in {
        "plain": {},
        "cdf": {"main_score": "loss_cdf"},
        "disco": {"disco": {"weight": 1.0, "of": "score"}},
    }.items():
        spec = make_spec(
            {"kl": {"beta": 0.0}, "select_on": ["top"], **task},
            {"widths": [64, 32], "noise": 0.0, "decode_mean": True, "num_constituents": 16},
            {"source": source},
            epochs=8,
            batch_size=400,
            monitor={"metric": "val/penalised_loss"},
        )
        test[name] = train(spec, tmp_path / name, root).test
    assert test["plain"]["test/mass_correlation"] > 0.6
    for name in ("cdf", "disco"):
        assert test[name]["test/mass_jsd_at_0.1"] < test["plain"]["test/mass_jsd_at_0.1"] / 2
        assert test[name]["test/mass_correlation"] < 0.1
        assert test[name]["test/auc_top"] < test["plain"]["test/auc_top"]


def test_a_penalty_on_scores_does_not_give_up_the_reconstruction(tmp_path_factory, tmp_path):
    """The posterior's mean, where noisy latents hardly come, is reconstructed as well as they are."""
    spec = make_spec(
        {"kl": {"beta": 1e-2}, "disco": {"weight": 100.0, "of": "score"}},
        {"widths": [64, 32], "latent": 32, "decode_mean": True, "num_constituents": 16},
        {"source": {"name": "toy", "jets": 8_000, "seed": 1}},
        epochs=8,
        batch_size=200,
        monitor={"metric": "epoch", "mode": "max"},
    )
    result = train(spec, tmp_path, tmp_path_factory.mktemp("toys"))
    assert result.best["val/loss"] < 2 * result.best["train/reconstruction"]


def test_a_checkpoint_scores_unseen_jets_without_the_training_data(data_root, tmp_path):
    """Network, scaling and scores are in it; what the trial wrote down of its test jets comes out again."""
    spec = make_spec(model={"features": "aligned-p4"}, epochs=1)
    train(spec, tmp_path, data_root)
    dataset = prepare(spec.data, data_root)
    loaded = load_checkpoint(tmp_path / "checkpoints" / "best")
    assert float(loaded.model.preprocessing.mean.abs().max()) > 1  # GeV: it was fitted
    loader = dataset.loader("test", 1000, constituents=("px", "py", "pz", "energy"), max_constituents=16)
    batches = list(loader.batches(0))
    task = build_task(loaded.spec.task, loaded.classes)
    with torch.no_grad():
        scores = torch.cat([task.predictions(loaded.model.eval()(batch))["score_loss"] for batch in batches])
    written = np.load(tmp_path / "evaluation" / "test.npz")
    order = np.argsort(torch.cat([batch.rows for batch in batches]).numpy())
    np.testing.assert_allclose(scores.numpy()[order], written["score_loss"], rtol=1e-5)


HIGH_LEVEL = {"features": "high-level"}
SCALARS = {"features": "scalars", "scalars": ["jet_mass", "tau2_wta", "split12"], "scaling": "robust"}


@pytest.mark.parametrize("model", [HIGH_LEVEL, SCALARS], ids=["high-level", "scalars"])
def test_variables_of_the_jet_are_learned(model, data_root, tmp_path):
    """With every term of the loss; tops stand out, and scaling knows the background alone."""
    task = {"select_on": ["top"], "kl": {"beta": 1e-3}, "disco": {"weight": 0.1}, "exposure": EXPOSURE}
    spec = make_spec(task, {"widths": [32, 16], "noise": 0.1, **model}, epochs=8, batch_size=100)
    result = train(spec, tmp_path, data_root)
    first, *_, last = read_history(tmp_path / "history.jsonl")
    assert last["train/reconstruction"] < 0.7 * first["train/reconstruction"]
    assert all(np.isfinite(last[f"train/{name}"]) for name in ("kl", "disco", "exposure"))
    assert result.test["test/auc_top"] > 0.8
    preprocessing = load_checkpoint(tmp_path / "checkpoints" / "best").model.preprocessing
    dataset = prepare(spec.data, data_root)
    names = preprocessing.scalar_columns
    batches = list(dataset.loader("train", 500, scalars=names, drop_last=False).batches(0))
    is_qcd = torch.cat([batch.targets["label"] for batch in batches]) == dataset.classes.index("qcd")
    raw = torch.stack([torch.cat([batch.scalars[name] for batch in batches]) for name in names], dim=-1)
    qcd, everything = (x / preprocessing.divisors for x in (raw[is_qcd], raw))
    centre = torch.median if model is SCALARS else torch.mean
    of_qcd, of_all = (centre(x, dim=0) for x in (qcd, everything))
    of_qcd, of_all = (x.values if model is SCALARS else x for x in (of_qcd, of_all))
    torch.testing.assert_close(preprocessing.mean, of_qcd, rtol=2e-2, atol=1e-3)
    assert ((of_all - of_qcd).abs() / preprocessing.std).max() > 0.3


def test_a_scan_of_contaminations_is_a_grid(tmp_path):
    file = tmp_path / "scan.yaml"
    file.write_text(
        "name: scan\n"
        "task: {name: anomaly, background: [qcd], contamination: {top: {choice: [0.0, 0.001, 0.01]}}}\n"
        "data: {source: {name: toy, jets: 3000, seed: 1}, max_constituents: 16}\n"
        "model: {name: vae, features: energyflow}\n"
        "search: {sampler: grid, trials: 3, objectives: [{metric: val/loss, mode: min}]}\n"
    )
    template = load_experiment(file)
    points = grid_points(template, 3, 0)
    shares = sorted(template.concrete(point).task.contamination["top"] for point in points)
    assert shares == [0.0, 0.001, 0.01]


def test_outlier_exposure_begins_with_a_trained_network(data_root, tmp_path):
    train(make_spec(epochs=1), tmp_path / "plain", data_root)
    spec = make_spec(
        {"exposure": EXPOSURE},
        epochs=1,
        init_from={"path": str(tmp_path / "plain")},
        lr_factors={"network.encoder.*": 0, "network.decoder.*": 0},
    )
    train(spec, tmp_path / "exposed", data_root)
    plain, exposed = (read_weights(tmp_path / name / "checkpoints" / "best")[0] for name in ("plain", "exposed"))
    for name, value in plain.items():
        if name.startswith(("network.encoder.", "network.decoder.")):
            assert torch.equal(value, exposed[name]), name
