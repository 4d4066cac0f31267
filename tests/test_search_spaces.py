"""Every shipped search space: found by name, valid wherever it is drawn, and steppable in every branch."""

import subprocess
import sys
from pathlib import Path

import pytest

from jetsweep.experiment import load_experiment, profiles_of
from jetsweep.experiment._yaml import find_file, shipped_folder
from jetsweep.experiment.sampling import sample
from jetsweep.models import list_models

FILES = sorted(path.name for path in shipped_folder().glob("*.yaml"))
TABLES = {"atlas-table.yaml", "top-landscape.yaml", "quark-gluon.yaml", "jetclass.yaml"}
"""Comparisons of many taggers, each on jets of its own."""
ANOMALIES = {"vae.yaml", "disco-vae.yaml", "oe-vae.yaml", "oe-disco-vae.yaml", "flow.yaml", "ebm.yaml"}
"""Anomaly searches, on jets of many signals."""
ALONE = {"cathode.yaml"}
"""On a dataset that nothing else reads."""

CASES = [(name, profile) for name in FILES for profile in ("full", *profiles_of(name))]


def test_every_architecture_has_one():
    models = {load_experiment(name).example.model.name for name in FILES}
    assert models == set(list_models())


@pytest.mark.parametrize(("name", "profile"), CASES)
def test_fifty_draws_are_valid(name, profile):
    template = load_experiment(name, profile=profile)
    drawn = list(sample(template, 50))
    if template.space:
        assert len({str(leaves) for leaves, _ in drawn}) > 1
    for leaves, experiment in drawn:
        assert set(leaves) <= set(template.space)
        assert template.concrete(leaves) == experiment


@pytest.mark.parametrize("name", [name for name in FILES if "laptop" in profiles_of(name)])
def test_the_laptop_profile_is_smaller(name):
    full, laptop = load_experiment(name), load_experiment(name, profile="laptop")
    assert laptop.search.trials < full.search.trials
    assert laptop.example.data.source.jets < full.example.data.source.jets


def test_all_spaces_of_one_dataset_share_it():
    # make it once, compare everything on the same jets; those with tracks are the same ones with more columns
    names = [name for name in FILES if "laptop" in profiles_of(name) and name not in TABLES | ANOMALIES | ALONE]
    for profile in ("laptop", "full"):
        sources = [load_experiment(name, profile=profile).example.data.source for name in names]
        assert len({str(source.model_copy(update={"tracks": False})) for source in sources}) == 1
        assert len({str(source) for source in sources}) == 2
        sources = {str(load_experiment(name, profile=profile).example.data.source) for name in ANOMALIES}
        assert len(sources) == 1


def test_part_is_the_published_recipe():
    part = load_experiment("part.yaml")
    experiment = part.draw(lambda name, leaf: leaf.labels[-1] if name == "model.embed_dims" else _any(leaf))
    model, training = experiment.model, experiment.training
    assert (model.embed_dims, model.pair_embed_dims) == ((128, 512, 128), (64, 64, 64))
    assert (model.num_heads, model.num_class_layers) == (8, 2)
    assert part.space["model.num_layers"].low <= 8 <= part.space["model.num_layers"].high
    assert (training.optimizer.name, training.schedule.name, training.batch_size) == ("ranger", "flat-decay", 512)
    assert part.space["training.optimizer.lr"].low <= 1e-3 <= part.space["training.optimizer.lr"].high


def _any(leaf):
    from jetsweep.experiment.distributions import probes

    return probes(leaf)[0]


def test_shipped_files_are_found_by_name_from_anywhere(tmp_path):
    code = "from jetsweep.experiment import load_experiment as load; print(load('toy').name, load('part.yaml').name)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["toy", "part-top-tagging"]


def test_a_file_beside_goes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text("extends: pfn.yaml\nname: mine\n")
    assert find_file("toy.yaml") == Path("toy.yaml")
    assert load_experiment("toy.yaml").name == "mine"
