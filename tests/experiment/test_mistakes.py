"""What a user reads after a mistake: file, line, path, what was expected and found, and the nearest known word."""

# ruff: noqa: E501 (a table: one mistake a line)

import pytest

from jetsweep.errors import ExperimentError
from jetsweep.experiment import load_experiment

BASE = """\
name: test
task: {name: tagging, signal: top}
data:
  source: {name: toy, jets: 600}
  max_constituents: 32
model:
  name: part
  embed_dims: [32, 64, 32]
  num_heads: 4
  num_layers: 2
  dropout: 0.1
training:
  epochs: 3
  optimizer: {name: adamw, lr: 1e-3}
search:
  trials: 2
"""
MODEL = BASE[BASE.index("  name: part") : BASE.index("training:")].rstrip()
BRANCHES = "  choice:\n    - name: pfn\n    - name: part\n      "

MISTAKES = [
    # keys
    ("epochs: 3", "epoch: 3", "13: training.epoch: expected one of the keys accumulate, .*, found 'epoch', did you mean 'epochs'?"),
    ("model:", "modelx:", "6: modelx: expected one of the keys data, .*, found 'modelx', did you mean 'model'?"),
    ("lr: 1e-3", "lr: 1e-3, momentum: 0.9", "14: training.optimizer.momentum: expected one of the keys betas, eps, lr, name, weight_decay, found 'momentum'"),
    ("name: test\n", "", "1: name: expected the key 'name', found none"),
    ("trials: 2", "trials: 2\n  trials: 3", "17: trials: expected each key once, found it again"),
    ("trials: 2", "trials: [2", "17: expected YAML, found a mistake: expected ',' or ']', .*"),
    ("search:", "extends: nothere\nsearch:", "15: extends: nothere: expected an experiment file, found none; jetsweep ships .*part.yaml.*"),
    ("data:\n", "data:\n  path: x\n", "3: data: expected either `source` or `path`, found both"),
    # names
    ("name: part", "name: partt", "7: model.name: unknown model 'partt'; there are .*, did you mean 'part'?"),
    ("name: tagging", "name: taging", "2: task.name: unknown task 'taging'; there are anomaly, flavour-tagging, tagging, weak-supervision, did you mean 'tagging'?"),
    ("name: toy", "name: toys", "4: data.source.name: unknown source 'toys'; there are .*, did you mean 'toy'?"),
    ("name: adamw", "name: adamv", "14: training.optimizer.name: expected 'adamw', .*, found 'adamv', did you mean 'adam'?"),
    ("trials: 2", "sampler: tpee", "16: search.sampler: expected 'tpe', .*, found 'tpee', did you mean 'tpe'?"),
    ("name: part", "name: part\n  features: kine", "8: model.features: expected one of the feature sets kin, .*, found 'kine', did you mean 'kin'?"),
    ("name: part", "name: part\n  features: high-level", "8: model.features: the feature set 'high-level' does not provide what the network asks for: .*"),
    ("signal: top", "signal: tops", "2: task.signal: expected one of the dataset's classes ['qcd', 'top'], found 'tops'"),
    ("trials: 2", "trials: 2\n  objectives: [{metric: val/auk}]", "17: search.objectives[0].metric: expected one of the metrics val/loss, .*, found 'val/auk', did you mean 'val/auc'?"),
    # the search
    ("trials: 2", "trials: 2\n  constraints: [parameters < 1e6, val/auk > 0.9]", "17: search.constraints[1]: expected one of val/loss, .*, train_seconds, inference_us_per_jet, found 'val/auk', did you mean 'val/auc'?"),
    ("trials: 2", "trials: 2\n  constraints: [parameters = 1e6]", "17: search.constraints[0]: expected a name, one of < <= > >=, and a number, e.g. parameters < 1e6, found 'parameters = 1e6'"),
    ("trials: 2", "trials: 2\n  constraints: [parameters < many]", "17: search.constraints[0]: expected a name, .*, found 'parameters < many'"),
    ("trials: 2", "trials: 2\n  constraints: [test/auc > 0.9]", "17: search.constraints[0]: expected one of val/loss, .*, found 'test/auc'"),
    ("trials: 2", "trials: 2\n  require: [model.num_heds == 4]", "17: search.require[0]: model.num_heds == 4: expected a key of the experiment, found 'model.num_heds', did you mean 'model.num_heads'?"),
    ("trials: 2", "trials: 2\n  require: [open('x') == 4]", "17: search.require[0]: expected keys, numbers, .*, found \"open('x')\""),
    ("trials: 2", "trials: 2\n  require: model.num_heads == 4", "17: search.require: expected a valid tuple, found 'model.num_heads == 4'"),
    ("trials: 2", "trials: 2\n  scheduler: asha\n  objectives: [{metric: val/auc}, {metric: val/loss, mode: min}]", "15: search: scheduler: expected none with several objectives, found asha"),
    ("trials: 2", "trials: 2\n  terminator: {patience: 3}\n  objectives: [{metric: val/auc}, {metric: val/loss, mode: min}]", "15: search: terminator: expected a single objective, found several"),
    ("trials: 2", "trials: 2\n  deterministic: true\n  scheduler: none\n  budget: {hours: 1}", "15: search: deterministic: expected no budget of hours beside it, .*"),
    ("trials: 2", "trials: 2\n  deterministic: true", "1: resources.concurrent_trials: expected 1, since search.deterministic with scheduler asha .*, found auto"),
    ("trials: 2", "trials: 2\n  scheduler: pbt\n  sampler: tpe", "15: search: sampler: expected one that does not learn .*, found tpe"),
    ("trials: 2", "trials: 2\n  budget: {hour: 1}", "17: search.budget.hour: expected one of the keys hours, worker_hours, found 'hour', did you mean 'hours'?"),
    ("trials: 2", "trials: 2\n  repeats: {seed: 3}", "17: search.repeats.seed: expected one of the keys best, seeds, found 'seed', did you mean 'seeds'?"),
    ("trials: 2", "trials: 2\n  repeats: 0", "17: search.repeats.*: expected greater than 0, found 0"),
    ("dropout: 0.1", "dropout: {uniform: [0, 0.5]}\nsearch: {start: {points: [{model.dropout: 0.7}]}}\nresources: {}", "12: search.start.points[0].model.dropout: expected a number from 0 to 0.5, found 0.7"),
    ("dropout: 0.1", "dropout: {uniform: [0, 0.5]}\nsearch: {start: {points: [{model.dropot: 0.1}]}}\nresources: {}", "12: search.start.points[0].model.dropot: expected a leaf that is searched (model.dropout), found 'model.dropot', did you mean 'model.dropout'?"),
    ("trials: 2", "trials: 2\n  start: {trials: 3}", "17: search.start.trials: expected the key 'sweep' beside it, found none"),
    ("trials: 2", "trials: 2\n  sampler: random\n  start: {sweep: old}", "18: search.start.sweep: expected a sampler that learns from earlier trials (tpe, gp), found 'random'"),
    # values
    ("epochs: 3", "epochs: three", "13: training.epochs: expected a valid integer, found 'three'"),
    ("epochs: 3", "epochs: 0", "13: training.epochs: expected greater than 0, found 0"),
    ("embed_dims: [32, 64, 32]", "embed_dims: [32, x, 32]", "8: model.embed_dims[1]: expected a valid integer, found 'x'"),
    ("trials: 2", "trials: 2\nresources: {workers: 0}", "17: resources.workers: expected greater than 0, found 0"),
    # distributions that are wrong in themselves
    ("lr: 1e-3", "lr: {log: [1e-2, 1e-4]}", "14: training.optimizer.lr: log: expected low at most high, found [0.01, 0.0001]"),
    ("lr: 1e-3", "lr: {log: [0, 1e-4]}", "14: training.optimizer.lr: log: expected low above 0, found 0"),
    ("lr: 1e-3", "lr: {log: [1e-4]}", "14: training.optimizer.lr: log: expected [low, high], found [0.0001]"),
    ("lr: 1e-3", "lr: {log: [1e-4, 1e-3], uniform: [0, 1]}", "14: training.optimizer.lr: expected one of choice, .*, found uniform and log"),
    ("dropout: 0.1", "dropout: {choice: []}", "11: model.dropout: choice: expected a list with at least one entry, found []"),
    ("dropout: 0.1", "dropout: {choice: [0.1, 0.1]}", "11: model.dropout: choice: expected different entries, found 0.1 twice"),
    ("dropout: 0.1", "dropout: {normal: [0.1, -1]}", "11: model.dropout: normal: expected a standard deviation above 0, found -1"),
    ("dropout: 0.1", "dropout: {uniform: [0.0, 0.2], step: 0.5}", "11: model.dropout: uniform: expected a step above 0 and at most 0.2, found 0.5"),
    ("dropout: 0.1", "dropout: {uniformm: [0, 0.5]}", "11: model.dropout: expected a valid number, found {.*}, did you mean 'uniform'?"),
    ("dropout: 0.1", "dropout: {uniform: [0, 0.5], steps: 2}", "11: model.dropout: expected a valid number, found {.*}, did you mean 'step'?"),
    ("num_layers: 2", "num_layers: {int: [2.5, 4]}", "10: model.num_layers: int: expected [low, high] of whole numbers, found [2.5, 4]"),
    ("num_layers: 2", "num_layers: {int: [4, 2]}", "10: model.num_layers: int: expected low at most high, found [4, 2]"),
    # distributions that the field does not allow
    ("lr: 1e-3", "lr: {uniform: [-1, 1]}", "14: training.optimizer.lr: expected greater than 0, found -1.0"),
    ("dropout: 0.1", "dropout: {uniform: [0.0, 1.5]}", "11: model.dropout: expected less than 1, found 1.5"),
    ("num_layers: 2", "num_layers: {choice: [2, many]}", "10: model.num_layers: expected a valid integer, found 'many'"),
    ("num_layers: 2", "num_layers: {uniform: [2, 4]}", "10: model.num_layers: expected a valid integer, found 3.2.*"),
    ("num_heads: 4", "num_heads: {choice: [4, 5]}", "6: model: num_heads=5 does not divide .*"),
    ("trials: 2", "trials: {int: [1, 3]}", "16: search.trials: expected a fixed value below search, found a distribution"),
    ("jets: 600", "jets: {choice: [1, 2]}", "4: data.source.jets: expected a fixed value below data.source, found a distribution"),
    ("dropout: 0.1", "dropout: {uniform: [0, 0.1]}\nsearch: {sampler: grid}\nresources: {}", "11: model.dropout: expected values that a grid can list .*, found a continuum"),
    # branches
    (MODEL, BRANCHES + "num_layer: 3", "10: model.num_layer: expected one of the keys .*, found 'num_layer', did you mean 'num_layers'?"),
    (MODEL, BRANCHES + "num_layers: {int: [0, 3]}", "10: model.num_layers: expected greater than 0, found 0"),
    (MODEL, BRANCHES + "num_layers: {int: [3, 1]}", "10: model.num_layers: int: expected low at most high, found [3, 1]"),
    # conditions
    ("dropout: 0.1", "dropout: {choice: [0.2], when: {model.namex: part}}", "11: model.dropout: when: expected a key that the file sets, found 'model.namex', did you mean 'model.name'?"),
    ("dropout: 0.1", "dropout: {choice: [0.2], when: {model.name: prt}}", "11: model.dropout: when: expected a value that model.name can have (part), found prt, did you mean 'part'?"),
    ("dropout: 0.1", "dropout: {choice: [0.2], when: part}", "11: model.dropout: when: expected path: value, .*, found 'part'"),
    ("dropout: 0.1", "dropout: {choice: [0.2], when: {model.num_layers: 2}}\n  num_layers: {choice: [2], when: {model.dropout: 0.2}}", "1[01]: model.*when: expected conditions without a circle, found .*"),
]  # fmt: skip


def pattern(sentence):
    """The sentence as it stands, except for `.*` and character classes of digits."""
    import re

    text = re.escape(sentence).replace(r"\.\*", ".*").replace(r"1\[01\]", "1[01]")
    return f"^{text}$"


@pytest.mark.parametrize(("good", "bad", "sentence"), MISTAKES, ids=[bad.split("\n")[-1] for _, bad, _ in MISTAKES])
def test_one_sentence_at_the_place(tmp_path, monkeypatch, good, bad, sentence):
    monkeypatch.chdir(tmp_path)
    text = BASE
    if "\nsearch: {" in bad:
        text = text.replace("search:\n  trials: 2\n", "")
    elif "\n  num_layers:" in bad:
        text = text.replace("  num_layers: 2\n", "")
    assert good in text
    (tmp_path / "bad.yaml").write_text(text.replace(good, bad, 1))
    with pytest.raises(ExperimentError, match=pattern(f"bad.yaml:{sentence}")) as caught:
        load_experiment("bad.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.epoch=3", "training.epoch: expected one of the keys .*, did you mean 'epochs'?"),
        ("training.epochs=0", "training.epochs: expected greater than 0, found 0"),
        ("model.dropout={uniform: [1, 0]}", "model.dropout: uniform: expected low at most high, found [1, 0]"),
        ("model.dropout={uniform: [0, 2]}", "model.dropout: expected less than 1, found 2.0"),
        ("search.objectives[0].metric=val/auk", "search.objectives[0].metric: .*, did you mean 'val/auc'?"),
        ("search.objectives[3].metric=val/auc", "search.objectives[3].metric: expected a position in a list, found 3"),
        ("training.epochs", "expected key=value, e.g. training.epochs=3"),
    ],
)
def test_an_override_names_itself(tmp_path, override, sentence):
    (tmp_path / "good.yaml").write_text(BASE + "  objectives: [{metric: val/auc}]\n")
    with pytest.raises(ExperimentError, match=pattern(f"-o {override}: {sentence}")):
        load_experiment(tmp_path / "good.yaml", [override])


def test_an_override_must_be_yaml(tmp_path):
    (tmp_path / "good.yaml").write_text(BASE)
    with pytest.raises(ExperimentError, match=r"^-o .*: expected a YAML value, found a mistake"):
        load_experiment(tmp_path / "good.yaml", ["training.epochs={3"])


def test_a_mistake_in_the_extended_file_is_shown_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE.replace("epochs: 3", "epochs: -3"))
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nsearch: {trials: 5}\n")
    with pytest.raises(ExperimentError, match=r"^base\.yaml:13: training\.epochs: expected greater than 0, found -3$"):
        load_experiment("top.yaml")


def test_a_circle_of_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ExperimentError, match=r"found a circle back to a\.yaml"):
        load_experiment("a.yaml")


@pytest.mark.parametrize(
    ("text", "found"), [("", "an empty file"), ("- a\n", "a CommentedSeq"), ("1: 2\n", "keys that are words, found 1")]
)
def test_not_an_experiment(tmp_path, text, found):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ExperimentError, match=rf"a\.yaml:1: .*{found}"):
        load_experiment(tmp_path / "a.yaml")


def test_an_unknown_profile(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE + "profiles: {laptop: {training: {epochs: 1}}}\n")
    with pytest.raises(ExperimentError, match=r"profiles full, laptop, found 'labtop', did you mean 'laptop'\?$"):
        load_experiment(tmp_path / "a.yaml", profile="labtop")


def test_an_unreadable_file(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ExperimentError, match=r"a\.yaml: cannot be read"):
        load_experiment(tmp_path / "a.yaml")
