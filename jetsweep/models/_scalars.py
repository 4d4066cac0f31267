"""Settings of networks that read scalars of a jet or an event instead of its constituents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jetsweep.models._base import ModelConfig, ScalarNames


class ScalarsConfig(ModelConfig):
    """Base of their configs."""

    features: Literal["scalars", "high-level"] = Field(
        "scalars", description="scalars: those named in `scalars`; high-level: the fifteen jet variables."
    )
    scalars: ScalarNames = Field(min_length=1, description="Scalars that are read, as the dataset has them.")

    @property
    def named_scalars(self) -> tuple[str, ...]:
        return self.scalars if self.features == "scalars" else ()
