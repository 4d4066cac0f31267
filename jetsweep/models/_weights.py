"""Import weights that the authors of ParT and ParticleNet publish: tensors only, mapped name by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from jetsweep.errors import JetsweepError
from jetsweep.models.part import ParT
from jetsweep.models.particlenet import ParticleNet

Rules = tuple[tuple[str, str], ...]

_PART: Rules = (
    (r"embed\.input_bn\.(.*)", r"input_norm.\1"),
    (r"pair_embed\.embed\.0\.(.*)", r"pair_embed.input_norm.\1"),
    (r"pair_embed\.embed\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)", "pair"),
    (r"embed\.embed\.(\d+)\.(weight|bias)", "embed"),
    (r"blocks\.(.*)\.attn\.in_proj_(weight|bias)", r"blocks.\1.attn.in_proj.\2"),
    (r"cls_blocks\.(.*)\.attn\.in_proj_(weight|bias)", r"class_blocks.\1.attn.in_proj.\2"),
    (r"cls_blocks\.(.*)", r"class_blocks.\1"),
    (r"cls_token", "class_token"),
    (r"fc\.(\d+)\.0\.(weight|bias)", r"head.\1.0.\2"),
    (r"fc\.(\d+)\.(weight|bias)", r"head.\1.\2"),
    (r"(blocks\..*|norm\..*)", r"\1"),
)
_PARTICLENET: Rules = (
    (r"bn_fts\.(.*)", r"input_norm.\1"),
    (r"edge_convs\.(\d+)\.convs\.(\d+)\.weight", r"blocks.\1.linears.\2.weight"),
    (r"edge_convs\.(\d+)\.bns\.(\d+)\.(.*)", r"blocks.\1.norms.\2.\3"),
    (r"edge_convs\.(\d+)\.sc\.weight", r"blocks.\1.shortcut.weight"),
    (r"edge_convs\.(\d+)\.sc_bn\.(.*)", r"blocks.\1.shortcut_norm.\2"),
    (r"fc\.0\.0\.(weight|bias)", r"dense.\1"),
    (r"fc\.1\.(weight|bias)", r"output.\1"),
)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or of a PyTorch file that holds nothing else.

    Raises
    ------
    JetsweepError
        If the file is missing, is neither, or could run code on loading.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise JetsweepError(f"{path}: expected a file of weights, found none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise JetsweepError(
            f"{path}: expected a file of weights, it cannot be read: {str(error).splitlines()[0]}"
        ) from error
    except Exception as error:  # torch raises pickle's own error for what is not a plain tensor
        raise JetsweepError(f"{path}: refused, it holds more than tensors and could run code on loading") from error
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(x, Tensor) for x in tensors.values()):
        raise JetsweepError(f"{path}: expected a mapping of names to tensors, found a {type(loaded).__name__}")
    return dict(tensors)


def import_published_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill `network` with published weights of the same configuration.

    Parameters
    ----------
    network : ParT or ParticleNet
    tensors : mapping of str to Tensor
        State dict of weaver's ``ParticleTransformer`` (version 1) or ``ParticleNet``, with or without the prefix
        ``mod.``; 1x1 convolutions become matrices.

    Raises
    ------
    JetsweepError
        If the architecture has no published weights, or a name or shape does not fit; the message names it.
    """
    rules = _rules(network)
    own = network.state_dict()
    mapped: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        target = _target(name.removeprefix("mod."), rules)
        if target not in own:
            raise JetsweepError(
                f"published weight {name!r} has no place in this {type(network).__name__}; is it configured alike?"
            )
        expected = own[target].shape
        if tensor.numel() != expected.numel():
            found = tuple(tensor.shape)
            raise JetsweepError(
                f"published weight {name!r}: expected shape {tuple(expected)} as configured, found {found}"
            )
        mapped[target] = tensor.reshape(expected)
    missing = sorted(set(own) - set(mapped))
    if missing:
        raise JetsweepError(f"published weights lack {len(missing)} tensors of this network, e.g. {missing[0]!r}")
    network.load_state_dict(mapped)


def published_outputs(network: nn.Module, tensors: Mapping[str, Tensor], head: Collection[str]) -> int:
    """Number of outputs of published weights.

    Parameters
    ----------
    network : ParT or ParticleNet
    tensors : mapping of str to Tensor
    head : collection of str
        The network's names of the tensors that have a row for each output.

    Raises
    ------
    JetsweepError
        If the architecture has no published weights, or these have no outputs.
    """
    rules = _rules(network)
    for name, tensor in tensors.items():
        if tensor.ndim and _target(name.removeprefix("mod."), rules) in head:
            return len(tensor)
    raise JetsweepError(
        f"expected the published weights of {type(network).__name__}, found none of its outputs; is it configured "
        "alike?"
    )


def _rules(network: nn.Module) -> Rules:
    if isinstance(network, ParT):
        return _PART
    if isinstance(network, ParticleNet):
        return _PARTICLENET
    raise JetsweepError(f"published weights can be imported into part and particlenet, found {type(network).__name__}")


def _target(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        if replacement in ("embed", "pair"):
            position, part = int(match[1]), match[2]
            if replacement == "embed":
                # norm, linear, activation for every layer
                return f"embed.{position // 3}.{position % 3}.{part}"
            # after the input norm: convolution, norm, activation for every layer
            layer, kind = divmod(position - 1, 3)
            return f"pair_embed.{('linears', 'norms')[kind]}.{layer}.{part}"
        return match.expand(replacement)
    return ""
