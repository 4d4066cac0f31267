"""The best epochs of a trial as one model."""

import json

import numpy as np
import pytest
import torch

from jetsweep.data.config import prepare
from jetsweep.errors import JetsweepError
from jetsweep.export.export import export_onnx
from jetsweep.models._ensemble import Ensemble, join_weights, mean_logits, num_members, split_weights
from jetsweep.models._jet_model import build_jet_model
from jetsweep.models.gn2 import TrackOutputs
from jetsweep.training import TrialSpec, load_checkpoint, train
from jetsweep.training import run as run_module
from jetsweep.training.best import MEMBERS, BestEpochs
from jetsweep.training.checkpoint import read_state, read_weights
from jetsweep.training.exploit import Exploit, snapshot_path, take
from jetsweep.training.history import read_history
from jetsweep.training.inference import evaluate_model
from jetsweep.training.loop import TrainingLoop
from jetsweep.training.progress import Progress

DROPOUT = {"name": "pfn", "phi_sizes": [16, 16], "f_sizes": [16], "latent_dropout": 0.2, "f_dropout": 0.2}
UNSTEADY = {"optimizer": {"name": "sgd", "lr": 0.3}, "schedule": {"name": "constant"}}
"""So that the best epochs are not simply the last ones."""


def best_rows(folder, number):
    return sorted(read_history(folder / "history.jsonl"), key=lambda row: row["val/loss"])[:number]


def kept_epochs(folder):
    return [row["epoch"] for row in read_state(folder / "checkpoints/best")[MEMBERS]]


def test_mean_of_probabilities_as_logits():
    torch.manual_seed(0)
    logits = 5 * torch.randn(4, 7, 3, dtype=torch.float64)
    found = mean_logits(list(logits)).double().softmax(-1)
    torch.testing.assert_close(found, logits.softmax(-1).mean(0), rtol=1e-5, atol=1e-7)
    single = torch.tensor([[[-60.0], [3.0], [90.0]], [[-62.0], [-1.0], [95.0]]])
    found, expected = mean_logits(list(single)).double(), single.double().sigmoid().mean(0)
    torch.testing.assert_close(found.sigmoid()[:2], expected[:2], rtol=1e-5, atol=0.0)
    torch.testing.assert_close((-found).sigmoid(), (-single.double()).sigmoid().mean(0), rtol=1e-4, atol=0.0)
    one = [torch.randn(5, 2)]
    torch.testing.assert_close(mean_logits(one).softmax(-1), one[0].softmax(-1))


def test_track_heads_are_averaged_too():
    torch.manual_seed(0)
    mask = torch.ones(2, 3, dtype=torch.bool)
    outputs = [TrackOutputs(torch.randn(2, 4), mask, torch.randn(2, 3, 8), torch.randn(2, 3, 3)) for _ in range(3)]
    members = [torch.nn.Module() for _ in outputs]
    for member, output in zip(members, outputs):
        member.forward = lambda output=output: output
    found = Ensemble(members)()
    mean = lambda values: torch.stack(values).mean(0)  # noqa: E731
    torch.testing.assert_close(found.logits.softmax(-1), mean([x.logits.softmax(-1) for x in outputs]))
    torch.testing.assert_close(found.origin.softmax(-1), mean([x.origin.softmax(-1) for x in outputs]))
    torch.testing.assert_close(found.same_vertex.sigmoid(), mean([x.same_vertex.sigmoid() for x in outputs]))
    assert found.tracks is mask


def test_weights_of_members_are_joined_and_split_again(make_spec):
    config = make_spec({**DROPOUT, "features": "atlas7"}).model
    states = [build_jet_model(config, 2, 16).state_dict() for _ in range(11)]
    joined = join_weights(states)
    assert num_members(joined) == 11
    build_jet_model(config, 2, 16, 11).load_state_dict(joined)
    for state, again in zip(states, split_weights(joined), strict=True):
        assert state.keys() == again.keys()
        assert all(torch.equal(state[name], again[name]) for name in state)
    assert join_weights(states[:1]) == dict(states[0])
    assert split_weights(states[0]) == [dict(states[0])]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_which_epochs_are_kept(make_spec, mode):
    monitor = {"metric": "val/auc", "mode": mode, "min_delta": 0.5}
    config = make_spec(ensemble_epochs=2, monitor=monitor).training
    best, progress, kept = BestEpochs(config, is_first=True), Progress(), []
    for epoch, value in enumerate([float("nan"), 0.3, 0.1, 0.2, 0.2, 0.0], start=1):
        row = {"epoch": epoch, "val/auc": value if mode == "min" else -value}
        assert best.take(row, best.improved(row, progress), lambda: {"w": torch.zeros(1)}) == (epoch != 5)
        kept.append([member.row["epoch"] for member in best.members])
    # nothing is worse than what is no number; the earlier one of two equal ones stays; small gains count
    assert kept == [[1], [2, 1], [3, 2], [3, 4], [3, 4], [6, 3]]


@pytest.mark.parametrize(
    ("output", "settings"),
    [("softmax", UNSTEADY), ("sigmoid", UNSTEADY), ("softmax", {"ema_decay": 0.5, "compile": False})],
    ids=["softmax", "sigmoid", "average"],
)
def test_the_trained_model_is_the_mean_of_its_best_epochs(make_spec, data_root, tmp_path, output, settings):
    model = {"name": "pfn", "phi_sizes": [16, 16], "f_sizes": [16], "binary_output": output}
    spec = make_spec(model, epochs=5, ensemble_epochs=3, snapshot_every=1, **settings)
    result = train(spec, tmp_path, data_root)
    rows = best_rows(tmp_path, 3)
    assert kept_epochs(tmp_path) == [row["epoch"] for row in rows]
    assert read_state(tmp_path / "checkpoints/best")[MEMBERS] == rows
    assert result.best == rows[0]

    dataset = prepare(spec.data, data_root)
    alone = [
        evaluate_model(load_checkpoint(snapshot_path(tmp_path, row["epoch"])), dataset, device=torch.device("cpu"))
        for row in rows
    ]
    expected = np.mean([arrays["probability"] for _, arrays, _ in alone], axis=0)
    loaded = load_checkpoint(tmp_path)
    metrics, arrays, _ = evaluate_model(loaded, dataset, device=torch.device("cpu"))
    np.testing.assert_allclose(arrays["probability"], expected, rtol=1e-5)
    p = expected[np.arange(len(expected)), arrays["label"]]
    assert metrics["test/loss"] == pytest.approx(-np.log(p).mean(), rel=1e-5)
    assert metrics["test/loss"] < np.mean([values["test/loss"] for values, _, _ in alone])
    assert metrics == result.test
    with np.load(tmp_path / "evaluation/test.npz") as stored:
        np.testing.assert_array_equal(stored["probability"], arrays["probability"])
    number = sum(p.numel() for p in loaded.model.network.parameters())
    assert (
        result.parameters
        == number
        == 3 * sum(p.numel() for p in load_checkpoint(tmp_path / "checkpoints/last").model.network.parameters())
    )


def test_fewer_epochs_than_asked_for(make_spec, data_root, tmp_path):
    result = train(make_spec(epochs=1, ensemble_epochs=10), tmp_path, data_root)
    assert kept_epochs(tmp_path) == [1]
    assert not isinstance(load_checkpoint(tmp_path).model.network, Ensemble)
    assert train(make_spec(epochs=2, ensemble_epochs=10), tmp_path, data_root).parameters == 2 * result.parameters
    assert sorted(kept_epochs(tmp_path)) == [1, 2]
    with pytest.raises(JetsweepError, match=r"its training.ensemble_epochs is 10, the experiment's is 2"):
        train(make_spec(epochs=3, ensemble_epochs=2), tmp_path, data_root)


def test_an_export_is_the_ensemble(make_spec, data_root, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    spec = make_spec(epochs=2, ensemble_epochs=2)
    train(spec, tmp_path, data_root)
    loaded = load_checkpoint(tmp_path)
    assert isinstance(loaded.model.network, Ensemble)
    exported = export_onnx(loaded, prepare(spec.data, data_root), tmp_path / "model.onnx", num_jets=60)
    assert exported.agreement.maximum < 1e-5


class Killed(BaseException):
    pass


def assert_same_checkpoints(one, two):
    for name in ("last", "best"):
        weights = [read_weights(folder / "checkpoints" / name)[0] for folder in (one, two)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    members = [read_state(folder / "checkpoints/best")[MEMBERS] for folder in (one, two)]
    for row in members[0] + members[1]:
        del row["time/epoch_s"]
    assert members[0] == members[1]
    tests = [json.loads((folder / "result.json").read_text())["test"] for folder in (one, two)]
    assert tests[0] == tests[1] != {}


@pytest.fixture(scope="module")
def whole(make_spec, data_root, tmp_path_factory):
    """A spec, and the folder of a trial that nothing interrupted."""
    spec = make_spec(DROPOUT, epochs=5, ensemble_epochs=2, ema_decay=0.5, checkpoint_every_steps=2, **UNSTEADY)
    folder = tmp_path_factory.mktemp("whole")
    train(spec, folder, data_root)
    return spec, folder


@pytest.mark.parametrize("interrupted_at", [7, 10, 18])
def test_resumed_members_are_bitwise_those_of_the_uninterrupted_run(whole, data_root, tmp_path, interrupted_at):
    spec, uninterrupted = whole
    calls = iter(range(1000))
    stopped = train(spec, tmp_path, data_root, stop_requested=lambda: next(calls) == interrupted_at)
    assert stopped.stopped_because == "asked"
    train(spec, tmp_path, data_root)
    assert_same_checkpoints(uninterrupted, tmp_path)


@pytest.mark.parametrize("epoch", [1, 2, 3, 5])
def test_a_kill_between_best_and_last(whole, data_root, tmp_path, monkeypatch, epoch):
    spec, uninterrupted = whole
    save_last = TrainingLoop._save_last

    def killed(loop):
        if loop.progress.step == 5 * epoch:
            raise Killed
        save_last(loop)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_save_last", killed)
        with pytest.raises(Killed):
            train(spec, tmp_path, data_root)
    folder = tmp_path / "checkpoints/best"
    folder.rename(folder.with_name("best.old"))  # as a kill in the middle of replacing it leaves it
    train(spec, tmp_path, data_root)
    assert_same_checkpoints(uninterrupted, tmp_path)


def test_out_of_memory_in_the_middle(make_spec, data_root, tmp_path, monkeypatch):
    spec = make_spec(DROPOUT, epochs=4, ensemble_epochs=3, on_out_of_memory="halve", batch_size=96)
    evaluate, calls = run_module.TrainingLoop._finish_epoch, iter(range(100))

    def fails(loop, history):
        if next(calls) == 2:
            raise torch.OutOfMemoryError("once")
        return evaluate(loop, history)

    monkeypatch.setattr(run_module.TrainingLoop, "_finish_epoch", fails)
    assert train(spec, tmp_path, data_root).accumulate == 2
    assert kept_epochs(tmp_path) == [row["epoch"] for row in best_rows(tmp_path, 3)]


def test_what_a_trial_takes_from_another_leaves_its_own_members(make_spec, data_root, tmp_path):
    def spec(lr):
        return make_spec(epochs=4, ensemble_epochs=3, snapshot_every=1, optimizer={"name": "adam", "lr": lr})

    donor, mine = tmp_path / "donor", tmp_path / "mine"
    train(spec(1e-2), donor, data_root)
    train(spec(1e-3), mine, data_root, lambda row, _: row["epoch"] == 2)
    before = dict(zip(kept_epochs(mine), split_weights(read_weights(mine / "checkpoints/best")[0]), strict=True))
    take(mine, Exploit(2, 1, str(snapshot_path(donor, 2))), spec(5e-3))
    train(spec(5e-3), mine, data_root)
    after = dict(zip(kept_epochs(mine), split_weights(read_weights(mine / "checkpoints/best")[0]), strict=True))
    assert list(after) == [row["epoch"] for row in best_rows(mine, 3)]
    own = [epoch for epoch in after if epoch <= 2]
    assert own  # three of four
    for epoch in own:
        assert all(torch.equal(before[epoch][name], value) for name, value in after[epoch].items())


def _rank(rank, spec, workdir, data_root, rendezvous):
    import torch.distributed as dist

    from jetsweep.training.world import World

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        result = train(TrialSpec.model_validate(spec), workdir, data_root, world=World(rank, 2, torch.device("cpu")))
        (workdir / f"parameters-{rank}").write_text(str(result.parameters))
    finally:
        dist.destroy_process_group()


def test_two_ranks_keep_what_one_keeps(two_ranks, make_spec, data_root, tmp_path):
    spec = make_spec(epochs=3, ensemble_epochs=2)
    one = train(spec, tmp_path / "one", data_root)
    args = (spec.model_dump(mode="json"), tmp_path / "two", data_root, tmp_path / "rendezvous")
    two_ranks(_rank, args)
    assert kept_epochs(tmp_path / "one") == kept_epochs(tmp_path / "two")
    two = json.loads((tmp_path / "two/result.json").read_text())
    assert two["test"]["test/loss"] == pytest.approx(one.test["test/loss"], rel=1e-4)
    assert {(tmp_path / f"two/parameters-{rank}").read_text() for rank in (0, 1)} == {str(one.parameters)}
    weights = [read_weights(tmp_path / folder / "checkpoints/best")[0] for folder in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4)


def test_an_ensemble_is_no_start_of_a_fine_tuning(make_spec, data_root, tmp_path):
    train(make_spec(epochs=2, ensemble_epochs=2), tmp_path / "first", data_root)
    with pytest.raises(JetsweepError, match="found an ensemble of 2 epochs; name the trial's checkpoints/last"):
        train(make_spec(epochs=1, init_from=str(tmp_path / "first")), tmp_path / "second", data_root)
    last = str(tmp_path / "first/checkpoints/last")
    assert train(make_spec(epochs=1, init_from=last), tmp_path / "third", data_root).epoch == 1
