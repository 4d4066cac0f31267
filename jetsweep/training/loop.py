"""The training loop: phases, streams, precision, accumulation, moving average, early stopping, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jetsweep.data.batch import Batch
from jetsweep.errors import JetsweepError
from jetsweep.tasks._base import Phase, Task
from jetsweep.training.best import BestEpochs
from jetsweep.training.checkpoint import load_weights, read_state, read_weights, recover, save_checkpoint
from jetsweep.training.config import TrainingConfig, TrialSpec
from jetsweep.training.disk import PatientDisk
from jetsweep.training.ema import MovingAverage
from jetsweep.training.evaluate import Batches, autocast, evaluate
from jetsweep.training.exploit import keep_snapshot
from jetsweep.training.history import History
from jetsweep.training.optimizers import build_optimizers, training_mode
from jetsweep.training.progress import Asked, Diverged, Progress
from jetsweep.training.random_state import random_state, seed_everything, set_random_state
from jetsweep.training.reporter import Metrics, Reporter
from jetsweep.training.schedules import learning_rate_factor
from jetsweep.training.streams import joint_steps, open_streams
from jetsweep.training.world import World

_STEPS_BETWEEN_CHECKS = 20
"""On a GPU, where looking at the loss waits for the device; on a CPU every step is checked."""


class TrainingLoop:
    """Trains one model on one task.

    Parameters
    ----------
    model : nn.Module
        On the world's device, the same on all ranks; called with a `Batch`.
    task : Task
    train : mapping of str to Batches
        A loader for each of the task's streams, of ``batch_size / accumulate`` jets, ``drop_last=True``.
    val : Batches
        Validation split.
    spec : TrialSpec
    workdir : Path
    reporter : Reporter
    world : World
    classes : tuple of str
        Stored with the weights.
    stop_requested : callable, optional
        Asked between steps on every rank; True on any makes all save `last` and return.
    systematics : callable, optional
        See `SystematicsWhileTraining`: further metrics of a split.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        train: Mapping[str, Batches],
        val: Batches,
        spec: TrialSpec,
        workdir: Path,
        reporter: Reporter,
        world: World,
        classes: tuple[str, ...],
        stop_requested: Callable[[], bool] | None = None,
        systematics: Callable[..., dict[str, float]] = lambda *_: {},
    ) -> None:
        self.model, self.task, self.val, self.spec, self.world = model, task, val, spec, world
        self.config: TrainingConfig = spec.training
        self.workdir, self.reporter, self.classes = workdir, reporter, classes
        self.stop_requested, self.systematics = stop_requested, systematics
        self.disk = PatientDisk(stop_requested)
        self.streams = open_streams(train, self.config.batch_size, self.config.accumulate, world)
        self.steps_per_epoch = self.config.steps_per_epoch or self.streams["main"].num_steps
        self.total_steps = self.steps_per_epoch * self.config.epochs
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.parameters = {
            phase.name: [(name, p) for name, p in named if phase.parameters(name)] for phase in task.phases
        }
        self.optimizers = {
            name: build_optimizers(self.config.optimizer, members, self.config.lr_factors)
            for name, members in self.parameters.items()
        }
        self._peaks = {
            name: [[group["peak_lr"] for group in optimizer.param_groups] for optimizer in optimizers]
            for name, optimizers in self.optimizers.items()
        }
        fp16 = self.config.precision == "fp16"
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=fp16)
        self.average = MovingAverage(model, self.config.ema_decay) if self.config.ema_decay else None
        self.best_epochs = BestEpochs(self.config, world.is_first)
        self.progress = Progress()
        self._saved = Progress()
        self.lr = 0.0
        self._sums: dict[str, Tensor] = {}
        self._bad_step = torch.full((), math.inf, dtype=torch.float64, device=world.device)

    @property
    def last(self) -> Path:
        """Folder of the newest checkpoint."""
        return self.workdir / "checkpoints" / "last"

    @property
    def best(self) -> Path:
        """Folder of the checkpoint of the best epoch or epochs."""
        return self.workdir / "checkpoints" / "best"

    @property
    def completed_epochs(self) -> int:
        """Whole epochs done."""
        return self.progress.step // self.steps_per_epoch

    def run(self, resume: bool = True) -> Literal["budget", "patience", "diverged", "asked"]:
        """Train until the budget, the patience, the reporter or a NaN ends it; returns which."""
        seed_everything(self.spec.seed, self.world.rank)
        if self.world.is_first:
            recover(self.best)
        if resume and self.world.from_first(self.world.is_first and recover(self.last)):
            self._restore()
        history = self._open_history()
        progress = self.progress
        if progress.stopped_because == "patience":
            return "patience"
        progress.stopped_because = ""
        try:
            with closing(joint_steps(self.streams, progress.step)) as steps:  # type: ignore[type-var]
                while progress.step < self.total_steps:
                    self._train_epoch(steps)
                    if self._finish_epoch(history):
                        return self._stopped()
                    if progress.stopped_because == "patience":
                        return "patience"
        except Asked:
            self._save_last()
            return self._stopped()
        except Diverged as error:
            self._report_divergence(error, history)
            raise
        progress.stopped_because = "budget"
        return "budget"

    def _open_history(self) -> History | None:
        """The file of metrics, cut back to the checkpoint that training continues from; on rank 0."""
        opened: list[History] = []
        if self.world.is_first:
            path, keep = self.workdir / "history.jsonl", self.completed_epochs
            self.disk.write(lambda: opened.append(History(path, keep)))
        return opened[0] if opened else None

    def _stopped(self) -> Literal["asked"]:
        if self.disk.gave_up:  # what was not written has to be trained again
            self.progress = self._saved
        return "asked"

    def _train_epoch(self, steps: Iterator[list[dict[str, Batch]]]) -> None:
        progress, every = self.progress, self.config.checkpoint_every_steps
        end = (self.completed_epochs + 1) * self.steps_per_epoch
        training_mode(self.model)
        clock = time.perf_counter()

        def tick() -> None:
            nonlocal clock
            elapsed, clock = time.perf_counter() - clock, time.perf_counter()
            progress.seconds += elapsed
            progress.epoch_seconds += elapsed

        while progress.step < end:
            self._check_health()
            self.task.epoch = progress.step / self.steps_per_epoch
            self._step(next(steps))
            progress.step += 1
            if every and progress.step % every == 0 and progress.step < end:
                self._check_health(now=True)
                tick()
                self._save_last()
        self._check_health(now=True)
        tick()

    def _step(self, micro_batches: list[dict[str, Batch]]) -> None:
        """One optimizer step of every phase whose turn it is."""
        device = self.world.device
        micro_batches = [
            {name: batch.to(device, non_blocking=True) for name, batch in batches.items()} for batches in micro_batches
        ]
        factor = learning_rate_factor(
            self.config.schedule, self.progress.step, self.steps_per_epoch, self.config.epochs
        )
        for phase in self.task.phases:
            if self.progress.step % phase.every:
                continue
            with self._only(phase):
                for batches in micro_batches:
                    self._backward(phase, batches)
                self._update(phase, factor)
        if self.config.precision == "fp16":
            self.scaler.update()
        if self.average:
            self.average.update()

    def _backward(self, phase: Phase, batches: Mapping[str, Batch]) -> None:
        num_rows = len(batches["main"])
        with autocast(self.config.precision, self.world.device):
            loss, parts = self.task.training_loss(phase.name, self.model, batches)
        finite = torch.isfinite(loss.detach())
        step = float(self.progress.step + 1)
        self._bad_step = torch.where(finite, self._bad_step, self._bad_step.clamp(max=step))
        if self.world.size == 1 and self.world.device.type == "cpu":
            self._check_health(now=True)  # before the weights are spoilt
        # losses are means over jets: weighted by jets, micro-batches and ranks add up to the mean of the whole batch
        share = num_rows * self.world.size / self.streams["main"].num_rows
        self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
        for name, part in parts.items():
            key = name if len(self.task.phases) == 1 else f"{phase.name}/{name}"
            # made on the device: copying a number there would wait for the whole backward pass
            jets = torch.full((), num_rows, dtype=torch.float64, device=self.world.device)
            for entry, value in ((key, part.to(self.world.device, torch.float64) * num_rows), (f"{key} jets", jets)):
                self._sums[entry] = self._sums[entry] + value if entry in self._sums else value

    def _update(self, phase: Phase, factor: float) -> None:
        members = [p for _, p in self.parameters[phase.name]]
        self.world.average_gradients(members)
        optimizers = self.optimizers[phase.name]
        if self.config.clip_grad_norm:
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(members, self.config.clip_grad_norm)
        for optimizer, peaks in zip(optimizers, self._peaks[phase.name], strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            self.scaler.step(optimizer)
        self.lr = optimizers[0].param_groups[0]["lr"]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def _only(self, phase: Phase) -> Iterator[None]:
        """Gradients for this phase's parameters alone; activations still pass them on."""
        if len(self.task.phases) == 1:
            yield
            return
        mine = {id(p) for _, p in self.parameters[phase.name]}
        others = [p for members in self.parameters.values() for _, p in members if id(p) not in mine]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _check_health(self, now: bool = False) -> None:
        """Raise on all ranks when any met a loss that is not finite, or was asked to stop."""
        if not now and self.world.device.type != "cpu" and self.progress.step % _STEPS_BETWEEN_CHECKS:
            return
        asked = not now and (self.disk.gave_up or (self.stop_requested is not None and self.stop_requested()))
        minus_bad, any_asked = self.world.max([-float(self._bad_step), float(asked)])
        if math.isfinite(minus_bad):
            raise Diverged(int(-minus_bad), "the training loss")
        if any_asked:
            raise Asked

    def _finish_epoch(self, history: History | None) -> bool:
        """Evaluate, save, report; returns whether the reporter asks to stop."""
        progress, world = self.progress, self.world
        start = time.perf_counter()
        row: Metrics = {
            "epoch": self.completed_epochs,
            "step": progress.step,
            "samples_seen": progress.step * self.streams["main"].num_rows,
            **self._train_means(),
        }
        world.broadcast(self.model.buffers())  # normalisation statistics without synchronisation of their own
        with ExitStack() as stack:
            if self.average:
                stack.enter_context(self.average.applied())
            metrics, arrays = evaluate(self.model, self.task, self.val, world, self.config.precision)
            if not math.isfinite(metrics.get("val/loss", 0.0)):
                raise Diverged(progress.step, "the validation loss")
            row |= metrics | self.systematics(self.model, arrays, self.config.precision, "val")
        improved = self.best_epochs.improved(row, progress)
        if progress.step >= self.total_steps:
            progress.stopped_because = "budget"
        elif self.config.monitor.patience and progress.epochs_without_gain >= self.config.monitor.patience:
            progress.stopped_because = "patience"
        elapsed = time.perf_counter() - start
        progress.seconds += elapsed
        row |= {
            "lr": self.lr,
            "time/epoch_s": progress.epoch_seconds + elapsed,
            "stopped_because": progress.stopped_because,
        }
        if improved:
            progress.best = dict(row)
        progress.epoch_seconds, self._sums = 0.0, {}
        if self.best_epochs.take(row, improved, self._weights) and world.is_first:
            weights, state = self.best_epochs.weights(self._weights), self.best_epochs.state()
            state["progress"] = asdict(progress)
            self.disk.write(lambda: save_checkpoint(self.best, weights, state, self.spec, self.classes))
        if history:
            self.disk.write(lambda: history.append(row))
        self._save_last()
        if world.is_first and self.config.snapshot_every and self.completed_epochs % self.config.snapshot_every == 0:
            self.disk.write(lambda: keep_snapshot(self.workdir, self.completed_epochs))
        # what is not on disk has not happened, so it is not reported
        asked = world.is_first and (self.disk.gave_up or self.reporter(row, self.last))
        gave_up, asked = world.from_first((self.disk.gave_up, bool(asked)))
        return bool(gave_up or (asked and not progress.stopped_because))

    def _train_means(self) -> dict[str, float]:
        totals = {name: float(self.world.sum(value)) for name, value in self._sums.items()}
        for name, carried in self.progress.sums.items():
            totals[name] = totals.get(name, 0.0) + carried
        self.progress.sums = {}
        return {
            f"train/{name}": total / totals[f"{name} jets"]
            for name, total in totals.items()
            if not name.endswith(" jets")
        }

    def _report_divergence(self, error: Diverged, history: History | None) -> None:
        progress = self.progress
        progress.stopped_because = "diverged"
        nothing = {f"val/{name}": math.nan for name in self.task.metric_names()}
        row: Metrics = {
            "epoch": -(-error.step // self.steps_per_epoch),
            "step": error.step,
            "samples_seen": error.step * self.streams["main"].num_rows,
            "train/loss": math.nan,
            **nothing,
            "lr": self.lr,
            "time/epoch_s": progress.epoch_seconds,
            "stopped_because": "diverged",
        }
        if history and self.disk.write(lambda: history.append(row)):
            self.reporter(row, None)

    def _weights(self) -> dict[str, Tensor]:
        """What `load_checkpoint` shall find: averaged weights where they are kept."""
        weights: dict[str, Tensor] = dict(self.model.state_dict())
        return weights | self.average.shadow if self.average else weights

    def _save_last(self) -> None:
        """Write `last`; every rank takes part, since each has its own random state."""
        world = self.world
        totals = {name: float(world.sum(value)) for name, value in self._sums.items()}
        for name, carried in self.progress.sums.items():
            totals[name] = totals.get(name, 0.0) + carried
        random_states = world.gather_objects(random_state(world.device))
        if not world.is_first:
            return
        state: dict[str, Any] = {
            "progress": asdict(self.progress) | {"sums": totals},
            "steps_per_epoch": self.steps_per_epoch,
            "optimizers": {name: [o.state_dict() for o in group] for name, group in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
            "random": random_states,
        }
        if self.average:
            state["raw_weights"] = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
            state["average_updates"] = self.average.num_updates
        if self.disk.write(lambda: save_checkpoint(self.last, self._weights(), state, self.spec, self.classes)):
            self._saved = Progress(**asdict(self.progress))

    def _restore(self) -> None:
        weights, _ = read_weights(self.last)
        state = read_state(self.last)
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise JetsweepError(
                f"{self.last}: the checkpoint counts {state['steps_per_epoch']} steps per epoch, the experiment "
                f"{self.steps_per_epoch}; batch size or data changed, so start a new trial"
            )
        if self.average and "raw_weights" in state:
            self.average.shadow = {name: weights[name].to(self.world.device).clone() for name in self.average.shadow}
            self.average.num_updates = state["average_updates"]
            weights = state["raw_weights"]
        load_weights(self.model, weights, self.last)
        for name, optimizers in self.optimizers.items():
            for optimizer, saved in zip(optimizers, state["optimizers"][name], strict=True):
                optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.progress, self._saved = Progress(**state["progress"]), Progress(**state["progress"])
        self.best_epochs.restore(self.best, self.completed_epochs)
        if len(state["random"]) == self.world.size:
            set_random_state(state["random"][self.world.rank], self.world.device)
        else:  # another number of workers: a fresh stream, not one that was used before
            seed_everything(self.spec.seed + self.progress.step, self.world.rank)
        if not self.world.is_first:
            self.progress.sums = {}
