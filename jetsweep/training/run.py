"""One trial from its spec to its result: data, model, loop, evaluation, files."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from jetsweep.data.config import prepare
from jetsweep.data.dataset import Dataset
from jetsweep.errors import JetsweepError
from jetsweep.models._ensemble import num_members
from jetsweep.models._jet_model import JetModel, build_jet_model
from jetsweep.tasks._base import Task, build_task
from jetsweep.training.attempts import forget, owned_by_all
from jetsweep.training.checkpoint import (
    load_checkpoint,
    load_weights,
    model_of,
    read_spec,
    read_state,
    read_weights,
    recover,
    write_file,
)
from jetsweep.training.config import TrialSpec
from jetsweep.training.evaluate import Batches, evaluate
from jetsweep.training.init_from import initialise
from jetsweep.training.loaders import fit_reweightings, make_loader, records, statistics_loader, training_loaders
from jetsweep.training.loop import TrainingLoop
from jetsweep.training.memory import as_small_as, out_of_memory, release
from jetsweep.training.optimizers import freeze, num_trainable
from jetsweep.training.progress import Diverged, Progress
from jetsweep.training.random_state import seed_everything
from jetsweep.training.reporter import Metrics, Reporter, silent
from jetsweep.training.restarts import restarts
from jetsweep.training.systematics import SystematicsWhileTraining, require_variations
from jetsweep.training.timing import TIMED_BATCH, Timing, inference_time, timed_batches
from jetsweep.training.world import World

_log = logging.getLogger("jetsweep")
T = TypeVar("T")

StoppedBecause = Literal["budget", "patience", "diverged", "asked"]


@dataclass(frozen=True)
class TrainResult:
    """How a trial ended; also ``result.json`` in its folder.

    Parameters
    ----------
    stopped_because : str
        "budget" (all epochs done), "patience" (early stopping), "diverged" (NaN or infinite loss), "asked" (reporter).
    epoch : int
        Completed epochs.
    best : dict
        Metrics of the best epoch, with ``epoch``, as reported: of it alone, also where it is one of an ensemble.
    test : dict
        ``test/<metric>`` of the best checkpoint, with several ``ensemble_epochs`` of their ensemble; empty without a
        test split or when stopped by "asked" or "diverged".
    error : str or None
        One sentence when diverged.
    parameters : int
        Trainable parameters of the network, times the epochs in the best checkpoint.
    seconds : float
        Training time over all interruptions, without the final evaluation.
    timing : dict
        Of `jetsweep.training.timing.inference_time`; empty where nothing was evaluated.
    restarts : int
        Times that the trial was started again after a process or node of it had died.
    accumulate : int
        Micro-batches of a step at the end; more than asked for if memory ran out under ``on_out_of_memory: halve``.
    """

    stopped_because: StoppedBecause
    epoch: int
    best: Metrics
    test: dict[str, float]
    error: str | None
    parameters: int
    seconds: float
    timing: Timing = field(default_factory=dict)
    restarts: int = 0
    accumulate: int = 1


def train(
    spec: TrialSpec,
    workdir: Path,
    data_root: Path,
    reporter: Reporter = silent,
    *,
    world: World | None = None,
    resume: bool = True,
    stop_requested: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train one trial in this process.

    Parameters
    ----------
    spec : TrialSpec
    workdir : Path
        The trial's folder: ``experiment.json``, ``checkpoints/{last,best}/``, ``history.jsonl``,
        ``evaluation/{val,test}.npz`` and ``result.json`` go there.
    data_root : Path
        Folder of made datasets.
    reporter : Reporter
        Called by rank 0 after every epoch; its answer True ends training.
    world : World, optional
        This process's place among several; a single process if not given.
    resume : bool
        Continue from ``checkpoints/last`` where there is one; else what the folder holds of an earlier attempt goes.
    stop_requested : callable, optional
        Asked between steps, e.g. whether Ctrl-C or SIGTERM arrived; True saves ``last`` and returns "asked".

    Returns
    -------
    TrainResult

    Raises
    ------
    JetsweepError
        If data, task, model or machine do not allow the trial; a NaN loss is no error but "diverged".
    """
    world, workdir = world or World.alone(), Path(workdir)
    _check_machine(spec, world)
    with owned_by_all(workdir, world, stop_requested) as ownership:
        if world.is_first and not resume:
            forget(workdir)
        if world.is_first:
            recover(workdir / "checkpoints" / "last")
        world.barrier()  # the others shall find what rank 0 has put right

        def stop() -> bool:
            if ownership is not None:
                ownership.require()
            return stop_requested is not None and stop_requested()

        used = _continued(spec, workdir / "checkpoints" / "last")
        while True:
            try:
                return _train(spec, used, workdir, Path(data_root), reporter, world, stop)
            except torch.OutOfMemoryError as error:
                problem = out_of_memory(used, world, error)
            release(world.device)
            if problem.smaller is None or world.size > 1:  # the other ranks wait for this one: all have to start again
                raise problem
            _log.warning("%s", problem)
            used = used.model_copy(update={"training": problem.smaller})


def _train(
    spec: TrialSpec,
    used: TrialSpec,
    workdir: Path,
    data_root: Path,
    reporter: Reporter,
    world: World,
    stop_requested: Callable[[], bool],
) -> TrainResult:
    """Train until the end or until memory runs out; `used` is `spec`, perhaps in smaller pieces."""
    dataset = _first_then_others(world, lambda: prepare(spec.data, data_root))
    task = build_task(spec.task, dataset.classes)
    require_variations(task, dataset)
    resumed = world.from_first(world.is_first and (workdir / "checkpoints" / "last").exists())
    model = _build_model(used, task, dataset, world, fresh=not resumed)
    reweightings = _first_then_others(world, lambda: fit_reweightings(spec, task, dataset))
    train_loaders = training_loaders(used, task, model, dataset, world, reweightings)

    def loader(split: str) -> Batches:
        return make_loader(used, task, model, dataset, world, split)

    loop = TrainingLoop(
        model,
        task,
        train_loaders,
        loader("val"),
        used,
        workdir,
        reporter,
        world,
        dataset.classes,
        stop_requested,
        SystematicsWhileTraining(task, dataset, loader, world),
    )
    if world.is_first:
        loop.disk.write(lambda: write_file(workdir / "experiment.json", spec.model_dump_json(indent=2).encode()))
        for name, content in records(task, dataset, train_loaders).items():
            loop.disk.write(partial(write_file, workdir / name, content))
        (workdir / "result.json").unlink(missing_ok=True)  # the result of fewer epochs is no result of these
    error: str | None = None
    test: dict[str, float] = {}
    timing: Timing = {}
    stopped_because: StoppedBecause
    try:
        stopped_because = loop.run()
    except Diverged as stop:
        stopped_because, error = "diverged", f"{spec.name}: {stop}; lower the learning rate or clip gradients"
    if stopped_because in ("budget", "patience"):
        test, timing = _evaluate_best(loop, dataset)
    result = TrainResult(
        stopped_because,
        loop.completed_epochs,
        loop.progress.best,
        test,
        error,
        num_trainable(model.network) * max(1, len(loop.best_epochs.members)),
        loop.progress.seconds,
        timing,
        restarts(workdir),
        used.training.accumulate,
    )
    if world.is_first:
        content = json.dumps(asdict(result), indent=2).encode()
        if not loop.disk.write(lambda: write_file(workdir / "result.json", content)):
            return replace(result, stopped_because="asked", test={}, timing={})  # to be done once there is room
    return result


def left_off(workdir: Path) -> TrainResult:
    """Result of a trial that was asked to stop while none of its processes ran: what its last checkpoint holds."""
    last = workdir / "checkpoints" / "last"
    if not recover(last):
        return TrainResult("asked", 0, {}, {}, None, 0, 0.0, restarts=restarts(workdir))
    loaded, state = load_checkpoint(last), read_state(last)
    freeze(loaded.model, loaded.spec.training.lr_factors)
    progress = Progress(**state["progress"])
    epoch = progress.step // state["steps_per_epoch"]
    return TrainResult(
        "asked",
        epoch,
        progress.best,
        {},
        None,
        num_trainable(loaded.model.network) * loaded.spec.training.num_members(epoch),
        progress.seconds,
        restarts=restarts(workdir),
        accumulate=loaded.spec.training.accumulate,
    )


def _check_machine(spec: TrialSpec, world: World) -> None:
    if spec.training.precision == "fp16" and world.device.type != "cuda":
        raise JetsweepError(
            f"training.precision: fp16 needs a CUDA device, found {world.device.type}; use bf16 or fp32"
        )
    if spec.training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read on the first product of matrices
    torch.use_deterministic_algorithms(spec.training.deterministic)


def _continued(spec: TrialSpec, last: Path) -> TrialSpec:
    """`spec` with what its last attempt learned about memory.

    Raises
    ------
    JetsweepError
        If the checkpoint belongs to a trial with other data or another network, or an ensemble of other size.
    """
    if not recover(last):
        return spec
    left = read_spec(last)
    before, now = left.model_dump(mode="json"), spec.model_dump(mode="json")
    for tree in (before, now):
        tree.update({f"training.{key}": tree["training"][key] for key in ("init_from", "ensemble_epochs")})
    for part in ("seed", "data", "task", "model", "training.init_from", "training.ensemble_epochs"):
        if before[part] != now[part]:
            raise JetsweepError(
                f"{last}: cannot continue, its {part} is {json.dumps(before[part])}, the experiment's is "
                f"{json.dumps(now[part])}; use another folder or resume=False"
            )
    return spec.model_copy(update={"training": as_small_as(spec.training, left.training)})


def _first_then_others(world: World, make: Callable[[], T]) -> T:
    """Let rank 0 make what the others then find on disk."""
    if world.size == 1:
        return make()
    error: JetsweepError | None = None
    made = None
    if world.is_first:
        try:
            made = make()
        except JetsweepError as problem:
            error = problem
    error = world.from_first(error)
    if error is not None:  # on all ranks, so that none waits for another
        raise error
    return made if made is not None else make()


def _build_model(spec: TrialSpec, task: Task, dataset: Dataset, world: World, fresh: bool) -> JetModel:
    """Weights from the spec's seed or its source, statistics from that or the training split; the same on all ranks.

    Those of a trial that is not `fresh` come from its checkpoint, so that the source may be gone by then.
    """
    seed_everything(spec.seed)
    num_outputs = task.num_outputs(spec.model.binary_output)
    model = build_jet_model(spec.model, num_outputs, spec.data.max_constituents)
    fitted = False
    if fresh and spec.training.init_from is not None:
        fitted = initialise(model, spec.training.init_from, spec.model, task).has_statistics
    if world.is_first and model.preprocessing.needs_statistics and not fitted:
        model.preprocessing.fit(statistics_loader(spec, task, model, dataset).batches(0))
    model.to(world.device)
    world.broadcast_module(model)
    freeze(model, spec.training.lr_factors)
    if spec.training.compile:
        model.network.compile()
    return model


def _evaluate_best(loop: TrainingLoop, dataset: Dataset) -> tuple[dict[str, float], Timing]:
    """Metrics of the best checkpoint on the test split, its arrays on disk, and the time per jet."""
    spec, task, world = loop.spec, loop.task, loop.world
    model: Any = loop.model
    world.barrier()  # rank 0 may still be writing the checkpoint
    weights, _ = read_weights(loop.best)
    if (number := num_members(weights)) > 1:
        model = model_of(spec, dataset.classes, number).to(world.device)
        if spec.training.compile:
            model.network.compile()
    load_weights(model, weights, loop.best)
    test: dict[str, float] = {}
    for split in ("val", "test"):
        if split not in dataset.splits:
            continue
        loader = make_loader(spec, task, model, dataset, world, split)
        metrics, arrays = evaluate(model, task, loader, world, spec.training.precision, split)
        if split == "test":
            metrics |= loop.systematics(model, arrays, spec.training.precision, split)
            test = metrics
        if world.is_first:
            loop.disk.write(partial(_save_arrays, loop.workdir / "evaluation" / f"{split}.npz", arrays))
    timing: Timing = {}
    if world.is_first:
        alone = World.alone(world.device)
        num_jets = min(TIMED_BATCH, spec.training.eval_batch_size)  # what fits the memory
        batches = timed_batches(lambda size: make_loader(spec, task, model, dataset, alone, "val", size), num_jets)
        timing = inference_time(model, *batches, world.device, spec.training.precision)
    return test, world.from_first(timing)


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_file(path, buffer.getvalue())
