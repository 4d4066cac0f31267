"""ParticleNet-Lite: the small ParticleNet of the same paper (arXiv:1902.08570)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from jetsweep.models._base import register
from jetsweep.models.particlenet import ParticleNet, ParticleNetConfig


class ParticleNetLiteConfig(ParticleNetConfig):
    """ParticleNet-Lite; the defaults are the published network."""

    name: Literal["particlenet-lite"] = "particlenet-lite"  # type: ignore[assignment]
    num_neighbours: PositiveInt = Field(7, description="Nearest neighbours K of each constituent.")
    widths: tuple[tuple[PositiveInt, ...], ...] = Field(
        ((32, 32, 32), (64, 64, 64)), min_length=1, description="Layer widths of every edge block."
    )
    dense_width: PositiveInt = Field(128, description="Width of the layer before the output.")


@register(ParticleNetLiteConfig)
class ParticleNetLite(ParticleNet):
    """ParticleNet with two narrow edge blocks.

    Parameters
    ----------
    config : ParticleNetLiteConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Outputs C.
    """
