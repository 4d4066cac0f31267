"""`jetsweep export` on trained models: the file, its card, and what is refused."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jetsweep.cli.evaluate import app as evaluate_app
from jetsweep.cli.export import app
from jetsweep.data import open_dataset
from jetsweep.data.config import DataConfig, prepare
from jetsweep.errors import JetsweepError
from jetsweep.export.check import Session
from jetsweep.training import load_checkpoint, train
from jetsweep.training.config import TrialSpec
from jetsweep.training.inference import predict_batches

ort = pytest.importorskip("onnxruntime")

TOY = {"name": "toy", "jets": 600, "seed": 1}
MODELS = {
    "pfn": {"name": "pfn", "phi_sizes": [8, 8], "f_sizes": [8]},
    "hldnn": {"name": "hldnn", "width": 8, "num_layers": 1},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with a trial of each model, by name, and their dataset."""
    root = tmp_path_factory.mktemp("trained")
    data = prepare(DataConfig.model_validate({"source": TOY}), root / "data")
    for name, model in MODELS.items():
        settings = {"epochs": 1, "batch_size": 96}
        given = {"source": TOY, "max_constituents": 16}
        spec = {"name": f"{name}-on-toys", "seed": 4, "data": given, "task": "tagging", "model": model}
        train(TrialSpec.model_validate({**spec, "training": settings}), root / name, root / "data")
    return root, data.path


def invoke(command, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments], env={"COLUMNS": "120"})
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", MODELS)
def test_the_file_gives_the_scores_of_predict(trained, tmp_path, name):
    root, data = trained
    out = tmp_path / "model.onnx"
    shown = invoke(app, root / name, "--to", out, "--data", data)
    dataset, loaded = open_dataset(data), load_checkpoint(root / name)
    ((_, expected),) = predict_batches(loaded, dataset, "test", device=torch.device("cpu"), batch_size=1000)
    columns, scalars = loaded.model.preprocessing.constituent_columns, loaded.model.preprocessing.scalar_columns
    batch = next(iter(dataset.loader("test", 1000, constituents=columns, scalars=scalars).batches(0)))
    if name == "pfn":
        x, mask = batch.groups["constituents"].pad(16)
        feed = {"constituents": x.numpy(), "mask": mask.numpy()}
    else:
        feed = {"jet": np.stack([batch.scalars[column].numpy() for column in scalars], axis=-1)}
        assert "Inputs are the variables, computed beforehand: " in shown
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, feed)
    stacked = np.stack(list(expected.values()), axis=-1)
    np.testing.assert_allclose(scores, stacked, atol=1e-5)
    assert f"on {len(stacked)} jets of test (expected at most 0.0001)" in shown
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["jetsweep.scores"]) == list(expected)
    assert meta["jetsweep.dataset_digest"] == dataset.digest


def test_the_model_card(trained, tmp_path):
    root, data = trained
    invoke(app, root / "pfn", "--to", tmp_path / "tagger.onnx", "--data", data, "--jets", 20)
    card = (tmp_path / "tagger.md").read_text()
    result = json.loads((root / "pfn" / "result.json").read_text())
    network = load_checkpoint(root / "pfn").model.network
    for text in (
        "# pfn-on-toys: pfn",
        "px, py, pz, energy",
        "at most 16",
        f"{sum(p.numel() for p in network.parameters())} parameters",
        "| `phi_sizes` | `[8, 8]` |",
        '"name": "toy"',
        open_dataset(data).digest,
        "seed 4",
        "1 epochs",
        f"| `test/auc` | {result['test']['test/auc']:.5g} |",
        "On 20 jets of the split test",
        "onnxruntime",
        f"| torch | {torch.__version__.partition('+')[0]}",
        "## Intended use and limits",
    ):
        assert text in card, text


def test_mistakes_leave_no_file(trained, tmp_path, monkeypatch):
    root, data = trained
    out = tmp_path / "model.onnx"
    for arguments, message in (
        (("--to", tmp_path / "model.pt"), r"model.pt: expected a name that ends in .onnx, found '.pt'"),
        (("--to", out, "--split", "tset"), "expected one of the splits .* found 'tset', did you mean 'test'"),
    ):
        with pytest.raises(JetsweepError, match=message):
            invoke(app, root / "pfn", "--data", data, *arguments)
    exact = Session.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Session, "__call__", lambda self, feed: exact(self, feed) + 0.01)
        with pytest.raises(
            JetsweepError, match=r"scores of ONNX differ from PyTorch's by up to 0.01 on .* at most 0.005"
        ):
            invoke(app, root / "pfn", "--data", data, "--to", out, "--tolerance", 0.005)
    with pytest.raises(JetsweepError, match="expected a checkpoint folder or a trial's folder, found nothing"):
        invoke(app, tmp_path / "nothing", "--data", data, "--to", out)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra(monkeypatch, trained, tmp_path):
    root, data = trained
    monkeypatch.setattr("jetsweep.export.convert.PACKAGES", ("onnx", "not_there"))
    with pytest.raises(JetsweepError, match=r"export needs not_there; install jetsweep\[export\]"):
        invoke(app, root / "pfn", "--data", data, "--to", tmp_path / "model.onnx")


def test_evaluate_times_one_jet_and_many(trained, tmp_path):
    root, data = trained
    shown = invoke(
        evaluate_app, root / "pfn", "--data", data, "--split", "train", "--time", "--device", "cpu", "-o", tmp_path
    )
    timing, *_ = json.loads((tmp_path / "metrics.json").read_text())["timing"]
    assert timing["inference_batch"] == min(1000, open_dataset(data).num_rows("train"))
    assert timing["inference_us_per_jet"] > 0
    assert f"{timing['single_jet_us']:,.0f}" in shown
    assert timing["device"] in shown
