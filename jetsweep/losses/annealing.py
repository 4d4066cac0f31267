"""Weights of a loss's term that change with the epoch: KL annealing (arXiv:1903.10145) and VAE-Jet's tables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator


class _Schedule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConstantAnnealing(_Schedule):
    """The term has its full weight from the start."""

    name: Literal["constant"] = "constant"


class LinearAnnealing(_Schedule):
    """No weight at first, then a straight rise to the full weight."""

    name: Literal["linear"] = "linear"
    delay: NonNegativeFloat = Field(
        0, description="Epoch, from 0, at which the rise begins; before it the weight is 0."
    )
    rise: PositiveFloat = Field(10, description="Epochs from the weight 0 to the full weight.")


class CyclicalAnnealing(_Schedule):
    """Several rises, each from the weight 0 and followed by a plateau; the last plateau has no end."""

    name: Literal["cyclical"] = "cyclical"
    delay: NonNegativeFloat = Field(
        0, description="Epoch, from 0, at which the first cycle begins; before it the weight is 0."
    )
    period: PositiveFloat = Field(10, description="Epochs of one cycle.")
    rise: PositiveFloat = Field(4, description="Epochs of a cycle from the weight 0 to the full weight.")
    cycles: PositiveInt = Field(3, description="Number of cycles.")

    @model_validator(mode="after")
    def _fits(self) -> CyclicalAnnealing:
        if self.rise > self.period:
            raise ValueError(f"rise={self.rise:g} is longer than period={self.period:g}")
        return self


class PublishedAnnealing(_Schedule):
    """A table of VAE-Jet (arXiv:2007.01850)."""

    name: Literal["published"] = "published"
    table: Literal["vae-jet", "vae-jet-tf1", "disco", "outlier-exposure"] = Field(
        "vae-jet",
        description="KL weight of the later (`vae-jet`) or first (`vae-jet-tf1`) version, or weight of the penalty of "
        "DisCo-VAE (`disco`) or OE-VAE (`outlier-exposure`).",
    )


AnnealingConfig = Annotated[
    ConstantAnnealing | LinearAnnealing | CyclicalAnnealing | PublishedAnnealing, Field(discriminator="name")
]

_TABLES: dict[str, tuple[tuple[int, int], ...]] = {
    "vae-jet": ((0, 4), (10, 4), (20, 4)),
    "vae-jet-tf1": ((1, 29), (61, 29), (121, 29)),
    "disco": ((10, 9), (30, 9)),
    "outlier-exposure": ((10, 4), (20, 4), (30, 4)),
}


def annealing_weight(config: AnnealingConfig, epoch: float) -> float:
    """Weight of the term at `epoch`, which depends on nothing else.

    Parameters
    ----------
    config : AnnealingConfig
    epoch : float
        From 0. Step / steps per epoch makes rises straight lines; its whole part makes them the steps of the published
        trainings, which keep a weight for an epoch.

    Returns
    -------
    float
        Between 0 and 1.
    """
    begun = [rise for rise in _rises(config) if rise[0] <= epoch]
    if not begun:
        return 0.0
    start, length = begun[-1]
    return min(1.0, (epoch - start) / length) if length else 1.0


def _rises(config: AnnealingConfig) -> tuple[tuple[float, float], ...]:
    """Of every rise the epoch where it begins and the epochs to the full weight."""
    match config:
        case ConstantAnnealing():
            return ((0, 0),)
        case LinearAnnealing():
            return ((config.delay, config.rise),)
        case CyclicalAnnealing():
            return tuple((config.delay + i * config.period, config.rise) for i in range(config.cycles))
        case PublishedAnnealing():
            return _TABLES[config.table]
