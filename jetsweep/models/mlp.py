"""Dense network on named scalars, by default the classifier of the CATHODE study (arXiv:2109.00546)."""

# Shapes: B jets or events, F scalars, C outputs.

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ScalarNames, register
from jetsweep.models._dense import dense_stack, initialised
from jetsweep.models._scalars import ScalarsConfig

DIJET = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")
"""Features of the LHC Olympics study, without the resonant variable."""


class MLPConfig(ScalarsConfig):
    """Dense network on scalars; the defaults are the published classifier without the resonant mass."""

    name: Literal["mlp"] = "mlp"
    scalars: ScalarNames = Field(DIJET, min_length=1, description="Scalars that are read, as the dataset has them.")
    binary_output: Literal["softmax", "sigmoid"] = Field("sigmoid", description="One sigmoid output, as published.")
    widths: tuple[PositiveInt, ...] = Field((64, 64, 64), description="Width of every hidden layer.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout after every hidden layer.")


@register(MLPConfig)
class MLP(nn.Module):
    """Dense layers with ReLU, He-uniform weights.

    Parameters
    ----------
    config : MLPConfig
    num_features : int
        Scalars F.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("jet_features",)

    def __init__(self, config: MLPConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        sizes = (num_features, *config.widths)
        self.dense = dense_stack(sizes, "he-uniform", config.dropout)
        self.output = initialised(nn.Linear(sizes[-1], num_classes), "glorot-uniform")

    def forward(self, jet_features: Tensor) -> Tensor:
        """Logits, shape (B, C), of the standardised scalars `jet_features`, shape (B, F)."""
        logits_BC: Tensor = self.output(self.dense(jet_features))
        return logits_BC
