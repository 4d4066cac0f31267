"""Dense network on the flattened constituents, the DNN of the ATLAS top-tagging study (arXiv:2407.20127).

Every constituent has its own weights: the order of the slots, descending pT in every dataset, matters.
"""

# Shapes: B jets, P constituent slots given, S slots of the network, F features per constituent, D = S·F, C outputs.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._dense import initialised
from jetsweep.models._features import ATLAS_CONSTITUENTS
from jetsweep.models._layers import MaskedBatchNorm


class DNNConfig(ModelConfig):
    """Constituent DNN; the defaults are the published network."""

    name: Literal["dnn"] = "dnn"
    features: str = Field("atlas7", description="Feature set of the constituents.")
    binary_output: Literal["softmax", "sigmoid"] = Field("sigmoid", description="One sigmoid output, as published.")
    num_constituents: PositiveInt = Field(
        ATLAS_CONSTITUENTS, description="Hardest constituents S that enter; jets with fewer are filled up with zeros."
    )
    width: PositiveInt = Field(400, description="Width of every hidden layer.")
    num_layers: PositiveInt = Field(5, description="Number of hidden layers.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout after every hidden layer.")


@register(DNNConfig)
class DNN(nn.Module):
    """Batch norm of the S × F inputs, then dense layers with batch norm and ReLU, Glorot-uniform weights.

    The input norm of a slot sees the jets that fill it (the published one also the zeros of the others); what it gives
    for empty slots is set to 0, the mean.

    Parameters
    ----------
    config : DNNConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "mask")

    def __init__(self, config: DNNConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_constituents = config.num_constituents
        num_in = config.num_constituents * num_features
        self.input_norm = MaskedBatchNorm(num_in)
        layers: list[nn.Module] = []
        for _ in range(config.num_layers):
            linear = initialised(nn.Linear(num_in, config.width), "glorot-uniform")
            layers += [linear, MaskedBatchNorm(config.width), nn.ReLU()]
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
            num_in = config.width
        self.dense = nn.Sequential(*layers)
        self.output = initialised(nn.Linear(num_in, num_classes), "glorot-uniform")

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of `features` (B, P, F) where `mask` (B, P) is True, slots in descending pT."""
        # whatever P is, S slots come out; a graph whose P is free can hold this
        size = self.num_constituents
        mask_BS = F.pad(mask, (0, size), value=False)[:, :size]
        features = F.pad(features, (0, 0, 0, size))[:, :size]
        mask_BD = mask_BS[..., None].expand_as(features).flatten(1)
        x_BD = torch.where(mask_BD, features.flatten(1), 0.0)
        x_BD = torch.where(mask_BD, self.input_norm(x_BD, mask_BD), 0.0)
        logits_BC: Tensor = self.output(self.dense(x_BD))
        return logits_BC
