"""LundNet: edge convolutions along the Cambridge/Aachen tree of a jet (arXiv:2012.08526)."""

# Shapes: B jets, P slots, N real nodes, 3 links of each, E links that exist, F features, D width, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm, Slots, cut_empty_slots, mean_over_slots
from jetsweep.physics.lund import LundCuts


class LundNetConfig(ModelConfig):
    """LundNet; the defaults are the published network LundNet5."""

    name: Literal["lundnet"] = "lundnet"
    features: Literal["lund2", "lund3", "lund4", "lund5"] = Field(
        "lund5",
        description="Coordinates of each declustering: ln Δ and ln kT; with ln z; with psi; with ln m.",
    )
    min_kt: float = Field(
        0.0, ge=0.0, description="Declusterings of less kT [GeV] are passed over: the harder branch takes their place."
    )
    min_delta: float = Field(
        0.0, ge=0.0, description="Declusterings of a smaller angle end their branch: what a detector cannot resolve."
    )
    widths: tuple[PositiveInt, ...] = Field(
        (32, 32, 64, 64, 128, 128), min_length=1, description="Width of every edge block."
    )
    fusion_width: PositiveInt = Field(384, description="Width of the layer that joins the outputs of all blocks.")
    dense_width: PositiveInt = Field(256, description="Width of the layer before the output.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout before the output.")

    @property
    def lund_cuts(self) -> LundCuts:
        """As set."""
        return LundCuts(self.min_kt, self.min_delta)


class TreeConv(nn.Module):
    """Mean over the links u of a node v of a dense net of theta (x_v - x_u) + phi x_u, plus a shortcut.

    The first layer is linear, so it acts on nodes before they are paired: theta x_v + (phi - theta) x_u.

    Parameters
    ----------
    num_in, width : int
    """

    def __init__(self, num_in: int, width: int) -> None:
        super().__init__()
        self.theta = nn.Linear(num_in, width, bias=False)
        self.phi = nn.Linear(num_in, width, bias=False)
        self.linear = nn.Linear(width, width, bias=False)
        self.norms = nn.ModuleList(MaskedBatchNorm(width) for _ in range(2))
        self.shortcut = nn.Linear(num_in, width, bias=False) if num_in != width else None
        self.shortcut_norm = MaskedBatchNorm(width) if num_in != width else None

    def forward(self, x_ND: Tensor, neighbour_N3: Tensor, links: Slots, row_mask: Tensor | None) -> Tensor:
        """Outputs (N, D) of rows `x_ND`.

        Parameters
        ----------
        x_ND : Tensor, shape (N, D)
        neighbour_N3 : Tensor, shape (N, 3), int64
            Row numbers.
        links : Slots of (N, 3)
            Which of them exist.
        row_mask : Tensor or None, shape (N,), bool
            Which rows are real; None if all are.
        """
        own_ND = self.theta(x_ND)
        other_ND = self.phi(x_ND) - own_ND
        other_N3D = other_ND.index_select(0, neighbour_N3.flatten()).view(*neighbour_N3.shape, other_ND.shape[1])
        message_ED = torch.relu(self.norms[0](links.rows(own_ND[:, None] + other_N3D), links.row_mask))
        message_ED = torch.relu(self.norms[1](self.linear(message_ED), links.row_mask))
        mean_ND = links.padded(message_ED).sum(dim=1) / links.mask_BP.sum(dim=1, keepdim=True).clamp(min=1)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x_ND = self.shortcut_norm(self.shortcut(x_ND), row_mask)
        return torch.relu(mean_ND + x_ND)


@register(LundNetConfig)
class LundNet(nn.Module):
    """LundNet. Leaves of the tree carry no node; a jet without declusterings is one node of zeros.

    Parameters
    ----------
    config : LundNetConfig
    num_features : int
        Features F per declustering.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "neighbours", "mask")

    def __init__(self, config: LundNetConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.input_norm = MaskedBatchNorm(num_features)
        self.blocks = nn.ModuleList(TreeConv(a, b) for a, b in zip((num_features, *config.widths), config.widths))
        self.fusion = nn.Linear(sum(config.widths), config.fusion_width)
        self.fusion_norm = MaskedBatchNorm(config.fusion_width)
        self.dense = nn.Linear(config.fusion_width, config.dense_width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.dense_width, num_classes)

    def forward(self, features: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C).

        Parameters
        ----------
        features : Tensor, shape (B, P, F)
            Of declusterings.
        neighbours : Tensor, shape (B, P, 3), int64
            Slots of the declustering above and of those of the two branches; anything that is not a real slot of the
            jet stands for none.
        mask : Tensor, shape (B, P), bool
            True where a declustering is real.
        """
        mask, features, neighbours = cut_empty_slots(mask, features, neighbours)
        slots = Slots(mask)
        # the row number of every real slot
        position_BP = torch.arange(mask.numel(), device=mask.device).view_as(mask)
        if slots.index is not None:
            position_BP = (mask.flatten().cumsum(0) - 1).clamp(min=0).view_as(mask)
        slot_BP3 = neighbours.clamp(0, mask.shape[1] - 1)
        is_link_BP3 = (neighbours == slot_BP3) & mask[..., None]
        is_link_BP3 = is_link_BP3 & mask.gather(1, slot_BP3.flatten(1)).view_as(slot_BP3)
        row_BP3 = position_BP.gather(1, slot_BP3.flatten(1)).view_as(slot_BP3)
        # without a link its own row, which no other shares
        neighbour_N3 = slots.rows(torch.where(is_link_BP3, row_BP3, position_BP[..., None]))
        links = Slots(slots.rows(is_link_BP3))
        x_ND = self.input_norm(slots.rows(torch.where(mask[..., None], features, 0.0)), slots.row_mask)
        outputs = []
        for block in self.blocks:
            x_ND = block(x_ND, neighbour_N3, links, slots.row_mask)
            outputs.append(x_ND)
        joined_ND = self.fusion_norm(torch.relu(self.fusion(torch.cat(outputs, dim=-1))), slots.row_mask)
        jet_BD = mean_over_slots(slots.padded(joined_ND), mask)
        logits_BC: Tensor = self.output(self.dropout(torch.relu(self.dense(jet_BD))))
        return logits_BC
