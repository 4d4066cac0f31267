"""Settings of networks that read scalars of a jet or an event instead of its constituents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from jetsweep.models._base import ModelConfig


class ScalarsConfig(ModelConfig):
    """Base of their configs."""

    features: Literal["scalars", "high-level"] = Field(
        "scalars", description="scalars: those named in `scalars`; high-level: the fifteen jet variables."
    )
    scalars: tuple[str, ...] = Field(min_length=1, description="Scalars that are read, as the dataset has them.")

    @field_validator("scalars")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"expected each scalar once, found {name!r} again")
        return names

    @property
    def named_scalars(self) -> tuple[str, ...]:
        return self.scalars if self.features == "scalars" else ()
