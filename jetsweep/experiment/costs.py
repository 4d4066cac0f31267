"""What an experiment costs, measured before it runs: parameters, arithmetic, memory, seconds per step."""

# Shapes: B jets, N constituents of all jets, F columns, P slots.

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jetsweep.data.batch import Batch, Ragged
from jetsweep.data.derived import derived_group
from jetsweep.models._jet_model import JetModel, build_jet_model
from jetsweep.tasks._base import Task, build_task
from jetsweep.training.evaluate import autocast
from jetsweep.training.optimizers import build_optimizers, freeze, num_trainable

if TYPE_CHECKING:
    from jetsweep.experiment.schema import Experiment

MEAN_CONSTITUENTS = 50
"""Constituents of a typical jet of the datasets that jetsweep reads, for timing."""
PROBE_JETS = 32
"""Jets of the first timed step."""
LONGEST_STEP_S = 2.0
"""A whole batch is only timed where it is expected to take no longer than this."""
LONG_CALL_S = 1.0
"""A call that takes longer is timed once: beside it, what a first call has to set up is small."""


@dataclass(frozen=True)
class Cost:
    """What one configuration costs on this machine.

    Parameters
    ----------
    parameters : int
        Trainable parameters of the trained model: of the network, times the epochs of an ensemble.
    macs : int
        Multiply-accumulates of one jet's forward pass with `slots` real constituents (half the counted FLOPs), through
        all epochs of an ensemble.
    slots : int
        Constituents of that jet: `data.max_constituents`.
    memory_bytes : int
        Weights, gradients, optimizer state, and what backward keeps of one micro-batch on one worker.
    step_s : float
        Seconds of an optimizer step (forward, backward, update) of the whole batch.
    timed_jets : int
        Jets of the step that was timed; `step_s` is scaled from it.
    forward_s : float
        Seconds of one jet's forward pass in evaluation after an epoch, so through one network.
    """

    parameters: int
    macs: int
    slots: int
    memory_bytes: int
    step_s: float
    timed_jets: int
    forward_s: float

    def epoch_s(self, train_jets: int, val_jets: int, batch_size: int, steps: int | None = None) -> float:
        """Seconds of one epoch with its validation."""
        num_steps = steps if steps is not None else max(train_jets // batch_size, 1)
        return num_steps * self.step_s + val_jets * self.forward_s


def count_parameters(experiment: Experiment, classes: Sequence[str]) -> int:
    """Trainable parameters of the model that an experiment trains, without filling any memory; see `Cost`."""
    with torch.device("meta"):
        model, _ = _build(experiment, classes)
    training = experiment.training
    freeze(model, training.lr_factors)
    return num_trainable(model.network) * training.num_members(training.epochs)


def measure(experiment: Experiment, classes: Sequence[str], device: torch.device) -> Cost:
    """Build a network, take real training steps on synthetic jets, and weigh them.

    Parameters
    ----------
    experiment : Experiment
    classes : sequence of str
        Of the dataset.
    device : torch.device

    Raises
    ------
    JetsweepError
        If task, model and features do not fit together.
    """
    config = experiment.training
    torch.manual_seed(experiment.seed)
    model, task = _build(experiment, classes)
    model.to(device)
    freeze(model, config.lr_factors)
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    optimizers = build_optimizers(config.optimizer, trainable, config.lr_factors)
    slots = experiment.data.max_constituents

    def step(batches: dict[str, Batch]) -> None:
        for phase in task.phases:
            with autocast(config.precision, device):
                loss, _ = task.training_loss(phase.name, model, batches)
            loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    model.eval()
    macs = _macs(model, toy_batch(model, task, len(classes), 4, slots, slots).to(device)) // 4
    model.train()
    jets = _toy_batches(model, task, len(classes), PROBE_JETS, slots, device)
    kept_bytes = _kept_for_backward(model, task, jets)
    step(jets)
    seconds, timed = _seconds(lambda: step(jets), device), PROBE_JETS
    if config.accumulate == 1 and seconds * config.batch_size / PROBE_JETS <= LONGEST_STEP_S:
        # a small network's step is mostly overhead: scaling up a few jets would be wrong
        whole = _toy_batches(model, task, len(classes), config.batch_size, slots, device)
        seconds, timed = _seconds(lambda: step(whole), device), config.batch_size
    model.eval()
    with torch.no_grad():
        forward_s = _seconds(lambda: model(jets["main"]), device) / PROBE_JETS
    micro_batch = config.batch_size / config.accumulate / experiment.resources.workers
    state_bytes = sum(_bytes(p) * 2 for _, p in trainable) + sum(_state_bytes(o) for o in optimizers)
    num_members = config.num_members(config.epochs)
    return Cost(
        parameters=num_trainable(model.network) * num_members,
        macs=macs * num_members,
        slots=slots,
        memory_bytes=int(state_bytes + kept_bytes / PROBE_JETS * micro_batch),
        step_s=seconds * config.batch_size / timed,
        timed_jets=timed,
        forward_s=forward_s,
    )


def _build(experiment: Experiment, classes: Sequence[str]) -> tuple[JetModel, Task]:
    task = build_task(experiment.task, classes)
    num_outputs = task.num_outputs(experiment.model.binary_output)
    return build_jet_model(experiment.model, num_outputs, experiment.data.max_constituents), task


def toy_batch(model: JetModel, task: Task, num_classes: int, size: int, mean_constituents: int, slots: int) -> Batch:
    """Jets with the columns that a model reads, at random around 600 GeV; not physics, only of its shape.

    Parameters
    ----------
    model : JetModel
    task : Task
    num_classes : int
    size : int
        Jets B.
    mean_constituents : int
        Every jet has this many if it is `slots`, else the numbers scatter around it.
    slots : int
        Most constituents of a jet.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    lengths_B = (mean_constituents * (1 + 0.35 * normal(size))).round().long().clamp(3, slots)
    if mean_constituents >= slots:
        lengths_B = torch.full((size,), slots)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths_B.cumsum(0)])
    num = int(offsets[-1])
    pt_N = torch.exp(1.7 + normal(num))
    eta_N, phi_N = 0.3 * normal(num), 0.3 * normal(num)
    known = {
        "px": pt_N * phi_N.cos(),
        "py": pt_N * phi_N.sin(),
        "pz": pt_N * eta_N.sinh(),
        "energy": pt_N * eta_N.cosh(),
        "pdg_id": torch.full((num,), 211.0),
        "charge": torch.ones(num),  # all are tracks, the dearest case
    }
    columns = (*model.preprocessing.constituent_columns, *task.constituents)
    groups = {}
    if columns:
        values_NF = torch.stack([known.get(name, torch.zeros(num)) for name in columns], dim=-1)
        groups["constituents"] = Ragged(values_NF, offsets, columns)
    for name in model.preprocessing.group_columns:
        derived = derived_group(name)
        assert derived is not None, name
        p4_N4 = torch.stack([known[x] for x in ("px", "py", "pz", "energy")], dim=-1)
        entries, starts = map(torch.from_numpy, derived.make(p4_N4.numpy(), offsets.numpy()))
        groups[name] = Ragged(entries, starts, derived.columns)
    scalars = {name: normal(size).abs() + 1 for name in (*model.preprocessing.scalar_columns, *task.scalars)}
    label_B = torch.arange(size) % num_classes
    return Batch(groups, scalars, {"label": label_B}, None, torch.arange(size))


def _toy_batches(
    model: JetModel, task: Task, num_classes: int, size: int, slots: int, device: torch.device
) -> dict[str, Batch]:
    """A step's batches: `size` jets of `main`, of another stream as many as there are for each of those."""

    def batch(name: str) -> Batch:
        jets = size if name == "main" else max(1, round(task.stream(name).ratio * size))
        return toy_batch(model, task, num_classes, jets, MEAN_CONSTITUENTS, slots).to(device)

    return {name: batch(name) for name in task.streams}


def _macs(model: JetModel, batch: Batch) -> int:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # the counter's module hooks fail on parameters that want a gradient in a context without any
    model = copy.deepcopy(model).requires_grad_(False)
    # the fused attention of CPUs is unknown to the counter, its matrix products are not
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(batch)
    return int(counter.get_total_flops()) // 2


def _kept_for_backward(model: JetModel, task: Task, batches: dict[str, Batch]) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        loss, _ = task.training_loss(task.phases[0].name, model, batches)
        # the graph must live until here: a freed storage's address is used again
        total = sum(kept.values())
        del loss
    return total


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def _state_bytes(optimizer: Any) -> int:
    return sum(_bytes(x) for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor))


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Median of three calls after a warm one; a long call is not repeated."""
    times: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
        if times[0] > LONG_CALL_S:
            return times[0]
    return sorted(times[1:])[1]
