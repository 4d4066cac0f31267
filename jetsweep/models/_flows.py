"""Densities by normalising flows of the package zuko (extra `flows`)."""

# Shapes: B jets, D numbers per jet.

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from jetsweep.errors import JetsweepError
from jetsweep.losses._precision import at_least_single


class FlowSettings(BaseModel):
    """Shape of an autoregressive flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["nsf", "maf"] = Field(
        "nsf", description="Rational-quadratic splines (arXiv:1906.04032), or affine maps (arXiv:1705.07057)."
    )
    transforms: PositiveInt = Field(3, description="Autoregressive transformations.")
    widths: tuple[PositiveInt, ...] = Field(
        (64, 64), min_length=1, description="Hidden layers of the network of each transformation."
    )
    bins: PositiveInt = Field(8, description="Bins of each spline of nsf.")


def zuko_for(what: str) -> Any:
    """Return the package zuko; raise a `JetsweepError` where it is not installed.

    Parameters
    ----------
    what : str
        Setting that needs it, which begins the sentence.
    """
    try:
        import zuko
    except ImportError as error:
        raise JetsweepError(f"{what} needs the package zuko, not installed: pip install 'jetsweep[flows]'") from error
    return zuko


class DensityFlow(nn.Module):
    """Density of vectors, normalised, in float32 whatever the precision around it.

    Parameters
    ----------
    num_dimensions : int
        Numbers D per vector.
    settings : FlowSettings
    what : str
        Setting that asks for the flow, for messages.
    standardise : bool
        Put a learned shift and scale in front: splines act on [-5, 5] alone, and what they see may be of any size.

    Raises
    ------
    JetsweepError
        If zuko is not installed.
    """

    def __init__(self, num_dimensions: int, settings: FlowSettings, what: str, standardise: bool = False) -> None:
        super().__init__()
        flows = zuko_for(what).flows
        sizes = {"transforms": settings.transforms, "hidden_features": settings.widths}
        with torch.device("cpu"):  # zuko looks at values while it builds, which a meta device has none of
            if settings.kind == "nsf":
                flow = flows.NSF(num_dimensions, bins=settings.bins, **sizes)
            else:
                flow = flows.MAF(num_dimensions, **sizes)
            self.transforms = nn.ModuleList(flow.transform.transforms)
            if standardise:
                affine = flows.ElementWiseTransform(num_dimensions)
                for parameter in affine.parameters():
                    nn.init.zeros_(parameter)
                self.transforms.insert(0, affine)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Minus the logarithm of the density, shape (B,), in nat."""
        with torch.autocast(x_BD.device.type, enabled=False):
            z_BD = at_least_single(x_BD)
            log_volume_B = torch.zeros_like(z_BD[:, 0])
            # step by step: torch.compile cannot follow the package's own chain
            for transform in self.transforms:
                z_BD, change_B = transform().call_and_ladj(z_BD)
                log_volume_B = log_volume_B + change_B
            return 0.5 * (z_BD.square() + math.log(2 * math.pi)).sum(dim=1) - log_volume_B
