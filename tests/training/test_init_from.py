"""Fine-tuning: first weights, new heads, classes, frozen parts, and a resumed run as if nothing had happened."""

import logging
import shutil

import numpy as np
import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.models import MODELS, create_model
from jetsweep.models._jet_model import build_jet_model
from jetsweep.tasks._base import build_task
from jetsweep.training import load_checkpoint, train
from jetsweep.training.checkpoint import read_state, read_weights
from jetsweep.training.config import InitConfig, TrialSpec
from jetsweep.training.init_from import check_start, initialise, output_tensors
from jetsweep.training.optimizers import freeze, training_mode

SMALL = {"name": "pfn", "phi_sizes": [8, 8], "f_sizes": [8]}
LITE = {"name": "particlenet", "num_neighbours": 3, "widths": [[8, 8]], "dense_width": 8}


@pytest.fixture(scope="module")
def earlier(data_root, tmp_path_factory):
    """Folder of a trial to begin with."""
    folder = tmp_path_factory.mktemp("earlier")
    train(spec_of(SMALL, seed=1), folder, data_root)
    return folder


def spec_of(model, seed=3, **training):
    settings = {"epochs": 1, "batch_size": 96, **training}
    data = {"source": {"name": "toy", "jets": 600, "seed": 1}, "max_constituents": 16}
    return TrialSpec.model_validate(
        {"name": "t", "seed": seed, "data": data, "task": "tagging", "model": model, "training": settings}
    )


def begin(path, model, classes=("qcd", "top"), rows=None, fresh=()):
    """State of a model that begins with the weights at `path`, and the fresh one it would have had."""
    spec = spec_of(model)
    task = build_task(spec.task, classes)
    torch.manual_seed(5)
    made = build_jet_model(spec.model, task.num_outputs(spec.model.binary_output), 16)
    untouched = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    initialise(made, InitConfig(path=str(path), classes=rows or {}, fresh=fresh), spec.model, task)
    return made.state_dict(), untouched


def test_the_same_classes_take_everything(earlier):
    began, fresh = begin(earlier, SMALL)
    source = load_checkpoint(earlier).model.state_dict()
    assert all(torch.equal(began[name], source[name]) for name in source)
    assert not torch.equal(began["network.head.output.weight"], fresh["network.head.output.weight"])


def test_the_same_classes_in_another_order_take_their_rows(earlier):
    began, _ = begin(earlier, SMALL, classes=("top", "qcd"))
    source = load_checkpoint(earlier).model.state_dict()
    for name in ("network.head.output.weight", "network.head.output.bias"):
        assert torch.equal(began[name], source[name].flip(0))


def test_other_classes_get_a_fresh_head_and_keep_the_rest(earlier):
    began, fresh = begin(earlier, SMALL, classes=("gluon", "quark", "w"))
    source = load_checkpoint(earlier).model.state_dict()
    assert began["network.head.output.weight"].shape == (3, 8)
    for name, tensor in began.items():
        assert torch.equal(tensor, fresh[name] if "head.output" in name else source[name]), name


def test_classes_may_be_named(earlier):
    began, fresh = begin(earlier, SMALL, classes=("gluon", "quark", "w"), rows={"w": "top", "quark": 0})
    source = load_checkpoint(earlier).model.state_dict()
    for name in ("network.head.output.weight", "network.head.output.bias"):
        assert torch.equal(began[name][2], source[name][1])
        assert torch.equal(began[name][1], source[name][0])
        assert torch.equal(began[name][0], fresh[name][0])


def test_patterns_of_fresh_parameters(earlier):
    began, fresh = begin(earlier, SMALL, fresh=("network.head.*",))
    source = load_checkpoint(earlier).model.state_dict()
    for name, tensor in began.items():
        assert torch.equal(tensor, (fresh if name.startswith("network.head.") else source)[name]), name


def test_more_layers_are_named_fresh(earlier):
    deeper = {**SMALL, "f_sizes": [8, 8]}
    with pytest.raises(JetsweepError, match=r"has no 'network.head.dense.2.bias'; configure the model alike, or name"):
        begin(earlier, deeper)
    began, _ = begin(earlier, deeper, fresh=("network.head.dense.2.*",))
    source = load_checkpoint(earlier).model.state_dict()
    assert torch.equal(began["network.phi.0.weight"], source["network.phi.0.weight"])


WITH_HEADS = [name for name in MODELS.names() if MODELS.get(name).config.outputs == "logits"]


@pytest.mark.parametrize("name", WITH_HEADS)
def test_the_head_of_every_architecture_is_found(name):
    small = {"pfn": SMALL, "particlenet": LITE}.get(name, {"name": name})
    spec = spec_of(small)
    made = build_jet_model(spec.model, 2, 16)
    head = output_tensors(spec.model, made)
    assert head
    assert head <= set(made.network.state_dict())
    rows = {len(made.network.state_dict()[tensor]) for tensor in head}
    assert rows == ({2, 4} if name == "lgatr" else {2})  # a scalar and a pseudoscalar of each output


def published(path, num_outputs):
    """A file of ParticleNet's weights under the names that its authors give them."""
    torch.manual_seed(7)
    made = create_model(num_features=7, num_classes=num_outputs, **LITE)
    renamed = {}
    for name, tensor in made.state_dict().items():
        for ours, theirs in (
            ("input_norm.", "bn_fts."),
            ("blocks.", "edge_convs."),
            (".linears.", ".convs."),
            (".norms.", ".bns."),
            (".shortcut_norm.", ".sc_bn."),
            (".shortcut.", ".sc."),
            ("dense.", "fc.0.0."),
            ("output.", "fc.1."),
        ):
            name = name.replace(ours, theirs)
        renamed[f"mod.{name}"] = tensor[..., None, None] if ".convs." in name else tensor
    torch.save(renamed, path)
    return {f"network.{name}": tensor for name, tensor in made.state_dict().items()}


def test_published_weights_with_another_number_of_classes(tmp_path):
    theirs = published(tmp_path / "net.pt", 10)
    began, fresh = begin(tmp_path / "net.pt", LITE, classes=("qcd", "top"))
    assert all(
        torch.equal(began[name], fresh[name] if "output" in name else theirs[name])
        for name in began
        if name.startswith("network.")
    )
    began, _ = begin(tmp_path / "net.pt", LITE, rows={"qcd": 0, "top": 8})
    assert torch.equal(began["network.output.weight"], theirs["network.output.weight"][[0, 8]])


# ruff: noqa: E501 (a table: one mistake a line)
MISTAKES = {
    "nothing there": ({"path": "nowhere"}, SMALL, "training.init_from: nowhere: expected a checkpoint .*, found nothing"),
    "another architecture": ({}, LITE, "expected weights of particlenet, found pfn"),
    "other features": ({}, {**SMALL, "features": "full"}, "expected model.features: full, found kin"),
    "other widths": ({}, {**SMALL, "phi_sizes": [8, 16]}, r"'network.*': expected shape \(.*\) as configured, found \(.*"),
    "a pattern without a match": (
        {"fresh": ["network.heads.*"]}, SMALL, r"'network.heads.\*' matches no parameter, did you mean 'network.head.\*'\?",
    ),
    "a class that is not here": ({"classes": {"w": "top"}}, SMALL, r"expected outputs of this model \(qcd, top\), found 'w'"),
    "a class that is not there": ({"classes": {"top": "w"}}, SMALL, r"classes.top: .* \(qcd, top\), found 'w'"),
    "a number that is not there": ({"classes": {"top": 2}}, SMALL, r"classes.top: expected an output .*, found 2"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "model", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_does_not_fit_is_one_sentence(earlier, settings, model, message):
    spec = spec_of(model, init_from={"path": str(earlier), **settings})
    with pytest.raises(JetsweepError, match=message) as error:
        check_start(spec, ("qcd", "top"))
    assert "\n" not in str(error.value)


def test_sweeps_and_strange_files(tmp_path, earlier):
    (tmp_path / "sweep" / "trials").mkdir(parents=True)
    with pytest.raises(JetsweepError, match=r"is a sweep; expected one of its trials"):
        begin(tmp_path / "sweep", SMALL)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(JetsweepError, match=r"training.init_from: .*junk.pt"):
        begin(tmp_path / "junk.pt", LITE)
    published(tmp_path / "net.pt", 2)
    with pytest.raises(JetsweepError, match=r"published weights can be imported into part and particlenet, found PFN"):
        begin(tmp_path / "net.pt", SMALL)
    began, _ = begin(earlier / "checkpoints" / "best" / "model.safetensors", SMALL)
    assert torch.equal(
        began["network.phi.0.weight"], load_checkpoint(earlier).model.state_dict()["network.phi.0.weight"]
    )


def test_a_frozen_part_stays_and_the_rest_learns(earlier, data_root, tmp_path):
    spec = spec_of(SMALL, init_from=str(earlier), lr_factors={"network.phi.*": 0, "network.head.output.*": 10})
    result = train(spec, tmp_path, data_root)
    began, ended = load_checkpoint(earlier).model.state_dict(), load_checkpoint(tmp_path).model.state_dict()
    for name in began:
        assert torch.equal(began[name], ended[name]) == (not name.startswith("network.head.")), name
    head = sum(x.numel() for name, x in began.items() if name.startswith("network.head."))
    assert result.parameters == head


def test_frozen_batch_norms_keep_their_statistics():
    network = create_model(num_features=7, **LITE)
    freeze(network, {"blocks.*": 0, "input_norm.*": 0})
    training_mode(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network(torch.randn(6, 9, 7), torch.randn(6, 9, 2), torch.ones(6, 9, dtype=torch.bool))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.dropout.training


def test_a_resumed_run_equals_the_uninterrupted_one_even_without_the_source(earlier, data_root, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(earlier, source)
    settings = {"epochs": 2, "init_from": str(source), "lr_factors": {"network.phi.*": 0.1}}
    spec = spec_of({**SMALL, "f_dropout": 0.2}, **settings)
    train(spec, tmp_path / "whole", data_root)
    calls = iter(range(1000))
    first = train(spec, tmp_path / "parts", data_root, stop_requested=lambda: next(calls) == 3)
    assert first.stopped_because == "asked"
    shutil.rmtree(source)
    assert train(spec, tmp_path / "parts", data_root).stopped_because == "budget"
    for name in ("last", "best"):
        (a, _), (b, _) = (read_weights(tmp_path / run / "checkpoints" / name) for run in ("whole", "parts"))
        assert all(torch.equal(a[key], b[key]) for key in a)
    a, b = (read_state(tmp_path / run / "checkpoints" / "last")["optimizers"]["main"][0] for run in ("whole", "parts"))
    assert a["param_groups"] == b["param_groups"]
    assert all(torch.equal(a["state"][i][k], b["state"][i][k]) for i in a["state"] for k in a["state"][i])


def test_other_first_weights_are_another_trial(earlier, data_root, tmp_path):
    train(spec_of(SMALL, init_from=str(earlier)), tmp_path, data_root)
    with pytest.raises(JetsweepError, match=r"cannot continue, its training.init_from is .*, the experiment's is null"):
        train(spec_of(SMALL, epochs=2), tmp_path, data_root)


def test_statistics_come_with_the_weights(data_root, tmp_path):
    model = {**SMALL, "features": "atlas7"}
    train(spec_of(model, seed=1), tmp_path / "first", data_root)
    mean = load_checkpoint(tmp_path / "first").model.preprocessing.mean
    assert np.abs(mean.numpy()).max() > 0
    changed = spec_of(model, init_from=str(tmp_path / "first")).model_dump(mode="json")
    changed["data"]["train_fraction"] = 0.3  # whose statistics would be others
    train(TrialSpec.model_validate(changed), tmp_path / "second", data_root)
    assert torch.equal(load_checkpoint(tmp_path / "second").model.preprocessing.mean, mean)


def test_what_began_fresh_is_told(earlier, caplog):
    with caplog.at_level(logging.INFO, logger="jetsweep"):
        begin(earlier, SMALL, classes=("gluon", "quark"))
    assert "2 of its outputs begin fresh" in caplog.text
