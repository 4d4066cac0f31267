"""Tasks with two phases or two streams, accumulation, schedules and optimizers."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from jetsweep.data.batch import Batch
from jetsweep.errors import JetsweepError
from jetsweep.tasks._base import Evaluator, Phase, Task
from jetsweep.training import train
from jetsweep.training.checkpoint import read_state, read_weights
from jetsweep.training.config import CosineConfig, FlatDecayConfig, OneCycleConfig, RangerConfig
from jetsweep.training.history import read_history
from jetsweep.training.loop import TrainingLoop
from jetsweep.training.optimizers import build_optimizers, decays, freeze
from jetsweep.training.reporter import silent
from jetsweep.training.schedules import learning_rate_factor
from jetsweep.training.world import World


class InMemory:
    """A loader of fixed numbers."""

    def __init__(self, rows, batch_size, seed=0):
        self.x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
        self.batch_size, self.num_rows, self.num_steps = batch_size, rows, rows // batch_size

    def batches(self, epoch, start_step=0):
        order = np.random.default_rng(epoch).permutation(self.num_rows)
        for step in range(start_step, self.num_steps):
            rows = torch.from_numpy(order[step * self.batch_size : (step + 1) * self.batch_size])
            yield Batch({}, {"x": self.x[rows]}, {}, None, rows)


class MeanSquare(Evaluator):
    def __init__(self):
        self.values = []

    def update(self, outputs, batch):
        self.values.append(outputs.detach().square().mean(1).numpy())

    def compute(self, gather):
        return {"loss": float(gather(np.concatenate(self.values)).mean())}

    def arrays(self):
        return {}


class ToyTask(Task):
    def __init__(self, config=None, classes=()):
        self.config, self.calls = config, []

    def num_outputs(self, binary_output):
        return 1

    def loss(self, outputs, batch):
        loss = (outputs - 1).square().mean()
        return loss, {"loss": loss.detach()}

    def evaluator(self):
        return MeanSquare()

    @classmethod
    def metrics_of(cls, config):
        return ("loss",)

    def figures(self, arrays):
        return {}


class TwoPhases(ToyTask):
    phases = (
        Phase("critic", lambda name: name.startswith("critic")),
        Phase("generator", lambda name: name.startswith("generator"), every=2),
    )

    def training_loss(self, phase, module, batches):
        self.calls.append(phase)
        made, real = module.generator(batches["main"].scalars["x"]), batches["main"].scalars["x"] + 2
        if phase == "critic":
            loss = module.critic(made.detach()).mean() - module.critic(real).mean()
        else:
            loss = -module.critic(made).mean()
        return loss, {"loss": loss.detach()}


class TwoStreams(ToyTask):
    streams: ClassVar = ("main", "outliers")

    def training_loss(self, phase, module, batches):
        self.calls.append(len(batches["outliers"]))
        inliers, outliers = module(batches["main"]), module(batches["outliers"])
        loss = (inliers - 1).square().mean() + outliers.square().mean()
        return loss, {"loss": loss.detach()}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.generator, self.critic = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, batch):
        return self.critic(self.generator(batch.scalars["x"]))


def make_loop(task, spec, workdir, stop_requested=None, batch_size=16):
    micro = spec.training.batch_size // spec.training.accumulate
    loaders = {name: InMemory(80 if name == "main" else 48, micro, len(name)) for name in task.streams}
    return TrainingLoop(
        Net(), task, loaders, InMemory(32, 16, 9), spec, workdir, silent, World.alone("cpu"), ("a", "b"), stop_requested
    )


def test_two_phases_alternate_and_update_only_their_own(make_spec, tmp_path):
    spec = make_spec(epochs=2, batch_size=16, optimizer={"name": "sgd", "lr": 0.01, "momentum": 0.0})
    task = TwoPhases()
    loop = make_loop(task, spec, tmp_path)
    before = {name: value.clone() for name, value in loop.model.state_dict().items()}
    loop.run()
    assert task.calls == ["critic", "generator", "critic"] * 5
    assert task.calls.count("critic") == 10
    assert task.calls.count("generator") == 5
    after = loop.model.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in ("critic.weight", "generator.weight"))
    assert all(p.requires_grad for p in loop.model.parameters())
    row = read_history(tmp_path / "history.jsonl")[0]
    assert {"train/critic/loss", "train/generator/loss"} <= row.keys()


@pytest.mark.parametrize("task", [TwoPhases, TwoStreams])
def test_phases_and_streams_resume_bitwise(make_spec, tmp_path, task):
    spec = make_spec(epochs=3, batch_size=16, optimizer={"name": "adam"}, accumulate=2)
    make_loop(task(), spec, tmp_path / "whole").run()
    calls = iter(range(100))
    assert make_loop(task(), spec, tmp_path / "parts", lambda: next(calls) == 7).run() == "asked"
    make_loop(task(), spec, tmp_path / "parts").run()
    whole, parts = (read_weights(tmp_path / folder / "checkpoints" / "last")[0] for folder in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_second_stream_has_its_own_length(make_spec, tmp_path):
    task = TwoStreams()
    make_loop(task, make_spec(epochs=2, batch_size=16), tmp_path).run()
    assert task.calls == [16] * 10


def test_accumulation_equals_the_big_batch(make_spec, data_root, tmp_path):
    rows = []
    for accumulate in (1, 4):
        spec = make_spec(epochs=2, batch_size=96, accumulate=accumulate, optimizer={"name": "sgd", "lr": 1e-3})
        folder = tmp_path / str(accumulate)
        train(spec, folder, data_root)
        rows.append((read_weights(folder / "checkpoints" / "last")[0], read_history(folder / "history.jsonl")))
    for name, value in rows[0][0].items():
        torch.testing.assert_close(value, rows[1][0][name], rtol=1e-3, atol=1e-4)
    for one, four in zip(rows[0][1], rows[1][1]):
        assert one["train/loss"] == pytest.approx(four["train/loss"], rel=1e-5)


def test_flat_decay_is_the_published_recipe():
    factors = [learning_rate_factor(FlatDecayConfig(), epoch * 5, 5, 20) for epoch in range(20)]
    assert factors[:14] == [1.0] * 14
    assert factors[14:] == pytest.approx([0.01 ** (k / 6) for k in range(1, 7)])


def test_cosine_and_one_cycle_ends():
    cosine = [learning_rate_factor(CosineConfig(warmup_epochs=1, final_factor=0.1), s, 10, 5) for s in range(51)]
    assert cosine[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert cosine[10] == 1.0
    assert cosine[50] == pytest.approx(0.1)
    cycle = [learning_rate_factor(OneCycleConfig(), s, 10, 10) for s in range(100)]
    assert (cycle[0], cycle[40]) == pytest.approx((0.1, 1.0))
    assert (cycle[80], cycle[99]) == pytest.approx((0.1, 1e-3))


def test_ranger_against_a_small_numpy_loop():
    """RAdam (arXiv:1908.03265) and Lookahead (arXiv:1907.08610) from their papers' formulas."""
    parameter = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    (optimizer,) = build_optimizers(RangerConfig(lr=0.1), [("weight", parameter)])
    x = np.array([1.0, -2.0])
    slow, m, v, (b1, b2), rho_inf = x.copy(), 0.0, 0.0, (0.95, 0.999), 2 / (1 - 0.999) - 1
    for t in range(1, 21):
        parameter.grad = parameter.detach() * 2 + 0.5
        optimizer.step()
        g = 2 * x + 0.5
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            x = x - 0.1 * m / (1 - b1**t) * r * np.sqrt(1 - b2**t) / (np.sqrt(v) + 1e-5)
        else:
            x = x - 0.1 * m / (1 - b1**t)
        if t % 6 == 0:
            slow = slow + 0.5 * (x - slow)
            x = slow.copy()
    np.testing.assert_allclose(parameter.detach().numpy()[0], x, rtol=1e-10)


def test_decay_spares_biases_norms_and_tokens():
    matrix, vector = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))
    assert decays("network.linear.weight", matrix)
    assert not decays("network.linear.bias", vector)
    assert not decays("network.cls_token", matrix)


def test_patterns_scale_and_freeze():
    net = Net()
    freeze(net, {"generator.*": 0.0, "critic.*": 50.0})
    assert not net.generator.weight.requires_grad
    (optimizer,) = build_optimizers(
        RangerConfig(lr=1e-4), [(n, p) for n, p in net.named_parameters() if p.requires_grad], {"critic.*": 50.0}
    )
    assert {group["peak_lr"] for group in optimizer.param_groups} == {50.0 * 1e-4}
    with pytest.raises(JetsweepError, match="matches no parameter"):
        freeze(net, {"haed.*": 1.0})


def test_progress_of_a_checkpoint_is_plain_data(make_spec, data_root, tmp_path):
    train(make_spec(epochs=1), tmp_path, data_root)
    assert read_state(tmp_path / "checkpoints" / "last")["progress"]["step"] == 5
