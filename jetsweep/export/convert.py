"""From a trained model to ONNX bytes; names, units and provenance travel in the file's metadata."""

# Shapes: B jets, P constituent slots.

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.export.graph import CONSTITUENTS, MASK, SCALARS, SCORES, PaddedModel

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET = 20


def require_packages() -> None:
    """Refuse an export where the extra is not installed.

    Raises
    ------
    JetsweepError
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise JetsweepError(f"export needs {', '.join(missing)}; install jetsweep[export]")


def to_onnx(graph: PaddedModel, example: tuple[Tensor, ...], about: Mapping[str, str]) -> tuple[bytes, bool]:
    """ONNX model of a graph; the number of jets is free, and where the architecture allows it that of slots.

    A network that declares the class attribute ``fixed_slots = True`` is not tried with a free number of slots.

    Parameters
    ----------
    graph : PaddedModel
        On the CPU.
    example : tuple of Tensor
        Inputs of at least two jets (a dimension of one would be taken for fixed) with `max_constituents` slots.
    about : mapping of str to str
        For the file's metadata, beside names of columns, scalars and scores.

    Returns
    -------
    content : bytes
    slots_are_free : bool
        False where every jet has to be padded to `max_constituents`.

    Raises
    ------
    JetsweepError
        If the architecture has an operation that ONNX cannot express.
    """
    slots_are_free = not getattr(graph.model.network, "fixed_slots", False)
    try:
        try:
            model = _convert(graph, example, slots_are_free)
        except (torch.onnx.errors.OnnxExporterError, RuntimeError):
            if not slots_are_free:
                raise
            slots_are_free = False
            model = _convert(graph, example, slots_are_free)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise JetsweepError(f"{graph.network_name} cannot be written as ONNX: {_first_reason(error)}") from error
    return _finished(graph, model, slots_are_free, about), slots_are_free


def _convert(graph: PaddedModel, example: tuple[Tensor, ...], slots_are_free: bool) -> Any:
    jets: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
    padded = {**jets, 1: torch.export.Dim.DYNAMIC} if slots_are_free else jets
    free = {CONSTITUENTS: padded, MASK: padded, SCALARS: jets}
    with _quiet(), _plain_attention(), torch.no_grad():
        program = torch.onnx.export(
            _captured(graph, example, (tuple(free[name] for name in graph.input_names),)),
            dynamo=True,
            input_names=graph.input_names,
            output_names=[SCORES],
            custom_translation_table={torch.ops.aten.hypot.default: _hypot},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _captured(graph: PaddedModel, example: tuple[Tensor, ...], dynamic_shapes: Any) -> torch.export.ExportedProgram:
    """Operations of a graph, with Dynamo first: `torch.onnx.export` begins with a tracer that takes jets for fixed."""
    try:
        return torch.export.export(graph, example, dynamic_shapes=dynamic_shapes, strict=True)
    except RuntimeError:
        return torch.export.export(graph, example, dynamic_shapes=dynamic_shapes, strict=False)


def _finished(graph: PaddedModel, model: Any, slots_are_free: bool, about: Mapping[str, str]) -> bytes:
    """The file's content, with names and provenance."""
    import onnx

    _name_dimensions(model)
    _forget_sources(model)
    entries = {
        "columns": json.dumps(graph.columns),
        "jet": json.dumps(graph.scalars),
        "scores": json.dumps(graph.scores),
        "max_constituents": str(graph.max_constituents),
        "slots": "free" if slots_are_free else "fixed",
        "units": "GeV, radians",
        **about,
    }
    for name, text in entries.items():
        model.metadata_props.add(key=f"jetsweep.{name}", value=text)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _hypot(x: Any, y: Any) -> Any:
    """ONNX has no hypot; momenta in GeV are far from where the plain form overflows."""
    from onnxscript import opset20 as op

    return op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y)))


def _name_dimensions(model: Any) -> None:
    """Call the free dimensions what they are: jets and slots."""
    renamed = {}
    for given in model.graph.input:
        for place, dimension in zip(("jets", "slots"), given.type.tensor_type.shape.dim):
            if dimension.dim_param:
                renamed[dimension.dim_param] = place
                dimension.dim_param = place
    for made in [*model.graph.output, *model.graph.value_info]:
        for dimension in made.type.tensor_type.shape.dim:
            dimension.dim_param = renamed.get(dimension.dim_param, dimension.dim_param)


def _forget_sources(model: Any) -> None:
    """Drop the exporter's notes on every node: lines and paths of the machine it ran on."""
    for holder in (model.graph, *model.functions):
        for node in (*holder.node, *holder.value_info):
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")


def _first_reason(error: BaseException) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without torch's fused kernels for whole transformer layers in inference, which ONNX has no name for."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not there, and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
