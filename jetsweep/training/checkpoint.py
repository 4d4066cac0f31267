"""Checkpoints: safetensors weights, tensors-only training state, the experiment; never half-written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jetsweep.errors import JetsweepError
from jetsweep.models._ensemble import num_members
from jetsweep.models._jet_model import JetModel, build_jet_model
from jetsweep.tasks._base import build_task
from jetsweep.training.config import TrialSpec
from jetsweep.training.disk import write_error

WEIGHTS, STATE, EXPERIMENT = "model.safetensors", "state.pt", "experiment.json"


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with what it was trained on.

    Parameters
    ----------
    model : JetModel
        With its preprocessing and feature statistics, in evaluation mode, on the CPU. Its network is an
        `jetsweep.models._ensemble.Ensemble` where the best epochs together are the trained model.
    spec : TrialSpec
    classes : tuple of str
        Names of the dataset's classes, in label order.
    """

    model: JetModel
    spec: TrialSpec
    classes: tuple[str, ...]


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, whatever happens in between.

    Raises
    ------
    DiskFull, JetsweepError
        If the disk is full, or not writable; what was there before is kept.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(temporary, content)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # what is no folder has no such file either
            temporary.unlink()
        raise write_error(f"{path}: cannot be written: {error.strerror}", error) from error


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(
    path: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any], spec: TrialSpec, classes: Sequence[str]
) -> None:
    """Write a checkpoint folder; a kill at any moment leaves the old one or the new one.

    Parameters
    ----------
    path : Path
        The folder, replaced as a whole.
    weights : mapping of str to Tensor
        For `load_checkpoint`: the averaged weights where a moving average is kept.
    state : mapping
        Tensors, numbers, strings, lists and dicts only.
    spec : TrialSpec
    classes : sequence of str

    Raises
    ------
    DiskFull, JetsweepError
        If it cannot be written; the previous checkpoint is kept.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    temporary, old = path.with_name(f"{path.name}.tmp"), path.with_name(f"{path.name}.old")
    try:
        recover(path)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_synced(temporary / WEIGHTS, save(tensors, {"format": "pt", "classes": json.dumps(list(classes))}))
        _write_synced(temporary / STATE, buffer.getvalue())
        _write_synced(temporary / EXPERIMENT, spec.model_dump_json(indent=2).encode())
        _sync_folder(temporary)
        if path.exists():  # a folder cannot be replaced in one call; `recover` heals a kill between these two
            path.rename(old)
        temporary.rename(path)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise write_error(
            f"{path}: the checkpoint cannot be written: {error.strerror}; the previous one is kept", error
        ) from error


def recover(path: Path) -> bool:
    """Undo a replacement that was cut off; returns whether there is a checkpoint at `path`."""
    old = path.with_name(f"{path.name}.old")
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)
    return path.exists()


def discard(path: Path) -> None:
    """Remove a checkpoint with all that an interrupted replacement may have left of it."""
    for folder in (path, path.with_name(f"{path.name}.tmp"), path.with_name(f"{path.name}.old")):
        shutil.rmtree(folder, ignore_errors=True)


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights and class names of a checkpoint folder."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / WEIGHTS, framework="pt") as file:
            classes = tuple(json.loads((file.metadata() or {})["classes"]))
            return {name: file.get_tensor(name) for name in file.keys()}, classes  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise JetsweepError(
            f"{path / WEIGHTS}: expected the weights of a jetsweep checkpoint, found: {error}"
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Training state of a checkpoint folder; executes nothing that the file holds."""
    try:
        state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JetsweepError(f"{path / STATE}: expected the training state of a checkpoint, found: {reason}") from error
    return state


def read_spec(path: Path) -> TrialSpec:
    """The spec that a checkpoint was trained with."""
    try:
        return TrialSpec.model_validate_json((path / EXPERIMENT).read_bytes())
    except (OSError, ValueError) as error:
        raise JetsweepError(f"{path / EXPERIMENT}: expected the spec of a trial, found: {error}") from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a module built from the same spec."""
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise JetsweepError(f"{path}: the weights do not fit the model of the spec: {error}") from error


def model_of(spec: TrialSpec, classes: Sequence[str], num_members: int) -> JetModel:
    """The model of a spec with fresh weights; with several members their ensemble."""
    num_outputs = build_task(spec.task, classes).num_outputs(spec.model.binary_output)
    return build_jet_model(spec.model, num_outputs, spec.data.max_constituents, num_members)


def load_checkpoint(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a trained model with its preprocessing.

    Parameters
    ----------
    path : path
        A checkpoint folder, or a trial's folder, whose best checkpoint is taken.

    Returns
    -------
    LoadedModel

    Raises
    ------
    JetsweepError
        If there is no checkpoint, or a damaged one.
    """
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints" / "best"
    if not recover(folder):
        raise JetsweepError(f"{folder}: expected a checkpoint folder or a trial's folder, found nothing")
    spec, (weights, classes) = read_spec(folder), read_weights(folder)
    model = model_of(spec, classes, num_members(weights))
    load_weights(model, weights, folder)
    return LoadedModel(model.eval(), spec, classes)
