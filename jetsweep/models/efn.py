"""Energy Flow Network: an IRC-safe deep set, F(sum_i z_i Phi(y_i, phi_i)) (arXiv:1810.05165)."""

# Shapes: B jets, P constituent slots, D latent width, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from jetsweep.models._base import register
from jetsweep.models._dense import dense_stack
from jetsweep.models.pfn import DeepSetConfig, DeepSetHead


class EFNConfig(DeepSetConfig):
    """Energy Flow Network."""

    name: Literal["efn"] = "efn"
    features: str = Field("energyflow", description="Feature set; only energyflow provides momentum fractions.")


@register(EFNConfig)
class EFN(nn.Module):
    """Momentum-weighted sum of a map of each constituent's angles: collinear and soft emissions leave it unchanged.

    Parameters
    ----------
    config : EFNConfig
    num_features : int
        Ignored: the map takes the two angles.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("z", "angles", "mask")

    def __init__(self, config: EFNConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.phi = dense_stack((2, *config.phi_sizes), config.initialiser)
        self.head = DeepSetHead(config, num_classes)

    def forward(self, z: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of momentum fractions `z` (B, P) at `angles` (B, P, 2) where `mask` (B, P) is True."""
        z_BP = torch.where(mask, z, 0.0)
        phi_BPD = self.phi(torch.where(mask[..., None], angles, 0.0))
        logits_BC: Tensor = self.head(torch.einsum("bp,bpd->bd", z_BP, phi_BPD))
        return logits_BC
