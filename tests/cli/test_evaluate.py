"""`jetsweep evaluate` through typer, and the library below it."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jetsweep.cli.evaluate import app
from jetsweep.data import open_dataset
from jetsweep.data.make import make_dataset, source_options
from jetsweep.errors import DataError, JetsweepError
from jetsweep.training.checkpoint import load_checkpoint
from jetsweep.training.inference import evaluate_model, pick_device


@pytest.fixture
def data(toy_sweep):
    return next((toy_sweep[0].parents[1] / "data").glob("toy-*/"))


def evaluate(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "120"})
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("number", [0, 1])
def test_the_metrics_are_those_of_the_trainer(toy_sweep, data, tmp_path, number):
    trial = toy_sweep[0] / f"trials/0000{number}"
    shown = evaluate(trial, "--data", data, "--out", tmp_path, "--device", "cpu")
    written = json.loads((tmp_path / "metrics.json").read_text())
    expected = json.loads((trial / "result.json").read_text())["test"]
    assert written["metrics"] == {k: v if np.isfinite(v) else None for k, v in expected.items()}
    assert written["dataset_digest"] == open_dataset(data).digest
    with np.load(tmp_path / "test.npz") as mine, np.load(trial / "evaluation/test.npz") as theirs:
        assert mine.files == theirs.files
        for name in mine.files:
            np.testing.assert_array_equal(mine[name], theirs[name])
    assert f"{expected['test/auc']:.5g}" in shown
    assert "±" in shown
    assert {"roc.png", "roc.pdf", "score.png", "score.pdf"} <= {path.name for path in tmp_path.iterdir()}


def test_a_sweep_stands_for_its_best_trial_and_its_own_data(toy_sweep, tmp_path):
    sweep_dir, _ = toy_sweep
    evaluate(sweep_dir, "--split", "val", "--out", tmp_path, "--data-root", sweep_dir.parents[1] / "data")
    best = next(r for r in json.loads((sweep_dir / "compare.json").read_text()) if r["best"])
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["val/auc"] == best["metrics"]["val/auc"]


def test_classes_in_another_order_and_strange_ones(toy_sweep, data, tmp_path):
    loaded = load_checkpoint(toy_sweep[0] / "trials/00000")
    dataset = open_dataset(data)
    metrics, _, _ = evaluate_model(loaded, dataset, "test", device=torch.device("cpu"))
    loader, original = dataset.loader, dataset.classes

    class Swapped:
        """The same jets with the classes the other way round."""

        def __getattr__(self, name):
            return getattr(dataset, name)

        classes = original[::-1]

        def loader(self, *arguments, **named):
            made = loader(*arguments, **named)
            batches = made.batches

            def swapped(epoch, start_step=0):
                for batch in batches(epoch, start_step):
                    batch.targets["label"] = 1 - batch.targets["label"]
                    yield batch

            made.batches = swapped
            return made

    again, _, _ = evaluate_model(loaded, Swapped(), "test", device=torch.device("cpu"))
    assert again == metrics
    strange = Swapped()
    strange.classes = ("qcd", "w")
    with pytest.raises(DataError, match=r"expected jets of the model's classes \['qcd', 'top'\], found .*\['w'\]"):
        evaluate_model(loaded, strange, "test")


def test_mistakes(toy_sweep, data, tmp_path):
    trial = toy_sweep[0] / "trials/00000"
    with pytest.raises(JetsweepError, match="nothing: expected a checkpoint folder or a trial's folder, found nothing"):
        evaluate(tmp_path / "nothing", "--data", data)
    with pytest.raises(DataError, match=r"expected one of the splits .* found 'tset', did you mean 'test'"):
        evaluate(trial, "--data", data, "--split", "tset")
    with pytest.raises(DataError, match="expected a dataset folder"):
        evaluate(trial, "--data", tmp_path)
    with pytest.raises(JetsweepError, match="device gpu: cannot be used"):
        pick_device("gpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(JetsweepError, match="cannot be written"):
        evaluate(trial, "--data", data, "--out", tmp_path / "file")


def test_another_dataset(toy_sweep, tmp_path):
    other = make_dataset(source_options("toy", {"jets": 300, "seed": 8}), tmp_path / "other")
    evaluate(toy_sweep[0], "--data", tmp_path / "other", "--split", "train", "--out", tmp_path / "out")
    with np.load(tmp_path / "out/train.npz") as arrays:
        assert arrays["rows"].tolist() == list(range(other.num_rows("train")))
