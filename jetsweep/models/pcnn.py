"""P-CNN: one-dimensional residual network on constituents in descending pT (arXiv:1902.08570, CMS DeepAK8).

The order matters. It is taken from pT inside the network, so that of the slots does not.
"""

# Shapes: B jets, P constituent slots, F features per constituent, D channels, C classes, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm, Slots, cut_empty_slots, mean_over_slots
from jetsweep.physics import fourvectors as kinematics


class PCNNConfig(ModelConfig):
    """P-CNN; the defaults are the published network."""

    name: Literal["pcnn"] = "pcnn"
    stem_width: PositiveInt = Field(32, description="Channels after the first convolution.")
    widths: tuple[PositiveInt, ...] = Field((64, 64, 128), min_length=1, description="Channels of every stage.")
    units_per_stage: PositiveInt = Field(2, description="Residual units of a stage.")
    dense_width: PositiveInt = Field(512, description="Width of the layer before the output.")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="Dropout before the output.")


class Convolution(nn.Module):
    """Convolution along a row of constituents, batch norm and ReLU; positions beyond the last constituent stay 0.

    A jet therefore gets what it would get without any empty slots behind it.

    Parameters
    ----------
    num_in, num_out : int
    stride : int
    """

    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_in, num_out, 3, stride, padding=1)
        self.norm = MaskedBatchNorm(num_out)

    def forward(self, x_BPD: Tensor, slots: Slots) -> Tensor:
        """Output at the positions of `slots`, shape (B, P / stride, D)."""
        x_BPD = self.conv(x_BPD.transpose(1, 2)).transpose(1, 2)
        return torch.relu(slots.padded(self.norm(slots.rows(x_BPD), slots.row_mask)))


class ResidualUnit(nn.Module):
    """Two convolutions added to the input, or to a 1×1 convolution of it where width or stride changes.

    Parameters
    ----------
    num_in, num_out : int
    stride : int
        Of the first convolution.
    """

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = Convolution(num_in, num_out, stride)
        self.second = Convolution(num_out, num_out)
        changes = stride != 1 or num_in != num_out
        self.shortcut = nn.Conv1d(num_in, num_out, 1, stride, bias=False) if changes else nn.Identity()

    def forward(self, x_BPD: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """Output (B, P / stride, D) and its positions: those whose kernel is centred on a constituent."""
        if self.stride > 1:
            slots = Slots(slots.mask_BP[:, :: self.stride])
        shortcut_BPD = self.shortcut(x_BPD.transpose(1, 2)).transpose(1, 2)
        return shortcut_BPD + self.second(self.first(x_BPD, slots), slots), slots


@register(PCNNConfig)
class PCNN(nn.Module):
    """Stem, stages of residual units that halve the positions from the second on, mean over positions, dense layers.

    Parameters
    ----------
    config : PCNNConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "p4", "mask")

    def __init__(self, config: PCNNConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.input_norm = MaskedBatchNorm(num_features)
        self.stem = Convolution(num_features, config.stem_width)
        units, num_in = [], config.stem_width
        for stage, width in enumerate(config.widths):
            for i in range(config.units_per_stage):
                units.append(ResidualUnit(num_in, width, stride=2 if stage and not i else 1))
                num_in = width
        self.units = nn.ModuleList(units)
        self.dense = nn.Linear(num_in, config.dense_width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.dense_width, num_classes)

    def forward(self, features: Tensor, p4: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of `features` (B, P, F), in the order of the pT of `p4` (B, P, 4), `mask` (B, P)."""
        pt_BP = torch.where(mask, kinematics.pt(p4), -torch.inf)
        order_BP = pt_BP.argsort(dim=1, descending=True)
        features = features.gather(1, order_BP[..., None].expand_as(features))
        mask, features = cut_empty_slots(mask.gather(1, order_BP), features)
        slots = Slots(mask)
        x_BPD = slots.padded(self.input_norm(slots.rows(features), slots.row_mask))
        x_BPD = self.stem(x_BPD, slots)
        for unit in self.units:
            x_BPD, slots = unit(x_BPD, slots)
        jet_BD = mean_over_slots(x_BPD, slots.mask_BP)
        logits_BC: Tensor = self.output(self.dropout(torch.relu(self.dense(jet_BD))))
        return logits_BC
