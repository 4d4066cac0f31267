"""ParticleNet: edge convolutions on dynamic neighbour graphs of constituents (arXiv:1902.08570)."""

# Shapes: B jets, P slots, N real slots, K neighbours, F features, D width, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm, Slots, cut_empty_slots, mean_over_slots


class ParticleNetConfig(ModelConfig):
    """ParticleNet; the defaults are the published network. `particlenet-lite` has those of the small one."""

    name: Literal["particlenet"] = "particlenet"
    num_neighbours: PositiveInt = Field(16, description="Nearest neighbours K of each constituent.")
    widths: tuple[tuple[PositiveInt, ...], ...] = Field(
        ((64, 64, 64), (128, 128, 128), (256, 256, 256)), min_length=1, description="Layer widths of every edge block."
    )
    neighbour_rule: Literal["present", "peer"] = Field(
        "present",
        description="Jets with K constituents or fewer: average over the neighbours present, or, as in weaver, over K "
        "with zeros in place of the absent ones.",
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

    def forward(
        self, x_ND: Tensor, neighbour_NK: Tensor, edges: Slots, row_mask: Tensor | None, is_near_NK: Tensor | None
    ) -> Tensor:
        """Outputs (N, D) of rows `x_ND`.

        Parameters
        ----------
        x_ND : Tensor, shape (N, D)
        neighbour_NK : Tensor, shape (N, K), int64
            Row numbers.
        edges : Slots of (N, K)
            Which pairs enter batch norm and the mean.
        row_mask : Tensor or None, shape (N,), bool
            Which rows are real; None if all are.
        is_near_NK : Tensor or None, shape (N, K), bool
            False for pairs whose neighbour does not exist: its features count as zeros. None if no such pair counts.
        """
        num_rows, num_near = neighbour_NK.shape
        first_weight = self.linears[0].weight
        assert isinstance(first_weight, Tensor)
        weight_a, weight_b = first_weight.chunk(2, dim=1)
        own_ND, other_ND = x_ND @ (weight_a - weight_b).T, x_ND @ weight_b.T
        other_NKD = other_ND.index_select(0, neighbour_NK.flatten()).view(num_rows, num_near, other_ND.shape[1])
        if is_near_NK is not None:
            other_NKD = torch.where(is_near_NK[..., None], other_NKD, 0.0)
        edge_ED = torch.relu(self.norms[0](edges.rows(own_ND[:, None] + other_NKD), edges.row_mask))
        for linear, norm in zip(list(self.linears)[1:], list(self.norms)[1:]):
            edge_ED = torch.relu(norm(linear(edge_ED), edges.row_mask))
        mean_ND = edges.padded(edge_ED).sum(dim=1) / edges.mask_BP.sum(dim=1, keepdim=True).clamp(min=1)
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
        self.num_neighbours, self.neighbour_rule = config.num_neighbours, config.neighbour_rule
        self.input_norm = MaskedBatchNorm(num_features)
        inputs = (num_features, *(widths[-1] for widths in config.widths))
        self.blocks = nn.ModuleList(EdgeConv(num_in, widths) for num_in, widths in zip(inputs, config.widths))
        self.dense = nn.Linear(config.widths[-1][-1], config.dense_width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.dense_width, num_classes)

    def forward(self, features: Tensor, points: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of `features` (B, P, F) at `points` (B, P, 2) where `mask` (B, P) is True."""
        mask, features, points = cut_empty_slots(mask, features, points)
        features, points = (torch.where(mask[..., None], x, 0.0) for x in (features, points))
        slots = Slots(mask)
        # the row number of every real slot
        position_BP = torch.arange(mask.numel(), device=mask.device).view_as(mask)
        if slots.index is not None:
            position_BP = (mask.flatten().cumsum(0) - 1).clamp(min=0).view_as(mask)
        # which neighbours exist depends on the multiplicities alone, so it is the same in every block
        num_others_B = (mask.sum(dim=1) - 1).clamp(min=0)
        is_near_BPK = torch.arange(self.num_neighbours, device=mask.device) < num_others_B[:, None, None]
        is_near_NK = slots.rows(is_near_BPK.expand(-1, mask.shape[1], -1) & mask[..., None])
        peer = self.neighbour_rule == "peer"
        is_real_N = mask.flatten() if slots.index is None else mask.new_ones(len(slots.index))
        edges = Slots(is_real_N[:, None].expand_as(is_near_NK) if peer else is_near_NK)
        x_ND = self.input_norm(slots.rows(features), slots.row_mask)
        where_BPD = points
        for i, block in enumerate(self.blocks):
            if i:
                where_BPD = slots.padded(x_ND)
            neighbour_NK = self._nearest(where_BPD, mask, position_BP, slots, is_near_NK)
            x_ND = block(x_ND, neighbour_NK, edges, slots.row_mask, is_near_NK if peer else None)
        jet_BD = mean_over_slots(slots.padded(x_ND), mask)
        logits_BC: Tensor = self.output(self.dropout(torch.relu(self.dense(jet_BD))))
        return logits_BC

    @torch.no_grad()
    def _nearest(
        self, where_BPD: Tensor, mask_BP: Tensor, position_BP: Tensor, slots: Slots, is_near_NK: Tensor
    ) -> Tensor:
        """Rows of the nearest other constituents, shape (N, K); where one does not exist, the constituent's own row."""
        num_slots = mask_BP.shape[1]
        num_near = min(self.num_neighbours, num_slots)
        near_BPP = _squared_distances(where_BPD)
        itself_PP = torch.eye(num_slots, dtype=torch.bool, device=mask_BP.device)
        near_BPP = near_BPP.masked_fill(~mask_BP[:, None, :] | itself_PP, torch.inf)
        slot_BPK = near_BPP.topk(num_near, dim=-1, largest=False).indices
        row_BPK = position_BP[:, None, :].expand(-1, num_slots, -1).gather(2, slot_BPK)
        # fewer slots than neighbours asked for: the missing ones do not exist
        row_NK = F.pad(slots.rows(row_BPK), (0, self.num_neighbours - num_near))
        own_N1 = slots.rows(position_BP[..., None])
        # of its own row, which no other shares: pointed at one row, all would queue for it in a GPU's backward pass
        return torch.where(is_near_NK, row_NK, own_N1)


def _squared_distances(x_BPD: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs, shape (B, P, P), at least float32."""
    x_BPD = x_BPD.to(torch.promote_types(x_BPD.dtype, torch.float32))
    with torch.autocast(x_BPD.device.type, enabled=False):  # else the product is rounded to bf16 and neighbours change
        inner_BPP = x_BPD @ x_BPD.transpose(1, 2)
    square_BP = (x_BPD**2).sum(dim=-1)
    return square_BP[:, :, None] - 2 * inner_BPP + square_BP[:, None, :]
