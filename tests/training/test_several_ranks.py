"""Two processes train what one process trains."""

import json
import re

import pytest
import torch
import torch.distributed as dist

from jetsweep.training import TrialSpec, train
from jetsweep.training.checkpoint import read_weights
from jetsweep.training.history import read_history
from jetsweep.training.world import World

MODELS = {
    "pfn": {"name": "pfn", "phi_sizes": [16, 16], "f_sizes": [16]},
    "masked batch norm": {"name": "particlenet", "features": "kin"},
}


def _rank(rank, spec, workdir, data_root, rendezvous):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        train(TrialSpec.model_validate(spec), workdir, data_root, world=World(rank, 2, torch.device("cpu")))
    finally:
        dist.destroy_process_group()


def assert_same_curve(one, two, rel=1e-4):
    rows = read_history(one / "history.jsonl"), read_history(two / "history.jsonl")
    assert len(rows[0]) == len(rows[1]) > 0
    for a, b in zip(*rows):
        for name in ("train/loss", "val/loss"):
            assert a[name] == pytest.approx(b[name], rel=rel)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_ranks_equal_one(two_ranks, make_spec, data_root, tmp_path, accumulate):
    spec = make_spec(MODELS["pfn"], epochs=3, batch_size=96, accumulate=accumulate, ema_decay=0.9)
    train(spec, tmp_path / "one", data_root)
    args = (spec.model_dump(mode="json"), tmp_path / "two", data_root, tmp_path / "rendezvous")
    two_ranks(_rank, args)
    assert_same_curve(tmp_path / "one", tmp_path / "two")
    one, two = (json.loads((tmp_path / folder / "result.json").read_text()) for folder in ("one", "two"))
    assert one["test"]["test/auc"] == pytest.approx(two["test"]["test/auc"], abs=2e-3)
    weights = [read_weights(tmp_path / folder / "checkpoints" / "last")[0] for folder in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4)


def test_divergence_on_two_ranks_names_the_step(two_ranks, make_spec, data_root, tmp_path):
    spec = make_spec(MODELS["pfn"], optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"})
    args = (spec.model_dump(mode="json"), tmp_path / "two", data_root, tmp_path / "rendezvous")
    two_ranks(_rank, args)
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["stopped_because"] == "diverged"
    assert re.fullmatch(r"test: the training loss is not finite at step \d+; lower the .*", result["error"])
    (row,) = read_history(tmp_path / "two" / "history.jsonl")
    assert (row["stopped_because"], f"step {row['step']};" in result["error"]) == ("diverged", True)
