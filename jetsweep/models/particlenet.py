"""ParticleNet: edge convolutions on dynamic neighbour graphs of constituents (arXiv:1902.08570)."""

# Shapes: B jets, P slots, N real slots, K neighbours, F features, D width, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm, Slots, mean_over_slots


class ParticleNetConfig(ModelConfig):
    """ParticleNet; the defaults are the published network. ParticleNet-Lite: k 7, widths [[32]*3, [64]*3], dense 128."""

    name: Literal["particlenet"] = "particlenet"
    num_neighbours: PositiveInt = Field(16, description="Nearest neighbours K of each constituent.")
    widths: tuple[tuple[PositiveInt, ...], ...] = Field(
        ((64, 64, 64), (128, 128, 128), (256, 256, 256)), min_length=1, description="Layer widths of every edge block."
    )
    dense_width: PositiveInt = Field(256, description="Width of the layer before the output.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout before the output.")


class EdgeConv(nn.Module):
    """Mean over neighbours of a dense net of (x_i, x_j - x_i), plus a shortcut.

    The first layer is linear in both parts, so it acts on constituents before they are paired:
    W_a x_i + W_b (x_j - x_i) = (W_a - W_b) x_i + W_b x_j.

    Parameters
    ----------
    num_in : int
    widths : tuple of int
    """

    def __init__(self, num_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip((2 * num_in, *widths), widths))
        self.norms = nn.ModuleList(MaskedBatchNorm(width) for width in widths)
        self.shortcut = nn.Linear(num_in, widths[-1], bias=False) if num_in != widths[-1] else None
        self.shortcut_norm = MaskedBatchNorm(widths[-1]) if num_in != widths[-1] else None
        for linear in [*self.linears, *([self.shortcut] if self.shortcut is not None else [])]:
            # the default of a 1x1 convolution
            nn.init.kaiming_uniform_(linear.weight, a=5**0.5)

    def forward(self, x_ND: Tensor, neighbour_NK: Tensor, is_near_NK: Tensor, row_mask: Tensor | None) -> Tensor:
        """Rows (N, D) with their neighbours' row numbers; `is_near_NK` is False for neighbours that do not exist."""
        num_rows, num_near = neighbour_NK.shape
        weight_a, weight_b = self.linears[0].weight.chunk(2, dim=1)
        own_ND, other_ND = x_ND @ (weight_a - weight_b).T, x_ND @ weight_b.T
        edge_END = (own_ND[:, None] + other_ND[neighbour_NK.flatten()].view(num_rows, num_near, -1)).flatten(0, 1)
        compiling = torch.compiler.is_compiling()
        edge_mask = None if not compiling and bool(is_near_NK.all()) else is_near_NK.flatten()
        edge_END = torch.relu(self.norms[0](edge_END, edge_mask))
        for linear, norm in zip(list(self.linears)[1:], list(self.norms)[1:]):
            edge_END = torch.relu(norm(linear(edge_END), edge_mask))
        edge_NKD = edge_END.view(num_rows, num_near, -1)
        if edge_mask is not None:
            edge_NKD = torch.where(is_near_NK[..., None], edge_NKD, 0.0)
        mean_ND = edge_NKD.sum(dim=1) / is_near_NK.sum(dim=1, keepdim=True).clamp(min=1)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x_ND = self.shortcut_norm(self.shortcut(x_ND), row_mask)
        return torch.relu(mean_ND + x_ND)


@register(ParticleNetConfig)
class ParticleNet(nn.Module):
    """ParticleNet. Jets with fewer than K + 1 constituents average over the neighbours there are.

    Parameters
    ----------
    config : ParticleNetConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "points", "mask")

    def __init__(self, config: ParticleNetConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_neighbours = config.num_neighbours
        self.input_norm = MaskedBatchNorm(num_features)
        inputs = (num_features, *(widths[-1] for widths in config.widths))
        self.blocks = nn.ModuleList(EdgeConv(num_in, widths) for num_in, widths in zip(inputs, config.widths))
        self.dense = nn.Linear(config.widths[-1][-1], config.dense_width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.dense_width, num_classes)

    def forward(self, features: Tensor, points: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of `features` (B, P, F) at `points` (B, P, 2) where `mask` (B, P) is True."""
        features, points = (torch.where(mask[..., None], x, 0.0) for x in (features, points))
        slots = Slots(mask)
        # row number of every slot, where rows are packed
        position_BP = (mask.flatten().cumsum(0) - 1).clamp(min=0).view_as(mask)
        if slots.index is None:
            position_BP = torch.arange(mask.numel(), device=mask.device).view_as(mask)
        x_ND = self.input_norm(slots.rows(features), slots.row_mask)
        where_BPD = points
        for i, block in enumerate(self.blocks):
            if i:
                where_BPD = slots.padded(x_ND)
            neighbour_NK, is_near_NK = self._nearest(where_BPD, mask, position_BP, slots)
            x_ND = block(x_ND, neighbour_NK, is_near_NK, slots.row_mask)
        jet_BD = mean_over_slots(slots.padded(x_ND), mask)
        logits_BC: Tensor = self.output(self.dropout(torch.relu(self.dense(jet_BD))))
        return logits_BC

    def _nearest(self, where_BPD: Tensor, mask_BP: Tensor, position_BP: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """Rows of the nearest other constituents, shape (N, K), and which of them exist."""
        num_near = min(self.num_neighbours, max(1, mask_BP.shape[1] - 1))
        with torch.no_grad():
            near_BPP = _squared_distances(where_BPD)
            alone_PP = torch.eye(mask_BP.shape[1], dtype=torch.bool, device=mask_BP.device)
            near_BPP = near_BPP.masked_fill(~mask_BP[:, None, :] | alone_PP, torch.inf)
            distance_BPK, slot_BPK = near_BPP.topk(num_near, dim=-1, largest=False)
            row_BPK = position_BP[:, None, :].expand(-1, mask_BP.shape[1], -1).gather(2, slot_BPK)
            is_near_BPK = torch.isfinite(distance_BPK) & mask_BP[..., None]
            row_BPK = torch.where(is_near_BPK, row_BPK, 0)
            neighbours = slots.rows(torch.cat([row_BPK, is_near_BPK.to(row_BPK.dtype)], dim=-1))
        return neighbours[:, :num_near], neighbours[:, num_near:].bool()


def _squared_distances(x_BPD: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs, shape (B, P, P), float32."""
    x_BPD = x_BPD.float()
    inner_BPP = x_BPD @ x_BPD.transpose(1, 2)
    square_BP = (x_BPD**2).sum(dim=-1)
    return square_BP[:, :, None] - 2 * inner_BPP + square_BP[:, None, :]
