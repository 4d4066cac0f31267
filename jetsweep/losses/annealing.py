"""Weights of a loss's term that change with the epoch: KL annealing (arXiv:1903.10145) and VAE-Jet's tables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator


class _Schedule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConstantAnnealing(_Schedule):
    """The term has its full weight from the start."""

    name: Literal["constant"] = "constant"


class LinearAnnealing(_Schedule):
    """No weight at first, then a straight rise to the full weight."""

    name: Literal["linear"] = "linear"
    delay: NonNegativeInt = Field(0, description="First epoch, from 0, of the rise; it still has the weight 0.")
    rise: PositiveInt = Field(10, description="Epochs from the weight 0 to the full weight.")


class CyclicalAnnealing(_Schedule):
    """Several rises, each from the weight 0 and followed by a plateau; the last plateau has no end."""

    name: Literal["cyclical"] = "cyclical"
    delay: NonNegativeInt = Field(0, description="First epoch, from 0, of the first cycle; before it the weight is 0.")
    period: PositiveInt = Field(10, description="Epochs of one cycle.")
    rise: PositiveInt = Field(4, description="Epochs of a cycle from the weight 0 to the full weight.")
    cycles: PositiveInt = Field(3, description="Number of cycles.")

    @model_validator(mode="after")
    def _fits(self) -> CyclicalAnnealing:
        if self.rise > self.period:
            raise ValueError(f"rise={self.rise} is longer than period={self.period}")
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
"""Of every rise the epoch that still has the weight 0 and the epochs to the full weight."""


def annealing_weight(config: AnnealingConfig, epoch: int) -> float:
    """Weight of the term in `epoch`.

    Parameters
    ----------
    config : AnnealingConfig
    epoch : int
        From 0.

    Returns
    -------
    float
        Between 0 and 1.
    """
    match config:
        case ConstantAnnealing():
            return 1.0
        case LinearAnnealing():
            rises: tuple[tuple[int, int], ...] = ((config.delay, config.rise),)
        case CyclicalAnnealing():
            rises = tuple((config.delay + i * config.period, config.rise) for i in range(config.cycles))
        case PublishedAnnealing():
            rises = _TABLES[config.table]
    begun = [rise for rise in rises if rise[0] <= epoch]
    if not begun:
        return 0.0
    start, length = begun[-1]
    return min(1.0, (epoch - start) / length)
