"""`jetsweep plan` and the numbers behind it."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from jetsweep.cli.plan import _epoch_s, app, describe_data, find_branches
from jetsweep.data.dataset import label_counts
from jetsweep.errors import JetsweepError
from jetsweep.experiment import costs, load_experiment
from jetsweep.experiment._yaml import shipped_folder
from jetsweep.experiment.costs import Cost, count_parameters, measure

CPU = torch.device("cpu")
CLASSES = ["qcd", "top"]
BASE = """\
name: test
task: {name: tagging, signal: top}
data: {source: {name: toy, jets: 600}, max_constituents: 128}
model: pfn
training: {batch_size: 32}
"""


LOSS = "search.objectives=[{metric: val/loss, mode: min}]"


@pytest.fixture
def load(tmp_path):
    def load(*overrides):
        (tmp_path / "a.yaml").write_text(BASE)
        return load_experiment(tmp_path / "a.yaml", overrides).example

    return load


@pytest.fixture
def few_jets(monkeypatch):
    """Steps of four jets, for tests that are not about their time."""
    monkeypatch.setattr(costs, "PROBE_JETS", 4)


def plan(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_arithmetic_of_a_deep_set_is_its_matrices(load):
    experiment = load("model.phi_sizes=[10, 20]", "model.f_sizes=[30]")
    cost = measure(experiment, CLASSES, CPU)
    assert cost.slots == 128
    assert cost.macs == 128 * (7 * 10 + 10 * 20) + 20 * 30 + 30 * 2
    assert cost.parameters == 7 * 10 + 10 + 10 * 20 + 20 + 20 * 30 + 30 + 30 * 2 + 2
    assert count_parameters(experiment, CLASSES) == cost.parameters


def test_arithmetic_of_the_published_transformer(load, few_jets):
    # 334.8M multiply-accumulates at 128 constituents with 17 inputs and 10 classes; 7 and 2 make 0.05 % less
    cost = measure(load("model=part", "training.batch_size=4"), CLASSES, CPU)
    assert cost.parameters == 2_141_134
    assert cost.macs == pytest.approx(334.8e6, rel=0.005)


def test_memory_counts_weights_gradients_state_and_activations(load):
    wide = ("model.phi_sizes=[64]", "model.f_sizes=[64]")
    sgd = measure(load(*wide, "training.optimizer={name: sgd, momentum: 0.0}"), CLASSES, CPU)
    adam = measure(load(*wide, "training.optimizer={name: adam}"), CLASSES, CPU)
    # two moments of four bytes each, and a step counter per tensor
    extra = adam.memory_bytes - sgd.memory_bytes
    assert 8 * adam.parameters <= extra <= 8 * adam.parameters + 100
    whole = measure(load(*wide, "training.batch_size=64"), CLASSES, CPU)
    split = measure(load(*wide, "training.batch_size=64", "training.accumulate=4"), CLASSES, CPU)
    state = 16 * whole.parameters
    assert (split.memory_bytes - state) * 4 == pytest.approx(whole.memory_bytes - state, rel=0.01)


def test_an_epoch_is_its_steps_and_its_validation(load):
    cost = measure(load(), CLASSES, CPU)
    assert cost.step_s > 0
    assert cost.timed_jets == 32
    assert cost.epoch_s(640, 0, 32) == pytest.approx(20 * cost.step_s)
    assert cost.epoch_s(640, 100, 32) == pytest.approx(20 * cost.step_s + 100 * cost.forward_s)
    assert cost.epoch_s(640, 0, 32, steps=5) == pytest.approx(5 * cost.step_s)


@pytest.mark.parametrize("features", ["kin", "kinpid", "kinpidplus", "full", "energyflow", "atlas7"])
def test_every_feature_set_can_be_stepped(load, few_jets, features):
    assert measure(load(f"model={{name: pfn, features: {features}, phi_sizes: [8]}}"), CLASSES, CPU).macs > 0


@pytest.mark.parametrize("file", sorted(shipped_folder().glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_space_can_be_planned(file, tmp_path, monkeypatch, few_jets):
    monkeypatch.setenv("JETSWEEP_DATA", str(tmp_path))  # nothing was downloaded there
    quick = ["-o", "training.batch_size=4", "-o", "data.max_constituents=16", "-o", "training.precision=fp32"]
    shown = plan(file, "--profile", "full", "--data", tmp_path, *quick)
    assert "50 configurations drawn, all valid" in shown
    name = Path(file).name
    if name in {"top-landscape.yaml", "quark-gluon.yaml", "jetclass.yaml"}:
        assert "to be downloaded; the number of jets is not known" in shown
        assert "estimated time: unknown until the data is there" in shown
    elif name in {
        "rejection-against-uncertainty.yaml",
        "cathode.yaml",
    }:  # nor is the size of varied samples, or regions
        assert "estimated time: unknown until the data is there" in shown
    else:
        assert "estimated time of training: " in shown
    assert list(tmp_path.iterdir()) == []


def test_branches_are_found_with_their_extremes(tmp_path):
    template = load_experiment("top-tagging-comparison.yaml")
    branches = find_branches(template, CLASSES)
    assert list(branches) == ["hldnn", "part", "pfn"]
    assert sum(count for count, _, _ in branches.values()) == 50
    for name, (_, smallest, largest) in branches.items():
        assert smallest.model.name == largest.model.name == name
        assert count_parameters(smallest, CLASSES) < count_parameters(largest, CLASSES)


def test_what_is_shown(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE + "search: {trials: 4, scheduler: none}\n")
    shown = plan(tmp_path / "a.yaml", "--data", tmp_path, "--cpus", 3, "--gpus", 0)
    assert "82,858" in shown or "83,058" in shown  # PFN with seven inputs, as published
    assert "@128" in shown
    assert "toy, not made yet; about 480 train, 60 val, 60 test" in shown
    assert "budget: 4 trials × 10 epochs" in shown
    assert "3 trials at once" in shown


def test_more_workers_than_there_are(tmp_path):
    (tmp_path / "a.yaml").write_text(BASE + "resources: {workers: 3}\n")
    with pytest.raises(JetsweepError, match="a trial needs 3 workers of 1 CPU each, the cluster has 1 node of 2 CPU"):
        plan(tmp_path / "a.yaml", "--cpus", 2, "--gpus", 0)


def test_a_made_dataset_gives_its_numbers(tmp_path, load):
    from jetsweep.data.config import prepare

    experiment = load()
    dataset = prepare(experiment.data, tmp_path)
    jets, of_class, where = describe_data(experiment, tmp_path)
    assert jets == {split: dataset.num_rows(split) for split in ("train", "val", "test")}
    assert of_class == label_counts(dataset, "train")
    assert list(of_class) == ["qcd", "top"]
    assert str(dataset.path) in where


def test_only_jets_that_are_trained_on_are_counted(load):
    anomaly = "task={name: anomaly, background: [qcd], contamination: {top: 0.1}}"
    experiment = load(anomaly, "model=vae", "training.batch_size=10", LOSS)
    cost = Cost(1, 1, 1, 1, step_s=1.0, timed_jets=10, forward_s=0.0)
    assert _epoch_s(cost, experiment, {"train": 1000, "val": 100}, {"qcd": 300, "top": 700}) == 33.0
    tagging = load("training.batch_size=10")
    assert _epoch_s(cost, tagging, {"train": 1000, "val": 100}, {"qcd": 300, "top": 700}) == 100.0


def test_outliers_are_as_many_as_their_ratio_says(load):
    exposed = "task={name: anomaly, background: [qcd], exposure: {classes: [top], ratio: 0.25}}"
    experiment = load(exposed, "model=vae", LOSS)
    model, task = costs._build(experiment, CLASSES)
    batches = costs._toy_batches(model, task, 2, 32, 40, CPU)
    assert {name: len(batch) for name, batch in batches.items()} == {"main": 32, "outliers": 8}
