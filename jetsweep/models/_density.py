"""What models of the density of jets share: their outputs."""

# Shapes: B jets.

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from jetsweep.models._base import ModelConfig


class Density(NamedTuple):
    """What a model of the density of jets returns.

    Parameters
    ----------
    energy : Tensor, shape (B,)
        Minus the logarithm of the density, in nat; if the model is not `normalised`, but for a constant.
    loss : Tensor, shape (B,)
        What training lowers; in evaluation the energy.
    sample_energy : Tensor, shape (B,), or None
        Of a sample of the model's own for every jet; only of models that are not normalised, while training.
    """

    energy: Tensor
    loss: Tensor
    sample_energy: Tensor | None = None


class DensityConfig(ModelConfig):
    """Base of the configs of models that return a `Density`."""

    outputs: ClassVar[str] = "density"
    normalised: ClassVar[bool]
    """Whether the density integrates to 1."""
