"""Optimizers by name, with weight decay where it belongs and learning rates by parameter pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from jetsweep.errors import JetsweepError
from jetsweep.training.config import (
    AdamConfig,
    AdamWConfig,
    LionConfig,
    MuonConfig,
    OptimizerConfig,
    RAdamConfig,
    RangerConfig,
    SGDConfig,
)
from jetsweep.training.patterns import require_matches

_NO_DECAY_WORDS = ("token",)


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to biases, norms, residual weights (all 1-d) and tokens."""
    return parameter.ndim > 1 and not any(word in name.rsplit(".", 1)[-1].lower() for word in _NO_DECAY_WORDS)


def lr_factor_of(name: str, factors: Mapping[str, float]) -> float:
    """Factor of the last pattern that matches a parameter's dotted name, 1 where none does."""
    matching = [factor for pattern, factor in factors.items() if fnmatchcase(name, pattern)]
    return matching[-1] if matching else 1.0


def freeze(module: nn.Module, factors: Mapping[str, float]) -> None:
    """Stop gradients of parameters whose learning rate factor is 0.

    Raises
    ------
    JetsweepError
        If a pattern matches no parameter, or nothing is left to train.
    """
    require_matches("training.lr_factors", factors, (name for name, _ in module.named_parameters()))
    for name, parameter in module.named_parameters():
        if lr_factor_of(name, factors) == 0.0:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise JetsweepError("training.lr_factors: every parameter is frozen, nothing is left to train")


def num_trainable(module: nn.Module) -> int:
    """Number of parameters that are not frozen."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def training_mode(module: nn.Module) -> None:
    """Training mode, but for frozen batch norms: those keep the statistics that belong to their weights."""
    module.train()
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not any(p.requires_grad for p in part.parameters()):
            part.eval()


def build_optimizers(
    config: OptimizerConfig,
    parameters: Sequence[tuple[str, nn.Parameter]],
    lr_factors: Mapping[str, float] | None = None,
) -> list[Optimizer]:
    """Make the optimizer, or the two that Muon needs, for named parameters.

    Each group carries ``peak_lr``, which a schedule multiplies.
    """
    factors = lr_factors or {}
    if not isinstance(config, MuonConfig):
        return [_build(config, _groups(parameters, config.lr, config.weight_decay, factors))]
    if not hasattr(torch.optim, "Muon"):
        raise JetsweepError(f"training.optimizer.name: muon needs torch 2.9 or newer, found {torch.__version__}")
    matrices = [(name, p) for name, p in parameters if p.ndim == 2 and decays(name, p)]
    chosen = {id(p) for _, p in matrices}
    others = [(name, p) for name, p in parameters if id(p) not in chosen]
    optimizers: list[Optimizer] = []
    if matrices:
        groups = _groups(matrices, config.lr, config.weight_decay, factors)
        optimizers.append(torch.optim.Muon(groups, momentum=config.momentum))
    if others:
        optimizers.append(torch.optim.AdamW(_groups(others, config.adamw_lr, config.weight_decay, factors)))
    return optimizers


def _groups(
    parameters: Sequence[tuple[str, nn.Parameter]], lr: float, weight_decay: float, factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        key = (lr * lr_factor_of(name, factors), weight_decay if decays(name, parameter) else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def _build(config: OptimizerConfig, groups: list[dict[str, Any]]) -> Optimizer:
    match config:
        case AdamWConfig():
            return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps)
        case AdamConfig():
            return torch.optim.Adam(groups, betas=config.betas, eps=config.eps)
        case SGDConfig():
            return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov)
        case RAdamConfig():
            return torch.optim.RAdam(groups, betas=config.betas, eps=config.eps, decoupled_weight_decay=True)
        case RangerConfig():
            fast = torch.optim.RAdam(groups, betas=config.betas, eps=config.eps, decoupled_weight_decay=True)
            lookahead = _pytorch_optimizer(config.name).Lookahead
            slow: Optimizer = lookahead(fast, k=config.lookahead_steps, alpha=config.lookahead_alpha)
            return slow
        case LionConfig():
            lion: Optimizer = _pytorch_optimizer(config.name).Lion(groups, betas=config.betas)
            return lion
        case MuonConfig():
            raise AssertionError("build_optimizers makes Muon")


def _pytorch_optimizer(name: str) -> Any:
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise JetsweepError(
            f"training.optimizer.name: {name} needs the package pytorch-optimizer, which is not installed here"
        ) from error
    return pytorch_optimizer
