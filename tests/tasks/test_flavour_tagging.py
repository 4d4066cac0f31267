"""Auxiliary track tasks end to end on toy jets whose b has a vertex of its own."""

import pytest
import torch

from jetsweep.data.config import DataConfig, prepare
from jetsweep.errors import ExperimentError
from jetsweep.experiment import load_experiment
from jetsweep.losses.tracks import true_pairs
from jetsweep.models import MODELS, create_model
from jetsweep.models.gn2 import TrackOutputs
from jetsweep.tasks.flavour_tagging import FlavourTagging, FlavourTaggingConfig, geometric_mean, track_targets
from jetsweep.testing.toys import toy_inputs
from jetsweep.training.config import TrialSpec
from jetsweep.training.history import read_history
from jetsweep.training.run import train

SMALL = {"width": 32, "output_width": 32, "num_layers": 2, "num_heads": 4, "hidden": 64, "head_sizes": (32,)}
SOURCE = {"name": "toy", "jets": 800, "seed": 1, "tracks": True, "truth": True}


def spec_of():
    return TrialSpec.model_validate(
        {
            "name": "gn2",
            "task": {"name": "flavour-tagging", "signal": "top"},
            "data": {"source": SOURCE, "max_constituents": 16},
            "model": {"name": "gn2", "track_heads": True, "dropout": 0.0, **SMALL},
            "training": {"epochs": 20, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 5e-3}},
        }
    )


def entropy(share):
    return float(-share * share.log() - (1 - share) * (1 - share).log())


def test_tracks_are_learned(tmp_path):
    """Better than any constant answer, which knows four in five tracks to be primary."""
    spec = spec_of()
    result = train(spec, tmp_path / "trial", tmp_path / "data")
    last = read_history(tmp_path / "trial" / "history.jsonl")[-1]
    dataset = prepare(spec.data, tmp_path / "data")
    columns = ("px", "py", "pz", "energy", "charge", "origin", "vertex")
    loader = dataset.loader("train", 10_000, constituents=columns, max_constituents=spec.data.max_constituents)
    batch = next(iter(loader.batches(0)))
    origin_BP, vertex_BP = track_targets(batch, 16)
    charge_BP = batch.groups["constituents"].pad(16)[0][..., 4]
    primary = (origin_BP[charge_BP != 0] == 2).double().mean()
    assert last["train/origin_loss"] < 0.75 * entropy(primary)
    pair_BPP, same_BPP = true_pairs(vertex_BP, charge_BP != 0)
    share = same_BPP.sum().double() / pair_BPP.sum()
    # pairs of two b tracks count twice, which makes a constant answer dearer still
    assert last["train/vertex_loss"] < 0.75 * entropy(share) / share
    assert result.test["test/auc"] > 0.9


def test_geometric_mean_has_the_gradient_of_the_product():
    losses = [torch.tensor(x, requires_grad=True) for x in (0.3, 2.0, 0.7)]
    mean = geometric_mean(*losses)
    assert mean.item() == pytest.approx((0.3 * 2.0 * 0.7) ** (1 / 3), rel=1e-6)
    mean.backward()
    for loss in losses:
        assert loss.grad.item() == pytest.approx(mean.item() / (3 * loss.item()), rel=1e-6)


def test_the_task_reads_its_columns_and_the_model_its_own(tmp_path):
    data = DataConfig.model_validate({"source": SOURCE, "max_constituents": 40})
    dataset = prepare(data, tmp_path)
    columns = ("px", "py", "pz", "energy", "charge")
    batch = next(iter(dataset.loader("train", 16, constituents=(*columns, "origin", "vertex")).batches(0)))
    origin_BP, vertex_BP = track_targets(batch, 40)
    real_BP = torch.arange(40) < batch.groups["constituents"].lengths[:, None]
    assert set(origin_BP[real_BP].tolist()) == {2, 3}
    assert torch.equal(origin_BP[real_BP] == 3, vertex_BP[real_BP] == 1)
    assert (origin_BP[~real_BP] == -1).all()


@pytest.mark.parametrize("name", ["gn2", "gn2x"])
def test_track_heads(name):
    """The order of tracks permutes their outputs, and pairs left out or computed in full agree."""
    network = create_model(name, 19, 2, track_heads=True, dropout=0.0, **SMALL).eval()
    tensors, _, _ = toy_inputs(MODELS.get(name).config(), network.inputs, num_jets=4, num_slots=16)
    outputs = network(**tensors)
    assert isinstance(outputs, TrackOutputs)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**tensors), outputs, atol=1e-5, rtol=1e-5)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = network(**{key: x[:, order] for key, x in tensors.items()})
    torch.testing.assert_close(shuffled.logits, outputs.logits, atol=1e-5, rtol=1e-5)
    track_BP = outputs.tracks[:, order]
    torch.testing.assert_close(shuffled.origin[track_BP], outputs.origin[:, order][track_BP], atol=1e-5, rtol=1e-5)
    expected = outputs.same_vertex[:, order][:, :, order]
    torch.testing.assert_close(shuffled.same_vertex, expected, atol=1e-5, rtol=1e-5)
    assert expected.abs().sum() > 0


def test_number_of_vertices():
    tracks = torch.tensor([[True, True, True, False, True], [True, False, False, False, False]])
    same = torch.full((2, 5, 5), -1.0)
    same[0, 0, 1] = same[0, 2, 4] = 1.0
    same[:, 3] = 1.0  # no track
    outputs = TrackOutputs(torch.zeros(2, 2), tracks, torch.zeros(2, 5, 8), same)
    task = FlavourTagging(FlavourTaggingConfig(), ("qcd", "top"))
    assert task.predictions(outputs)["num_vertices"].tolist() == [2, 0]


FILE = """
name: x
task: {{name: {task}, signal: top}}
data: {{source: {{name: toy, jets: 100, tracks: true, truth: true}}}}
model: {{name: {model}{heads}}}
"""


@pytest.mark.parametrize(
    ("task", "model", "heads", "message"),
    [
        ("flavour-tagging", "pfn", "", "expects gn2 or gn2x with track_heads: true, found pfn"),
        ("flavour-tagging", "gn2", "", "expects gn2 or gn2x with track_heads: true, found gn2 without"),
        ("tagging", "gn2", ", track_heads: true", "expected false beside task tagging"),
    ],
)
def test_task_and_model_must_fit(tmp_path, task, model, heads, message):
    file = tmp_path / "x.yaml"
    file.write_text(FILE.format(task=task, model=model, heads=heads))
    with pytest.raises(ExperimentError, match=message):
        load_experiment(file)
