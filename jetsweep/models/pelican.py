"""PELICAN: permutation-equivariant network of pairwise Minkowski products (arXiv:2211.00454, 2307.16506)."""

# Shapes: B jets, P slots, N = references + P nodes, M ordered pairs of real nodes, m and c channels, C classes,
# 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import Slots, cut_empty_slots
from jetsweep.models._minkowski import gram_matrix, with_references
from jetsweep.models._pelican_layers import Labels, Message, PairsToJet, PairsToPairs, ProductEncoder

REFERENCES: dict[str, tuple[tuple[float, ...], ...]] = {
    "time-and-beam": ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 0.0)),
    "light-beams": ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, -1.0, 1.0)),
    "none": (),
}
NUM_LABEL_CHANNELS = 10


class PELICANConfig(ModelConfig):
    """PELICAN; the defaults are the largest published top tagger. Smaller ones: 60/35, 40/24, 25/15, 16/10, 11/7."""

    name: Literal["pelican"] = "pelican"
    width: PositiveInt = Field(132, description="Channels m of pairs between blocks; ten are the nodes' labels.")
    message_width: PositiveInt = Field(78, description="Channels c of pairs that are aggregated.")
    num_layers: PositiveInt = Field(5, description="Blocks of message and aggregation.")
    references: Literal["time-and-beam", "light-beams", "none"] = Field(
        "time-and-beam",
        description="Fixed four-vectors beside the constituents: they leave rotations about the beam as the only "
        "symmetry; none keeps the whole Lorentz group.",
    )
    dropout: float = Field(0.025, ge=0.0, lt=1.0, description="Dropout after messages and before the output.")

    @model_validator(mode="after")
    def _room_for_products(self) -> PELICANConfig:
        if self.width <= NUM_LABEL_CHANNELS:
            raise ValueError(
                f"width={self.width} leaves no channel for the products: {NUM_LABEL_CHANNELS} are labels; "
                f"use {NUM_LABEL_CHANNELS + 1} or more"
            )
        return self


@register(PELICANConfig)
class PELICAN(nn.Module):
    """PELICAN. Aggregation runs over real nodes alone; the published code's activation of the logits is left out.

    Parameters
    ----------
    config : PELICANConfig
    num_features : int
        Not used: constituents enter by their Minkowski products alone.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("p4", "mask")
    symmetries: ClassVar[tuple[str, ...]] = ("rotation", "lorentz")
    fixed_slots: ClassVar[bool] = True  # ONNX cannot express its sums over pairs for any number of slots

    def __init__(self, config: PELICANConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("references", torch.tensor(REFERENCES[config.references]).view(-1, 4), persistent=False)
        self.references: Tensor
        self.encoder = ProductEncoder(config.width - NUM_LABEL_CHANNELS)
        self.labels = Labels(1 + len(self.references), NUM_LABEL_CHANNELS)
        width, message_width = config.width, config.message_width
        self.messages = nn.ModuleList(Message(width, message_width, config.dropout) for _ in range(config.num_layers))
        self.blocks = nn.ModuleList(PairsToPairs(message_width, width) for _ in range(config.num_layers))
        self.last_message = Message(width, message_width, config.dropout)
        self.to_jet = PairsToJet(message_width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, num_classes)

    def forward(self, p4: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of four-vectors `p4` (B, P, 4) where `mask` (B, P) is True."""
        mask, p4 = cut_empty_slots(mask, p4)
        p4_BN4, mask_BN = with_references(p4, mask, self.references)
        pairs = Slots((mask_BN[:, :, None] & mask_BN[:, None]).flatten(1))
        product_M1 = pairs.rows(gram_matrix(p4_BN4).flatten(1)[..., None])
        # at least one: means over a jet without any node are 0
        num_nodes_B = mask_BN.sum(dim=1).clamp(min=1).to(product_M1.dtype)
        label_Mc = self.labels(self._one_hot(mask_BN).to(product_M1.dtype), num_nodes_B, pairs)
        x_Mm = torch.cat([self.encoder(product_M1), label_Mc], dim=-1)
        for message, block in zip(self.messages, self.blocks):
            x_Mm = block(message(x_Mm, pairs), num_nodes_B, pairs)
        jet_Bm = self.to_jet(self.last_message(x_Mm, pairs), num_nodes_B, pairs)
        logits_BC: Tensor = self.output(self.dropout(jet_Bm))
        return logits_BC

    def _one_hot(self, mask_BN: Tensor) -> Tensor:
        """Label of every node, constituent or one of the references, shape (B, N, L)."""
        num_references = len(self.references)
        # 0 for constituents, 1 to S for references
        kind_N = (num_references - torch.arange(mask_BN.shape[1], device=mask_BN.device)).clamp(min=0)
        is_kind_NL = kind_N[:, None] == torch.arange(1 + num_references, device=mask_BN.device)
        return is_kind_NL & mask_BN[..., None]
