"""Particle Flow Network: a deep set over the constituents, F(sum_i Phi(p_i)) (arXiv:1810.05165)."""

# Shapes: B jets, P constituent slots, F features per constituent, D latent width, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._dense import dense_stack, initialised


class DeepSetConfig(ModelConfig):
    """Sizes shared by the deep sets EFN and PFN; the defaults are the paper's."""

    phi_sizes: tuple[PositiveInt, ...] = Field((100, 100, 256), description="Widths of Phi, the last is the latent.")
    f_sizes: tuple[PositiveInt, ...] = Field((100, 100, 100), description="Widths of F before the output.")
    latent_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the summed latent.")
    f_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout after every layer of F.")
    initialiser: Literal["he-uniform", "glorot-uniform", "glorot-normal"] = Field(
        "he-uniform", description="Distribution of the first weights."
    )


class PFNConfig(DeepSetConfig):
    """Particle Flow Network."""

    name: Literal["pfn"] = "pfn"


class DeepSetHead(nn.Module):
    """F and the output layer, shared by EFN and PFN."""

    def __init__(self, config: DeepSetConfig, num_classes: int) -> None:
        super().__init__()
        sizes = (config.phi_sizes[-1], *config.f_sizes)
        self.latent_dropout = nn.Dropout(config.latent_dropout)
        self.dense = dense_stack(sizes, config.initialiser, config.f_dropout)
        self.output = initialised(nn.Linear(sizes[-1], num_classes), config.initialiser)

    def forward(self, latent_BD: Tensor) -> Tensor:
        logits_BC: Tensor = self.output(self.dense(self.latent_dropout(latent_BD)))
        return logits_BC


@register(PFNConfig)
class PFN(nn.Module):
    """Permutation-invariant sum of a map of each constituent; not IRC safe.

    Parameters
    ----------
    config : PFNConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "mask")

    def __init__(self, config: PFNConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.phi = dense_stack((num_features, *config.phi_sizes), config.initialiser)
        self.head = DeepSetHead(config, num_classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of constituents `features` (B, P, F) where `mask` (B, P) is True."""
        phi_BPD = self.phi(torch.where(mask[..., None], features, 0.0))
        logits_BC: Tensor = self.head(torch.where(mask[..., None], phi_BPD, 0.0).sum(dim=1))
        return logits_BC
