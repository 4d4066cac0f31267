"""`jetsweep evaluate` and `predict` of several models."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jetsweep.cli.main import main
from jetsweep.data import make_dataset
from jetsweep.data.dataset import open_dataset
from jetsweep.metrics.ensembles import standardise
from jetsweep.training import TrialSpec, load_checkpoint
from jetsweep.training.checkpoint import model_of, save_checkpoint
from jetsweep.training.ensembles import evaluate_ensemble
from jetsweep.training.inference import evaluate_model

SOURCE = {"name": "toy", "jets": 3000, "seed": 1}
CPU = torch.device("cpu")
PFN = {"name": "pfn", "phi_sizes": [8], "f_sizes": [8]}
EFN = {"name": "efn", "phi_sizes": [8], "f_sizes": [8], "binary_output": "sigmoid"}
VAE = {"name": "vae", "features": "energyflow", "widths": [8], "latent": 3, "num_constituents": 8}
ANOMALY = {"name": "anomaly", "background": ["qcd"], "min_background": 20, "scores": ["loss", "reconstruction"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Networks that have learned nothing yet, by name, and their data under ``data``."""
    root = tmp_path_factory.mktemp("ensemble")
    make_dataset("toy", root / "data", jets=SOURCE["jets"], seed=1)

    def save(name, task, model, seed, classes=("qcd", "top"), **data):
        spec = TrialSpec.model_validate(
            {
                "name": "test",
                "seed": seed,
                "data": {"path": str(root / "data"), "max_constituents": 16, **data},
                "task": task,
                "model": model,
                "training": {"eval_batch_size": 100 + seed},
            }
        )
        torch.manual_seed(seed)
        save_checkpoint(root / name, model_of(spec, classes, 1).state_dict(), {}, spec, classes)

    for seed in range(2):
        save(f"tagger-{seed}", {"name": "tagging"}, PFN, seed)
        save(f"vae-{seed}", ANOMALY, VAE, seed)
    save("tagger-2", {"name": "tagging"}, EFN, 2, max_constituents=8)
    save("vae-2", {**ANOMALY, "scores": ["loss", "reconstruction", "kl"]}, {**VAE, "latent": 2}, 2)
    save("few", {**ANOMALY, "scores": ["loss"]}, VAE, 3)
    save("three", {"name": "tagging", "signal": "top"}, PFN, 3, ("qcd", "top", "w"))
    save("elsewhere", {"name": "tagging"}, PFN, 3, path=str(root / "other"))
    return root


@pytest.fixture
def call(place, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jetsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert end.value.code == 0, shown.err
        return shown.out

    return run


def arrays_of(folder, name):
    return evaluate_model(load_checkpoint(folder / name), open_dataset(str(folder / "data")), device=CPU)[1]


def combined(folder, names, how):
    members = {name: load_checkpoint(folder / name) for name in names}
    return evaluate_ensemble(members, open_dataset(str(folder / "data")), how, device=CPU)


@pytest.mark.parametrize("how", ["mean", "median"])
def test_taggers(models, how):
    names = ["tagger-0", "tagger-1", "tagger-2"]  # another architecture with one output, and fewer constituents
    metrics, found, task = combined(models, names, how)
    members = [arrays_of(models, name) for name in names]
    expected = getattr(np, how)([arrays["probability"] for arrays in members], axis=0)
    np.testing.assert_allclose(found["probability"], expected, rtol=1e-5)
    np.testing.assert_array_equal(found["label"], members[0]["label"])
    p_true = expected[np.arange(len(expected)), found["label"]]
    assert metrics["test/loss"] == pytest.approx(-np.log(p_true).mean(), rel=1e-5)
    assert metrics["test/accuracy"] == np.mean(expected.argmax(1) == found["label"])
    assert set(metrics) == {f"test/{name}" for name in task.metric_names()}


@pytest.mark.parametrize("how", ["mean", "median", "std"])
def test_anomaly_scores(models, how):
    names = ["vae-0", "vae-1", "vae-2"]
    metrics, found, _ = combined(models, names, how)
    members = [arrays_of(models, name) for name in names]
    background = members[0]["label"] == 0
    for score in ("score_loss", "score_reconstruction"):
        scaled = [standardise(arrays[score], background) for arrays in members]
        np.testing.assert_allclose(found[score], getattr(np, how)(scaled, axis=0), rtol=1e-6, atol=1e-9)
    assert "score_kl" not in found  # the first one has none
    signal, rest = found["score_loss"][~background], found["score_loss"][background]
    area = np.mean(signal[:, None] > rest) + 0.5 * np.mean(signal[:, None] == rest)
    assert metrics["test/reported_auc_top"] == pytest.approx(area, rel=1e-9)
    assert "test/mass_jsd_at_0.1" in metrics
    assert "test/loss" not in metrics


@pytest.mark.parametrize(
    ("names", "how", "networks", "figure"),
    [(["tagger-0", "tagger-2"], "mean", "pfn, efn", "roc"), (["vae-0", "vae-1"], "std", "vae", "mass")],
)
def test_evaluate_writes_it(models, place, call, names, how, networks, figure):
    shown = call("evaluate", *(models / name for name in names), "--ensemble", how, "--device", "cpu", "-o", "out")
    metrics, arrays, _ = combined(models, names, how)
    written = json.loads((place / "out/metrics.json").read_text())
    assert written["metrics"] == {name: x if np.isfinite(x) else None for name, x in metrics.items()}
    assert written["ensemble"] == how
    assert written["checkpoint"] == ", ".join(str(models / name) for name in names)
    with np.load(place / "out/test.npz") as found:
        assert set(found.files) == set(arrays)
        assert all(np.array_equal(found[name], x) for name, x in arrays.items())
    assert shown.startswith(f"{how} of 2 models ({networks}) on test (")
    assert list((place / "out").glob(f"*{figure}*.png"))


def test_predictions_of_taggers(models, place, call):
    names = ["tagger-0", "tagger-2"]
    folders = [models / name for name in names]
    call("predict", *folders, models / "data", "--ensemble", "mean", "--split", "test", "-o", "a.parquet")
    table = pq.read_table(place / "a.parquet")
    expected = np.mean([arrays_of(models, name)["probability"] for name in names], axis=0)
    np.testing.assert_allclose(table.column("score_top").to_numpy(), expected[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(table.column("row").to_numpy(), np.arange(len(expected)))
    assert table.schema.metadata[b"jetsweep.ensemble"] == b"mean"


def test_what_cannot_be_combined(models, refuse):
    first, data = models / "tagger-0", models / "data"

    def evaluate(*arguments, how="mean"):
        return refuse("evaluate", *arguments, "--data", data, *(("--ensemble", how) if how else ()))

    several = "2 models: expected --ensemble mean, median or std, which combines them"
    assert evaluate(first, models / "tagger-1", how=None) == several
    assert refuse("predict", first, models / "tagger-1", data, "-o", "a.parquet") == several
    assert evaluate(first) == f"--ensemble: expected several models, found {first} alone"
    assert evaluate(first, first) == f"{first}: expected different models, found it twice"
    known = "--ensemble: expected one of mean, median for the task tagging, found 'std'"
    assert evaluate(first, models / "tagger-1", how="std") == known
    vae = models / "vae-0"
    assert evaluate(first, vae) == f"{vae}: expected a model of the task tagging as {first} is, found anomaly"
    three = models / "three"
    known = f"{three}: expected the classes ['qcd', 'top'] of {first}, found ['qcd', 'top', 'w']"
    assert evaluate(first, three) == known
    few = models / "few"
    known = f"{few}: expected the scores of {vae}, found none of score_reconstruction; it was trained with other "
    assert evaluate(vae, few, how="std") == known + "task.scores"
    known = "expected one model beside --time and --systematics, found 2"
    assert evaluate(first, models / "tagger-1", "--time") == known
    other = models / "elsewhere"
    assert refuse("evaluate", first, other, "--ensemble", "mean") == (
        f"{other}: trained on another dataset than {first}; name the jets to evaluate by --data"
    )
    assert refuse("predict", vae, models / "vae-1", data, "--ensemble", "std", "-o", "a.parquet").startswith(
        "task anomaly: scores of several models are combined on the scale of a split's background"
    )
