"""Residual network on jet images, the ResNet50 of the ATLAS top-tagging study (arXiv:1512.03385, arXiv:2407.20127).

The image is made on the device, inside the network. Unlike the published one, which adds up logarithms of momenta, a
pixel holds the share of the jet's pT that it collects.
"""

# Shapes: B jets, P constituent slots, S pixels on a side, D channels, H and W rows and columns, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm
from jetsweep.physics.images import jet_images

EXPANSION = 4
"""Output channels of a bottleneck over its inner width."""


class ResNetConfig(ModelConfig):
    """Residual network on jet images; the defaults are the published network."""

    name: Literal["resnet"] = "resnet"
    features: str = Field(
        "aligned", description="Feature set with momentum fractions and angles: aligned, aligned-flip, energyflow."
    )
    binary_output: Literal["softmax", "sigmoid"] = Field("sigmoid", description="One sigmoid output, as published.")
    num_pixels: PositiveInt = Field(64, ge=8, description="Pixels on a side of the image.")
    half_width: PositiveFloat = Field(2.0, description="The image covers [-half_width, half_width] in both angles.")
    num_blocks: tuple[PositiveInt, ...] = Field((3, 4, 6, 3), min_length=1, description="Blocks of every stage.")
    base_width: PositiveInt = Field(16, description="Channels of the stem; inner width of the first stage's blocks.")
    dropout: float = Field(0.5, ge=0.0, lt=1.0, description="Dropout before the output.")


class ImageBatchNorm(MaskedBatchNorm):
    """Batch norm of channels over all pixels of all jets of all ranks."""

    def forward(self, x_BDHW: Tensor, row_mask: Tensor | None = None) -> Tensor:
        """Normalise images, shape (B, D, H, W)."""
        x_BHWD = x_BDHW.permute(0, 2, 3, 1)
        return super().forward(x_BHWD.flatten(0, 2), row_mask).view(x_BHWD.shape).permute(0, 3, 1, 2)


def _convolution(num_in: int, num_out: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(num_in, num_out, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, ImageBatchNorm(num_out))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with batch norm, added to the input or to a 1×1 convolution of it.

    Parameters
    ----------
    num_in, width : int
        Channels that enter, and inner channels; `EXPANSION` × `width` leave.
    stride : int
        Of the 3×3 convolution.
    """

    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        num_out = EXPANSION * width
        self.reduce = _convolution(num_in, width, 1)
        self.spatial = _convolution(width, width, 3, stride)
        self.expand = _convolution(width, num_out, 1)
        changes = stride != 1 or num_in != num_out
        self.shortcut = _convolution(num_in, num_out, 1, stride) if changes else nn.Identity()

    def forward(self, x_BDHW: Tensor) -> Tensor:
        h_BDHW = torch.relu(self.spatial(torch.relu(self.reduce(x_BDHW))))
        return torch.relu(self.expand(h_BDHW) + self.shortcut(x_BDHW))


@register(ResNetConfig)
class ResNet(nn.Module):
    """Image of momentum fractions, stem, stages of bottlenecks that halve the image from the second on, mean, output.

    Parameters
    ----------
    config : ResNetConfig
    num_features : int
        Ignored: the image takes momentum fractions and two angles.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("z", "angles", "mask")

    def __init__(self, config: ResNetConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_pixels, self.half_width = config.num_pixels, config.half_width
        self.stem = _convolution(1, config.base_width, 7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        num_in = config.base_width
        for stage, num_blocks in enumerate(config.num_blocks):
            width = config.base_width * 2**stage
            for i in range(num_blocks):
                blocks.append(Bottleneck(num_in, width, stride=2 if stage and not i else 1))
                num_in = EXPANSION * width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(num_in, num_classes)

    def image(self, z: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        """What the stem sees, shape (B, 1, S, S).

        S times the share of pT in each pixel: the root mean square is then √Σz², of order one, whatever S is.
        """
        z_BP = torch.where(mask, z, 0.0)
        angles_BP2 = torch.where(mask[..., None], angles, 0.0)
        image_BSS = self.num_pixels * jet_images(angles_BP2, z_BP, self.num_pixels, self.half_width)
        # channels last: batch norm then takes pixels as rows without copying
        return image_BSS[:, None].contiguous(memory_format=torch.channels_last)

    def forward(self, z: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of momentum fractions `z` (B, P) at `angles` (B, P, 2) where `mask` (B, P) is True."""
        x_BDHW = self.pool(torch.relu(self.stem(self.image(z, angles, mask))))
        jet_BD = self.blocks(x_BDHW).mean(dim=(2, 3))
        logits_BC: Tensor = self.output(self.dropout(jet_BD))
        return logits_BC
