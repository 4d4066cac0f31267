"""What the README says can be done, can be done."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from jetsweep.cli.main import app
from jetsweep.data.config import DataConfig
from jetsweep.data.sources._base import SOURCES
from jetsweep.experiment import load_experiment
from jetsweep.experiment.points import resolve_point
from jetsweep.experiment.sampling import sample
from jetsweep.models import list_models
from jetsweep.training.config import TrainingConfig

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_model_and_source_has_a_row():
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", README, re.MULTILINE)
    assert set(list_models()) | set(SOURCES.names()) == set(rows)


def test_the_experiment_file_is_right(tmp_path):
    text, *_ = blocks("yaml")
    (tmp_path / "example.yaml").write_text(text)
    template = load_experiment(tmp_path / "example.yaml")
    assert set(template.space) == {
        "model.num_layers",
        "model.dropout",
        "training.batch_size",
        "training.optimizer.lr",
    }


def test_the_search_example_is_right(tmp_path):
    _, text, *_ = blocks("yaml")
    (tmp_path / "example.yaml").write_text(text)
    template = load_experiment(tmp_path / "example.yaml")
    heads = {(e.model.embed_dims[-1], e.model.num_heads) for _, e in sample(template, 60) if e.model.name == "part"}
    assert heads == {(32, 4), (60, 4), (60, 5)}
    assert resolve_point(template, 0) == {"model": "part", "training.optimizer.lr": 1e-3}


def test_the_fine_tuning_example_is_right():
    _, _, text, *_ = blocks("yaml")
    training = TrainingConfig.model_validate(YAML(typ="safe").load(text)["training"])
    assert training.init_from.path.endswith("trials/00003")
    assert training.lr_factors == {"network.head.*": 50, "network.embed.*": 0}


def test_the_reweighting_example_is_right():
    *_, text, _ = blocks("yaml")
    section = YAML(typ="safe").load(text)["data"]
    config = DataConfig.model_validate({"source": "toy", **section}).reweight
    assert config.variables["pt"].bins == 20
    assert config.variables["eta"].edges == (-2, -1, 0, 1, 2)


def test_the_anomaly_example_is_right(tmp_path):
    *_, text = blocks("yaml")
    rest = "name: a\ndata: {source: {name: pythia, process: anomaly}, max_constituents: 20}\nmodel: vae\n"
    (tmp_path / "example.yaml").write_text(rest + text)
    template = load_experiment(tmp_path / "example.yaml")
    assert set(template.space) == {"task.kl.beta", "task.disco.weight"}
    task = template.example.task
    assert (task.exposure.pairing.by, task.main_score) == (("mass", "pt"), "loss_cdf")


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = (block for block in blocks("python") if "import jetsweep" in block)
    names = {}
    exec(example, names)
    assert names["x"].shape[1:] == (128, 4)
    assert names["network"].config.num_layers == 8


def test_results_can_be_looked_at_as_shown(tmp_path, monkeypatch, toy_sweep):
    sweep_dir, _ = toy_sweep
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jetsweep-runs").mkdir()
    sweep = tmp_path / "jetsweep-runs/part-top-tagging"
    shutil.copytree(sweep_dir, sweep)
    (sweep / "mlflow.json").unlink()  # the report shall not go into the shared store
    data = next(folder for folder in (sweep_dir.parents[1] / "data").iterdir() if (folder / "dataset.json").exists())
    (tmp_path / "jetsweep-data").mkdir()
    (tmp_path / "jetsweep-data/toy-1").symlink_to(data)
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ jetsweep")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command, comments=True)
        extra = ["--out", "tables"] if words[1] == "compare" else []
        extra += ["--data", "jetsweep-data/toy-1"] if words[1] in ("evaluate", "export") else []
        done = CliRunner().invoke(app, words[1:] + extra)
        assert done.exit_code == 0, (command, done.output, done.exception)
    assert {"tables", "evaluation-test", "scores.parquet", "tagger.onnx", "tagger.md"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert (sweep / "report" / "report.html").is_file()


@pytest.mark.parametrize("target", re.findall(r"!\[.*?\]\((.*?)\)", README))
def test_pictures_are_there(target):
    assert (Path(__file__).parents[1] / target).is_file()
