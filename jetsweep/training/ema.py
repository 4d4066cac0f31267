"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Shadow of all floating-point parameters and buffers, so that normalisation statistics match the weights.

    Parameters
    ----------
    module : nn.Module
    decay : float, in (0, 1)
        Ramps up as ``min(decay, (1 + n) / (10 + n))`` over the first updates n.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.num_updates = 0
        self.shadow = {name: tensor.detach().clone() for name, tensor in self._live().items()}

    def _live(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.module.state_dict().items() if tensor.is_floating_point()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the shadow towards the module's present weights."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        live = self._live()
        torch._foreach_lerp_(list(self.shadow.values()), [live[name] for name in self.shadow], 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run a block with the averaged weights in the module."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        live = self._live()
        for name, shadow in self.shadow.items():
            raw = live[name].clone()
            live[name].copy_(shadow)
            shadow.copy_(raw)
