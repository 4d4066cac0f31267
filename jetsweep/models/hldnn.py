"""Dense network on fifteen high-level jet variables, the hlDNN of the ATLAS top-tagging study (arXiv:2407.20127)."""

# Shapes: B jets, F variables, C outputs.

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._dense import dense_stack, initialised


class HlDNNConfig(ModelConfig):
    """High-level dense network; the defaults are the published network."""

    name: Literal["hldnn"] = "hldnn"
    features: str = Field("high-level", description="Feature set of the jet.")
    binary_output: Literal["softmax", "sigmoid"] = Field("sigmoid", description="One sigmoid output, as published.")
    width: PositiveInt = Field(180, description="Width of every hidden layer.")
    num_layers: PositiveInt = Field(5, description="Number of hidden layers.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout after every hidden layer.")


@register(HlDNNConfig)
class HlDNN(nn.Module):
    """Dense layers with ReLU, Glorot-uniform weights.

    Parameters
    ----------
    config : HlDNNConfig
    num_features : int
        Variables F per jet.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("jet_features",)

    def __init__(self, config: HlDNNConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        sizes = (num_features, *[config.width] * config.num_layers)
        self.dense = dense_stack(sizes, "glorot-uniform", config.dropout)
        self.output = initialised(nn.Linear(sizes[-1], num_classes), "glorot-uniform")

    def forward(self, jet_features: Tensor) -> Tensor:
        """Logits, shape (B, C), of the variables `jet_features`, shape (B, F)."""
        logits_BC: Tensor = self.output(self.dense(jet_features))
        return logits_BC
