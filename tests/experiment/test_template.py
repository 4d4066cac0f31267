"""From file to experiments: composition, distributions, branches and conditions."""

import random

import pytest

from jetsweep.errors import ExperimentError
from jetsweep.experiment import Choice, Float, Int, Normal, load_experiment, profiles_of
from jetsweep.experiment.distributions import draw, parse, probes
from jetsweep.experiment.sampling import sample

BASE = """\
name: test
task: tagging
data: {source: {name: toy, jets: 600}, max_constituents: 32}
model: pfn
training: {optimizer: {name: adamw, lr: {log: [1e-4, 1e-2]}}}
"""
BRANCHES = """\
model:
  choice:
    - {name: pfn, phi_sizes: {choice: [[16, 16], [32, 32]]}}
    - {name: hldnn, width: {int: [8, 32], step: 8}}
"""


@pytest.fixture
def load(tmp_path):
    def load(text=BASE, *overrides, profile=None):
        (tmp_path / "a.yaml").write_text(text)
        return load_experiment(tmp_path / "a.yaml", overrides, profile)

    return load


def test_plain_values_and_names(load):
    template = load()
    assert template.example.model.name == "pfn"
    assert template.example.task.name == "tagging"
    assert template.space == {"training.optimizer.lr": Float(1e-4, 1e-2, log=True)}
    assert template.concrete({"training.optimizer.lr": 2e-3}).training.optimizer.lr == 2e-3


def test_floats_as_people_write_them(load):
    template = load(BASE, "training.optimizer.lr=1e-3", "training.optimizer.eps=1E-8")
    assert template.example.training.optimizer.lr == 1e-3
    assert template.document.tree["training"]["optimizer"]["lr"] == 1e-3


def test_branches_have_their_own_leaves(load):
    template = load(BASE.replace("model: pfn\n", BRANCHES))
    assert template.space["model"].labels == ("pfn", "hldnn")
    assert template.space["model[pfn].phi_sizes"].labels == ("[16,16]", "[32,32]")
    assert template.space["model[hldnn].width"] == Int(8, 32, 8)
    asked = []
    values = {"model": "hldnn", "model[hldnn].width": 24, "training.optimizer.lr": 1e-3}

    def ask(name, distribution):
        asked.append(name)
        return values[name]

    experiment = template.suggest(ask)
    assert (experiment.model.name, experiment.model.width) == ("hldnn", 24)
    assert set(asked) == set(values)
    pfn = template.concrete({"model": "pfn", "model[pfn].phi_sizes": "[32,32]", "training.optimizer.lr": 1e-3})
    assert pfn.model.phi_sizes == (32, 32)


def test_conditions_wait_for_what_they_depend_on(load):
    text = BASE.replace("model: pfn\n", BRANCHES).replace(
        "training: {", "training: {epochs: {choice: [30], when: {model.name: hldnn}}, "
    )
    template = load(text)
    seen = {}
    for drawn, experiment in sample(template, 20):
        seen.setdefault(experiment.model.name, set()).add(("training.epochs" in drawn, experiment.training.epochs))
    # where the condition fails the leaf is absent and the default holds
    assert seen == {"hldnn": {(True, 30)}, "pfn": {(False, 10)}}


def test_a_condition_on_a_number(load):
    model = (
        "model: {name: pfn, f_dropout: {uniform: [0.1, 0.2], when: {model.latent_dropout: [0.0]}}, "
        "latent_dropout: {choice: [0.0, 0.3]}}\n"
    )
    for _, experiment in sample(load(BASE.replace("model: pfn\n", model)), 20):
        assert (experiment.model.f_dropout > 0) == (experiment.model.latent_dropout == 0)


def test_extends_replaces_another_name_and_merges_the_same(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "same.yaml").write_text("extends: base.yaml\ntraining: {epochs: 4, optimizer: {weight_decay: 0.5}}\n")
    same = load_experiment(tmp_path / "same.yaml").example.training
    assert (same.epochs, same.optimizer.name, same.optimizer.lr, same.optimizer.weight_decay) == (4, "adamw", 1e-4, 0.5)
    (tmp_path / "other.yaml").write_text("extends: [base.yaml]\ntraining: {optimizer: {name: sgd}}\n")
    other = load_experiment(tmp_path / "other.yaml")
    assert other.example.training.optimizer.name == "sgd"
    assert other.space == {}


def test_a_union_of_files_without_a_common_base(tmp_path):
    (tmp_path / "jets.yaml").write_text("name: jets\ntask: tagging\ndata: {source: {name: toy, jets: 600}}\n")
    (tmp_path / "nets.yaml").write_text("name: nets\nmodel: {choice: [pfn, efn]}\ntraining: {epochs: 3}\n")
    (tmp_path / "top.yaml").write_text("extends: [jets.yaml, nets.yaml]\nname: both\n")
    template = load_experiment(tmp_path / "top.yaml")
    assert (template.name, template.example.data.source.jets, template.example.training.epochs) == ("both", 600, 3)
    assert template.space["model"].labels == ("pfn", "efn")


def test_later_files_win_and_a_shared_base_stands_below_both(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE + "search: {trials: 5, seed: 1}\n")
    (tmp_path / "a.yaml").write_text("extends: base.yaml\nsearch: {trials: 7}\n")
    (tmp_path / "b.yaml").write_text("extends: base.yaml\nsearch: {seed: 2}\n")
    (tmp_path / "c.yaml").write_text("search: {seed: 3}\n")
    (tmp_path / "top.yaml").write_text("extends: [a.yaml, b.yaml]\n")
    (tmp_path / "more.yaml").write_text("extends: [top.yaml, c.yaml]\n")
    top, more = load_experiment(tmp_path / "top.yaml").search, load_experiment(tmp_path / "more.yaml").search
    assert (top.trials, top.seed) == (7, 2)
    assert (more.trials, more.seed) == (7, 3)


def test_a_wrong_name_among_several_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(BASE)
    (tmp_path / "top.yaml").write_text("extends:\n  - a.yaml\n  - nothere\n")
    with pytest.raises(ExperimentError, match=r"^top\.yaml:3: extends: nothere: expected an experiment file"):
        load_experiment("top.yaml")


def test_bare_names_and_choices_inside_choices(load):
    model = """\
model:
  choice:
    - pfn
    - {name: part, num_layers: {int: [1, 2]}, num_heads: 4}
    - choice:
        - particlenet
        - {name: efn, phi_sizes: {choice: [[16, 16], [32, 32]]}}
"""
    template = load(BASE.replace("model: pfn\n", model))
    pfn, part, inner = template.space["model"].labels
    assert (pfn, part) == ("pfn", "part")
    assert template.space[f"model[{inner}]"].labels == ("particlenet", "efn")
    seen = {}
    for drawn, experiment in sample(template, 60):
        drawn.pop("training.optimizer.lr")
        seen.setdefault(experiment.model.name, set()).add(tuple(drawn))
    nested = f"model[{inner}]"
    assert seen == {
        "pfn": {("model",)},
        "part": {("model", "model[part].num_layers")},
        "particlenet": {("model", nested)},
        "efn": {("model", nested, f"{nested}[efn].phi_sizes")},
    }


def test_a_mistake_deep_inside_nested_choices_is_found(load):
    inner = "    - choice:\n        - efn\n        - {name: part, num_layers: {choice: [1, 0]}}\n"
    model = f"model:\n  choice:\n    - pfn\n{inner}"
    with pytest.raises(ExperimentError, match=r":9: model\.num_layers: expected greater than 0, found 0$"):
        load(BASE.replace("model: pfn\n", model))


def test_extends_a_shipped_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: toy.yaml\nname: mine\n")
    template = load_experiment(tmp_path / "mine.yaml")
    assert (template.name, template.example.data.source.name) == ("mine", "toy")


def test_profiles(load, tmp_path):
    text = BASE + "profiles: {laptop: {training: {epochs: 2, optimizer: {lr: 1e-3}}}}\n"
    assert load(text).example.training.epochs == 10
    assert load(text, profile="full").space.keys() == {"training.optimizer.lr"}
    laptop = load(text, "training.epochs=5", profile="laptop")
    assert laptop.example.training.epochs == 5
    assert laptop.space == {}
    assert laptop.profile_changes == [
        ("training.optimizer.lr", {"log": [1e-4, 1e-2]}, 1e-3),
        ("training.epochs", None, 2),
    ]
    assert profiles_of(tmp_path / "a.yaml") == ["laptop"]


def test_overrides(load):
    template = load(
        BASE,
        "training.epochs={int: [2, 4]}",
        "model.phi_sizes=[8, 8]",
        "search.objectives=[{metric: val/auc}, {metric: val/loss, mode: min}]",
        "search.objectives[1].metric=val/accuracy",
    )
    assert template.space["training.epochs"] == Int(2, 4)
    assert (template.example.model.name, template.example.model.phi_sizes) == ("pfn", (8, 8))
    assert [o.metric for o in template.search.objectives] == ["val/auc", "val/accuracy"]


def test_the_resolved_file_loads_again(load, tmp_path):
    template = load(BASE.replace("model: pfn\n", BRANCHES), "training.epochs=2")
    (tmp_path / "again.yaml").write_text(template.to_yaml())
    again = load_experiment(tmp_path / "again.yaml")
    assert again.space == template.space
    assert again.example == template.example
    assert again.to_json() == template.to_json()


def test_an_experiment_holds_its_trial(load):
    experiment = load().example
    spec = experiment.trial_spec()
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert spec.model == experiment.model
    assert not hasattr(spec, "search")


@pytest.mark.parametrize(
    ("mapping", "distribution"),
    [
        ({"choice": ["a", 1, None, True]}, Choice(("a", 1, None, True), ("a", 1, None, True))),
        ({"choice": [{"name": "a"}, {"name": "a", "x": 1}]}, Choice(({"name": "a"}, {"name": "a", "x": 1}), ("a", "a#2"))),  # noqa: E501
        ({"int": [1, 9], "step": 2}, Int(1, 9, 2)),
        ({"int": [1, 9], "log": True}, Int(1, 9, 1, True)),
        ({"uniform": [0, 1], "step": 0.25}, Float(0.0, 1.0, 0.25)),
        ({"log": [1e-3, 1]}, Float(1e-3, 1.0, log=True)),
        ({"normal": [1, 0.5]}, Normal(1.0, 0.5, -1.0, 3.0)),
        ({"normal": [1, 0.5], "low": 0, "high": 2}, Normal(1.0, 0.5, 0.0, 2.0)),
    ],
)  # fmt: skip
def test_parse_and_draw(mapping, distribution):
    assert parse(mapping) == distribution
    rng = random.Random(0)
    values = [draw(distribution, rng) for _ in range(300)]
    if isinstance(distribution, Choice):
        assert {str(v) for v in values} == {str(v) for v in distribution.labels}
        return
    assert all(distribution.low <= value <= distribution.high for value in values)
    if isinstance(distribution, Int) and not distribution.log:
        assert set(values) == set(range(1, 10, 2))
    elif isinstance(distribution, Float) and distribution.step:
        assert set(values) == {0.0, 0.25, 0.5, 0.75, 1.0}
    else:
        assert len(set(values)) > 5
    assert set(probes(distribution)) >= {distribution.low, distribution.high}


def test_true_and_one_are_different_choices():
    choice = parse({"choice": [1, True]})
    assert choice.option(True) is True
    assert choice.option(1) == 1
    assert choice.option(1) is not True
