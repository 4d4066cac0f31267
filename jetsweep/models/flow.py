"""Density of a jet's scalars by a normalising flow, as a detector of anomalies (arXiv:2001.04990 does it in bumps)."""

# Shapes: B jets, F scalars.

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from jetsweep.models._base import ScalarNames, register
from jetsweep.models._density import Density, DensityConfig
from jetsweep.models._flows import DensityFlow, FlowSettings, zuko_for
from jetsweep.models._scalars import ScalarsConfig

WHAT = "model.name: flow"


class FlowModelConfig(FlowSettings, ScalarsConfig, DensityConfig):
    """Autoregressive flow of scalars. Needs the extra `flows`."""

    normalised: ClassVar[bool] = True

    name: Literal["flow"] = "flow"
    features: Literal["scalars", "high-level"] = Field(
        "high-level", description="scalars: those named in `scalars`; high-level: the fifteen jet variables."
    )
    scalars: ScalarNames = Field(
        ("jet_mass", "jet_pt"), min_length=1, description="Scalars that are read, as the dataset has them."
    )


@register(FlowModelConfig)
class Flow(nn.Module):
    """Density of the standardised scalars, learned by maximum likelihood.

    Parameters
    ----------
    config : FlowModelConfig
    num_features : int
        Scalars F.
    num_classes : int
        Not used: the output is a density.

    Raises
    ------
    JetsweepError
        If zuko is not installed.
    """

    inputs: ClassVar[tuple[str, ...]] = ("jet_features",)

    def __init__(self, config: FlowModelConfig, num_features: int, num_classes: int = 0) -> None:
        super().__init__()
        self.flow = DensityFlow(num_features, config, WHAT)

    @staticmethod
    def require_packages() -> None:
        """Raise a `JetsweepError` where zuko is not installed."""
        zuko_for(WHAT)

    def forward(self, jet_features: Tensor) -> Density:
        """-ln p of the standardised scalars `jet_features`, shape (B, F); that of the scalars differs by a constant."""
        energy_B: Tensor = self.flow(jet_features)
        return Density(energy_B, energy_B)
