"""Fine-tuning: the first weights of a trial come from another trial's checkpoint or from a published file."""

# Shapes: C outputs of the network.

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.models._base import ModelConfig, build_network
from jetsweep.models._ensemble import Ensemble
from jetsweep.models._jet_model import JetModel, build_jet_model
from jetsweep.models._weights import import_published_weights, published_outputs, read_tensors
from jetsweep.tasks._base import Task, build_task
from jetsweep.training.checkpoint import EXPERIMENT, load_checkpoint
from jetsweep.training.config import InitConfig, TrialSpec
from jetsweep.training.optimizers import freeze
from jetsweep.training.patterns import matches, require_matches

_log = logging.getLogger("jetsweep")


@dataclass(frozen=True)
class Source:
    """Weights to begin with.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By name in a `JetModel`'s state.
    outputs : tuple of str
        Names of the outputs; numbers where the file names none.
    has_names : bool
        Whether those names are of classes.
    has_statistics : bool
        Whether `weights` hold the statistics of the preprocessing.
    """

    weights: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    has_names: bool
    has_statistics: bool


def read_source(config: InitConfig, model_config: ModelConfig, model: JetModel) -> Source:
    """Read what ``training.init_from`` names.

    Parameters
    ----------
    config : InitConfig
    model_config : ModelConfig
        Of the network that shall begin with these weights.
    model : JetModel

    Raises
    ------
    JetsweepError
        If there is nothing, or weights of another architecture.
    """
    path = Path(config.path)
    if path.is_file() and (path.parent / EXPERIMENT).is_file():
        path = path.parent  # the weights of a checkpoint of ours
    if (path / "trials").is_dir():
        raise JetsweepError(
            f"training.init_from: {path} is a sweep; expected one of its trials, e.g. {path / 'trials' / '00000'} "
            "(jetsweep compare shows the best)"
        )
    if path.is_file():
        return _published(path, model_config, model)
    try:
        loaded = load_checkpoint(path)
    except JetsweepError as error:
        raise JetsweepError(f"training.init_from: {error}") from error
    if isinstance(loaded.model.network, Ensemble):
        raise JetsweepError(
            f"training.init_from: {path}: expected weights of one network, found an ensemble of "
            f"{len(loaded.model.network.ensemble_members)} epochs; name the trial's checkpoints/last"
        )
    found = loaded.spec.model
    if found.name != model_config.name:
        raise JetsweepError(f"training.init_from: {path}: expected weights of {model_config.name}, found {found.name}")
    for key in ("features", "jet_axis"):
        theirs, ours = getattr(found, key), getattr(model_config, key)
        if theirs != ours:
            raise JetsweepError(f"training.init_from: {path}: expected model.{key}: {ours}, found {theirs}")
    outputs = build_task(loaded.spec.task, loaded.classes).output_names(found.binary_output)
    return Source(loaded.model.state_dict(), outputs, has_names=True, has_statistics=True)


def _published(path: Path, model_config: ModelConfig, model: JetModel) -> Source:
    """Weights as their authors publish them; built into a network with as many outputs as they have."""
    try:
        tensors = read_tensors(path)
        num_outputs = published_outputs(model.network, tensors, output_tensors(model_config, model))
        network = build_network(model_config, model.preprocessing.num_features, num_outputs)
        import_published_weights(network, tensors)
    except JetsweepError as error:
        raise JetsweepError(f"training.init_from: {path}: {str(error).removeprefix(f'{path}: ')}") from error
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    names = tuple(str(i) for i in range(num_outputs))
    return Source(weights, names, has_names=False, has_statistics=False)


def output_tensors(config: ModelConfig, model: JetModel) -> frozenset[str]:
    """Names in the network's state of the tensors whose shape depends on the number of outputs: its head."""
    with torch.device("meta"):
        shapes = [
            {
                name: x.shape
                for name, x in build_network(config, model.preprocessing.num_features, n).state_dict().items()
            }
            for n in (2, 3)
        ]
    return frozenset(name for name, shape in shapes[0].items() if shape != shapes[1][name])


@torch.no_grad()
def initialise(model: JetModel, config: InitConfig, model_config: ModelConfig, task: Task) -> Source:
    """Fill a fresh model with the weights that ``training.init_from`` names.

    Outputs take the rows of the source's outputs of the same class, or those that ``classes`` names; the others begin
    fresh. Where no class of the source is wanted, the whole head does.

    Parameters
    ----------
    model : JetModel
        With fresh weights, which stay where nothing replaces them.
    config : InitConfig
    model_config : ModelConfig
    task : Task

    Returns
    -------
    Source

    Raises
    ------
    JetsweepError
        If the weights do not fit, or a pattern or class matches nothing; the message names it.
    """
    source = read_source(config, model_config, model)
    own = model.state_dict()
    if not source.has_statistics:  # the preprocessing is fitted to this dataset, or has nothing to fit
        own = {name: tensor for name, tensor in own.items() if name.startswith("network.")}
    require_matches("training.init_from.fresh", config.fresh, {**own, **source.weights})
    heads = {f"network.{name}" for name in output_tensors(model_config, model)}
    for name in sorted(set(own) ^ set(source.weights)):
        if not matches(name, config.fresh):
            where = "has no" if name in own else "has, and the model has not,"
            raise JetsweepError(
                f"training.init_from: {config.path} {where} {name!r}; configure the model alike, or name what shall "
                "begin fresh in training.init_from.fresh"
            )
    num_outputs = len(task.output_names(model_config.binary_output))
    rows = output_rows(config, source, task.output_names(model_config.binary_output))
    for name, tensor in own.items():
        if matches(name, config.fresh) or name not in source.weights:
            continue
        given = source.weights[name].to(tensor.device, tensor.dtype)
        if name in heads:
            # an output may have several rows, which follow each other
            own_C = tensor.view(num_outputs, -1, *tensor.shape[1:])
            given_C = given.reshape(len(source.outputs), -1, *given.shape[1:])
            for row, source_row in rows.items():
                own_C[row] = given_C[source_row]
        elif tensor.shape != given.shape:
            raise JetsweepError(
                f"training.init_from: {config.path}: {name!r}: expected shape {tuple(tensor.shape)} as configured, "
                f"found {tuple(given.shape)}; configure the model alike, or name it in training.init_from.fresh"
            )
        else:
            tensor.copy_(given)
    fresh = num_outputs - len(rows)
    _log.info("begins with the weights of %s; %d of its outputs begin fresh", config.path, fresh)
    return source


def output_rows(config: InitConfig, source: Source, outputs: Sequence[str]) -> dict[int, int]:
    """Row of the source's head for each output that takes one.

    Raises
    ------
    JetsweepError
        If ``classes`` names an output that is not there, on either side.
    """
    if not config.classes:
        alike = source.has_names and set(outputs) <= set(source.outputs)
        same_kind = (len(outputs) == 1) == (len(source.outputs) == 1)
        return {i: source.outputs.index(name) for i, name in enumerate(outputs)} if alike and same_kind else {}
    rows = {}
    for name, wanted in config.classes.items():
        if name not in outputs:
            raise JetsweepError(
                f"training.init_from.classes: expected outputs of this model ({', '.join(outputs)}), found {name!r}"
            )
        if str(wanted) in source.outputs:
            rows[list(outputs).index(name)] = source.outputs.index(str(wanted))
        elif isinstance(wanted, int) and 0 <= wanted < len(source.outputs):
            rows[list(outputs).index(name)] = wanted
        else:
            raise JetsweepError(
                f"training.init_from.classes.{name}: expected an output of {config.path} "
                f"({', '.join(source.outputs)}), found {wanted!r}"
            )
    return rows


def check_start(spec: TrialSpec, classes: Sequence[str]) -> None:
    """Refuse first weights, or patterns of frozen parameters, that no trial could begin with, before any starts.

    Raises
    ------
    JetsweepError
    """
    settings = spec.training
    if settings.init_from is None and not settings.lr_factors:
        return
    task = build_task(spec.task, classes)
    model = build_jet_model(spec.model, task.num_outputs(spec.model.binary_output), spec.data.max_constituents)
    if settings.init_from is not None:
        initialise(model, settings.init_from, spec.model, task)
    freeze(model, settings.lr_factors)
