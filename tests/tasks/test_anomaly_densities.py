"""Task anomaly with densities: of latent coordinates, of a jet's scalars, and energies of constituents."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.distributed as dist

from jetsweep.data.batch import Batch
from jetsweep.data.config import DataConfig, prepare
from jetsweep.experiment.schema import Experiment
from jetsweep.losses import distance_correlation
from jetsweep.models._density import Density
from jetsweep.tasks import build_task
from jetsweep.tasks._anomaly_config import AnomalyConfig
from jetsweep.training import TrialSpec, train
from jetsweep.training.checkpoint import load_checkpoint, read_weights
from jetsweep.training.history import read_history
from jetsweep.training.world import World

CLASSES = ("qcd", "w", "top")
SOURCE = {"name": "toy", "jets": 3000, "seed": 1}
VAE = {"name": "vae", "features": "energyflow", "widths": [16, 8], "latent": 3, "num_constituents": 8}
LATENT = VAE | {"latent_flow": {"kind": "maf", "transforms": 2, "widths": [16]}}
FLOW = {"name": "flow", "features": "scalars", "scalars": ["jet_mass", "jet_pt"], "transforms": 2, "widths": [16]}
EBM = {
    "name": "ebm",
    "encoder": "deep-set",
    "set_width": 16,
    "num_layers": 2,
    "widths": [16],
    "num_constituents": 16,
    "langevin_steps": 6,
}
DENSITY = {"flow": ["negative_log_density"], "ebm": ["energy"]}
needs_zuko = pytest.mark.skipif(find_spec("zuko") is None, reason="needs the package zuko")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("density-data")
    prepare(DataConfig.model_validate({"source": SOURCE}), root)
    return root


def make_spec(model, task=(), kind=TrialSpec, top=(), **training):
    scores = DENSITY.get(model["name"], ["loss", "latent_density"])
    return kind.model_validate(
        {
            "name": "test",
            "seed": 3,
            "data": {"source": SOURCE, "max_constituents": 16},
            "task": {"name": "anomaly", "background": ["qcd"], "min_background": 20, "scores": scores, **dict(task)},
            "model": model,
            "training": {"epochs": 2, "batch_size": 200, "optimizer": {"name": "adam", "lr": 3e-3}, **training},
            **dict(top),
        }
    )


def task_of(**config):
    return build_task(AnomalyConfig(**{"background": ["qcd"], "scores": ["energy"], **config}), CLASSES)


def toy_outputs(num_jets=64, seed=0):
    energy, samples = torch.randn(2, num_jets, generator=torch.Generator().manual_seed(seed))
    return Density(energy, energy - samples, samples)


def toy_batch(num_jets=64, weight=None, pair=None):
    mass = torch.rand(num_jets, generator=torch.Generator().manual_seed(5)) * 200
    targets = {"label": torch.zeros(num_jets, dtype=torch.long)} | ({} if pair is None else {"pair": pair})
    return Batch({}, {"jet_mass": mass, "jet_pt": 600 + mass}, targets, weight, torch.arange(num_jets))


def test_the_loss_of_a_density_is_its_own():
    outputs, weight = toy_outputs(), torch.rand(64, generator=torch.Generator().manual_seed(7))
    total, parts = task_of().loss(outputs, toy_batch(weight=weight))
    torch.testing.assert_close(total, (weight * outputs.loss).mean())
    assert set(parts) == {"loss", "energy", "sample_energy"}
    torch.testing.assert_close(parts["energy"], (weight * outputs.energy).mean())


@pytest.mark.parametrize("of", ["loss", "score"])
def test_energies_are_decorrelated(of):
    outputs, batch = toy_outputs(), toy_batch()
    total, parts = task_of(disco={"weight": 5.0, "of": of}).loss(outputs, batch)
    correlation = distance_correlation(outputs.energy, batch.scalars["jet_mass"])
    torch.testing.assert_close(total, outputs.loss.mean() + 5 * correlation)
    torch.testing.assert_close(parts["disco"], correlation)


def test_outliers_shall_be_improbable():
    background, outliers = toy_outputs(40), toy_outputs(60, seed=1)
    pair = torch.arange(60) * 40 // 60
    batch = toy_batch(60, pair=pair)
    lead = outliers.energy - background.energy[pair]
    exposure = {"classes": ["w"], "kind": "energy-margin", "margin": 2.0, "ratio": 1.5}
    found = task_of(exposure=exposure).exposure(background, outliers, batch)
    torch.testing.assert_close(found, torch.relu(2.0 - lead).mean())
    exposure = {"classes": ["w"], "kind": "energy-sigmoid", "ratio": 1.5}
    found = task_of(exposure=exposure).exposure(background, outliers, batch)
    torch.testing.assert_close(found, -torch.sigmoid(lead).mean())


def test_a_density_is_measured_without_what_it_lacks():
    task = task_of(select_on=["top"])
    evaluator = task.evaluator()
    label = torch.arange(600) % 3
    outputs, batch = toy_outputs(600), toy_batch(600)
    evaluator.update(outputs, Batch({}, batch.scalars, {"label": label}, None, batch.rows))
    values = evaluator.compute(lambda x: x)
    assert set(task.metric_names()) - set(values) == {"reconstruction", "kl", "active_latents"}
    background = outputs.energy[label == 0]
    assert values["loss"] == pytest.approx(float(background.mean()), rel=1e-5)
    assert 0.3 < values["auc_top"] < 0.7


@needs_zuko
def test_a_latent_density_is_learned_beside_the_network(data_root, tmp_path):
    train(make_spec(LATENT, epochs=3), tmp_path / "with", data_root)
    train(make_spec(VAE, {"scores": ["loss"]}, epochs=3), tmp_path / "without", data_root)
    history, plain = (read_history(tmp_path / name / "history.jsonl") for name in ("with", "without"))
    assert history[-1]["train/latent_nll"] < history[0]["train/latent_nll"]
    assert [row["val/loss"] for row in history] == [row["val/loss"] for row in plain]
    weights, others = (read_weights(tmp_path / name / "checkpoints" / "last")[0] for name in ("with", "without"))
    assert all(torch.equal(value, weights[name]) for name, value in others.items())


@needs_zuko
@pytest.mark.parametrize("model", [LATENT, FLOW, EBM], ids=lambda model: model["name"])
def test_a_checkpoint_scores_unseen_jets(model, data_root, tmp_path):
    """Network, density and scaling are in it; what the trial wrote down of its test jets comes out again."""
    spec = make_spec(model, epochs=1)
    train(spec, tmp_path, data_root)
    dataset, loaded = prepare(spec.data, data_root), load_checkpoint(tmp_path / "checkpoints" / "best")
    preprocessing = loaded.model.preprocessing
    loader = dataset.loader(
        "test",
        1000,
        constituents=preprocessing.constituent_columns,
        scalars=preprocessing.scalar_columns,
        max_constituents=16,
    )
    batches = list(loader.batches(0))
    task, name = build_task(loaded.spec.task, loaded.classes), f"score_{spec.task.scores[-1]}"
    with torch.no_grad():
        scores = torch.cat([task.predictions(loaded.model.eval()(batch))[name] for batch in batches])
    written = np.load(tmp_path / "evaluation" / "test.npz")
    order = np.argsort(torch.cat([batch.rows for batch in batches]).numpy())
    np.testing.assert_allclose(scores.numpy()[order], written[name], rtol=1e-4, atol=1e-5)


@needs_zuko
@pytest.mark.parametrize("kind", ["nsf", "maf"])
def test_a_flow_finds_heavy_jets(kind, data_root, tmp_path):
    spec = make_spec(FLOW | {"kind": kind}, epochs=12, optimizer={"name": "adam", "lr": 1e-2})
    result = train(spec, tmp_path, data_root)
    assert result.test["test/reported_auc_top"] > 0.8
    assert "test/reconstruction" not in result.test


def test_energies_find_jets_of_three_prongs(data_root, tmp_path):
    last = {"metric": "epoch", "mode": "max"}
    result = train(make_spec(EBM | {"langevin_steps": 24}, epochs=8, batch_size=100, monitor=last), tmp_path, data_root)
    assert result.best["epoch"] == 8
    assert result.test["test/reported_auc_top"] > 0.8


@needs_zuko
def test_known_outliers_are_pushed_away(data_root, tmp_path):
    lead = {}
    exposure = {"classes": ["top"], "kind": "energy-margin", "margin": 5.0}
    for name, task in {"plain": {}, "exposed": {"exposure": exposure}}.items():
        train(make_spec(FLOW, {**task, "report_on": ["top"]}, epochs=4), tmp_path / name, data_root)
        test = np.load(tmp_path / name / "evaluation" / "test.npz")
        means = [test["score_negative_log_density"][test["label"] == label].mean() for label in (0, 1)]
        lead[name] = means[1] - means[0]
    assert lead["exposed"] > lead["plain"] + 1
    history = read_history(tmp_path / "exposed" / "history.jsonl")
    assert history[-1]["train/exposure"] < history[0]["train/exposure"]


def _rank(rank, specs, workdir, data_root, rendezvous):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        for name, spec in specs.items():
            train(TrialSpec.model_validate(spec), workdir / name, data_root, world=World(rank, 2, torch.device("cpu")))
    finally:
        dist.destroy_process_group()


@needs_zuko
def test_two_ranks_equal_one(two_ranks, data_root, tmp_path):
    """Langevin samples follow from rows, and the latent density gathers gradients like the rest."""
    torch.set_num_threads(1)
    exposure = {"classes": ["top"], "kind": "energy-margin", "ratio": 0.5}
    specs = {
        "latent": make_spec(LATENT),
        "flow": make_spec(FLOW, {"disco": {"weight": 1.0}}),
        "ebm": make_spec(EBM, {"exposure": exposure}),
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


@needs_zuko
@pytest.mark.parametrize("model", [LATENT, EBM], ids=lambda model: model["name"])
def test_resumed_is_bitwise_the_uninterrupted(model, data_root, tmp_path):
    torch.set_num_threads(1)
    spec = make_spec(model, epochs=3)
    train(spec, tmp_path / "once", data_root)
    asked = iter([False] * 9)
    assert train(spec, tmp_path / "twice", data_root, stop_requested=lambda: next(asked, True)).epoch < 3
    train(spec, tmp_path / "twice", data_root)
    once, twice = (read_weights(tmp_path / name / "checkpoints" / "last")[0] for name in ("once", "twice"))
    assert all(torch.equal(value, twice[name]) for name, value in once.items())


def test_the_main_score_follows_the_scores():
    assert AnomalyConfig(background=["qcd"]).main_score == "loss"
    assert AnomalyConfig(background=["qcd"], scores=["mse", "loss"]).main_score == "loss"
    assert AnomalyConfig(background=["qcd"], scores=["energy", "negative_log_density"]).main_score == "energy"


def test_a_density_needs_no_word_about_a_divergence():
    for model in (FLOW, EBM):
        assert make_spec(model).task.kl is None
    task = build_task(make_spec(VAE, {"scores": ["loss"]}).task, ("qcd", "top"))
    assert (task.kl.beta, task.kl.convention) == (0.1, "mean")


EXPOSED = {"classes": ["top"]}


@pytest.mark.parametrize(
    ("model", "task", "training", "message"),
    [
        (VAE, {}, {}, r"task.scores: latent_density needs model.latent_flow, e.g. \{transforms: 3\}; model vae as it"),
        (VAE, {"scores": ["energy"]}, {}, "task.scores: energy needs a density model: flow or ebm; model vae"),
        (EBM, {"scores": ["negative_log_density"]}, {}, "negative_log_density needs a normalised density: flow; model"),
        (
            FLOW,
            {"scores": ["mse"]},
            {},
            "mse needs an auto-encoder; model flow as it is has loss, negative_log_density",
        ),
        (EBM, {"scores": ["loss", "kl"]}, {}, "kl needs an auto-encoder; model ebm as it is has loss, energy"),
        (FLOW, {"kl": {"beta": 0.5}}, {}, "task.kl.beta: expected no task.kl beside model flow, .* found 0.5"),
        (EBM, {"disco": {"of": "reconstruction"}}, {}, "task.disco.of: expected loss or score beside model ebm"),
        (EBM, {"exposure": EXPOSED}, {}, "expected energy-margin or energy-sigmoid beside model ebm, .* mse-margin"),
        (VAE, {"scores": ["loss"], "exposure": {**EXPOSED, "kind": "energy-margin"}}, {}, "needs a density model"),
        (FLOW, {}, {"monitor": {"metric": "val/kl"}}, "training.monitor.metric: val/kl is of auto-encoders alone"),
        (FLOW, {"disco": {}}, {"accumulate": 2}, "expected 1 and on_out_of_memory: fail beside task.disco"),
        (
            FLOW | {"scalars": ["jet_pt", "jet_pt"]},
            {},
            {},
            "scalars\n.*expected each scalar once, found 'jet_pt' again",
        ),
        (FLOW | {"scalars": []}, {}, {}, "scalars"),
        (FLOW | {"transforms": 0}, {}, {}, "transforms"),
        (EBM | {"step_size": 0}, {}, {}, "step_size"),
        (EBM | {"encoder": "transformer", "num_heads": 3}, {}, {}, "num_heads=3 does not divide set_width=16"),
    ],
)
def test_settings_that_do_not_fit(model, task, training, message):
    with pytest.raises(ValueError, match=message):
        make_spec(model, task, **training)


def test_objectives_of_auto_encoders_are_refused():
    search = {"search": {"objectives": [{"metric": "val/active_latents", "mode": "max"}]}}
    message = "search.objectives.0.metric: val/active_latents is of auto-encoders alone, found model flow"
    with pytest.raises(ValueError, match=message):
        make_spec(FLOW, kind=Experiment, top=search)


def test_taggers_return_no_density():
    with pytest.raises(ValueError, match=r"task anomaly expects .* returns reconstruction or density, found pfn"):
        make_spec({"name": "pfn"}, {"scores": ["loss"]})
    spec = make_spec(EBM).model_dump(mode="json") | {"task": {"name": "tagging"}}
    with pytest.raises(ValueError, match=r"task tagging expects .* returns logits, found ebm, which returns density"):
        TrialSpec.model_validate(spec)
