"""The JSON schema that editors use agrees with what the loader accepts and refuses."""

import json

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from jetsweep.cli.schema import app
from jetsweep.experiment._yaml import read_document, shipped_folder
from jetsweep.experiment.json_schema import experiment_schema

TOY = {
    "name": "a",
    "task": "tagging",
    "data": {"source": {"name": "toy", "jets": 10}},
    "model": {"name": "pfn", "f_dropout": 0.1},
    "training": {"optimizer": {"name": "adamw", "lr": 1e-3}},
}


@pytest.fixture(scope="module")
def validator():
    schema = experiment_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("file", sorted(shipped_folder().glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_files_fit(validator, file):
    assert [error.message for error in validator.iter_errors(read_document(file).tree)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"choice": ["pfn", {"name": "part", "num_layers": {"int": [1, 2]}}]}},
        {"model": {"name": "pfn", "f_dropout": {"uniform": [0, 0.1], "when": {"model.name": "pfn"}}}},
        {"model": {"name": "pfn", "phi_sizes": {"choice": [[1, 2], [3]]}}},
        {"training": {"optimizer": {"choice": [{"name": "sgd"}, {"name": "adam", "lr": {"log": [1e-3, 1e-2]}}]}}},
        {"seed": {"choice": [1, 2, 3]}},
        {"profiles": {"laptop": {"model": {"f_dropout": 0.2}, "search": {"trials": 2}}}},
        {"extends": ["toy.yaml"]},
        {"search": {"constraints": ["parameters < 1e6"], "require": ["training.epochs > 1"], "repeats": 5}},
        {"search": {"repeats": {"seeds": 5}, "start": {"sweep": "old", "points": [{"training.optimizer.lr": 1e-3}]}}},
    ],
)
def test_what_is_right(validator, change):
    assert [error.message for error in validator.iter_errors(TOY | change)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"modelx": "pfn"},
        {"model": "pnf"},
        {"model": {"name": "pfn", "num_layers": 2}},
        {"model": {"name": "pfn", "f_dropout": {"uniformm": [0, 1]}}},
        {"model": {"name": "pfn", "f_dropout": 2.0}},
        {"data": {"source": {"name": "toy", "jets": {"choice": [1, 2]}}}},
        {"search": {"trials": {"int": [1, 2]}}},
        {"search": {"sampler": "tpee"}},
        {"search": {"repeats": 0}},
        {"search": {"repeats": {"choice": [1, 2]}}},
        {"search": {"require": "training.epochs > 1"}},
        {"search": {"start": {"point": []}}},
        {"training": {"epochs": "three"}},
        {"training": {"optimizer": {"name": "adamw", "momentum": 0.9}}},
        {"profiles": {"laptop": {"training": {"epoch": 2}}}},
    ],
)
def test_what_is_wrong(validator, change):
    assert list(validator.iter_errors(TOY | change))


def test_an_incomplete_file_must_extend_another(validator):
    assert list(validator.iter_errors({"name": "a"}))
    assert not list(validator.iter_errors({"name": "a", "extends": "toy.yaml"}))


def test_command(tmp_path):
    out = tmp_path / "experiment.schema.json"
    result = CliRunner().invoke(app, ["--out", str(out)])
    assert result.exit_code == 0
    assert str(out) in result.output
    assert json.loads(out.read_text()) == experiment_schema()
    assert json.loads(CliRunner().invoke(app, []).output) == experiment_schema()
