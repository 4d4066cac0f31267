"""Energy-based model of constituents, trained against short runs of Langevin dynamics (arXiv:2302.00695)."""

# Shapes: B jets, P constituent slots given, S slots of the network, F features per constituent.

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from jetsweep.losses._precision import at_least_single
from jetsweep.models._autoencoder_parts import INITIALISER, DeepSetEncoder, DenseEncoder, TransformerEncoder
from jetsweep.models._base import register
from jetsweep.models._dense import initialised
from jetsweep.models._density import Density, DensityConfig
from jetsweep.models._row_noise import normal_of_rows


class EBMConfig(DensityConfig):
    """Energy of the hardest constituents: by default of 40, from eight layers of attention."""

    normalised: ClassVar[bool] = False

    name: Literal["ebm"] = "ebm"
    features: str = Field(
        "aligned", description="Feature set of the constituents; samples begin as normal noise in it."
    )
    num_constituents: PositiveInt = Field(40, description="Hardest constituents S that enter.")
    encoder: Literal["transformer", "deep-set", "dense"] = Field("transformer", description="Kind of encoder.")
    widths: tuple[PositiveInt, ...] = Field((128,), min_length=1, description="Dense layers of the jet.")
    set_width: PositiveInt = Field(128, description="Width of constituents in the deep-set and transformer encoders.")
    num_layers: PositiveInt = Field(8, description="Constituent layers of these encoders.")
    num_heads: PositiveInt = Field(16, description="Attention heads of the transformer encoder.")
    start_width: PositiveFloat = Field(
        0.3, description="Standard deviation of the noise that samples begin as: somewhat wider than the features."
    )
    langevin_steps: PositiveInt = Field(24, description="Steps from noise to a sample of the model.")
    step_size: PositiveFloat = Field(0.1, description="Factor on the slope of the energy in a step.")
    step_noise: NonNegativeFloat = Field(0.005, description="Standard deviation of the noise of a step.")
    regularisation: NonNegativeFloat = Field(0.1, description="Weight of the squared energies of jets and samples.")

    @model_validator(mode="after")
    def _heads_fit(self) -> EBMConfig:
        if self.encoder == "transformer" and self.set_width % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide set_width={self.set_width}")
        return self


@register(EBMConfig)
class EBM(nn.Module):
    """Encoder and one energy per jet: the lower, the more probable.

    In training every jet is contrasted with a sample of the model that has as many constituents, so that the energy is
    that of constituents given their number. Noise follows from a jet's row and the number of calls so far, so that it
    does not depend on how a batch is spread over ranks. In evaluation nothing is sampled.

    Parameters
    ----------
    config : EBMConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Not used: the output is an energy.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "mask", "rows")

    def __init__(self, config: EBMConfig, num_features: int, num_classes: int = 0) -> None:
        super().__init__()
        self.config = config
        self.encoder: DenseEncoder | DeepSetEncoder | TransformerEncoder
        match config.encoder:
            case "dense":
                self.encoder = DenseEncoder(config.num_constituents, num_features, config.widths)
            case "deep-set":
                self.encoder = DeepSetEncoder(num_features, (config.set_width,) * config.num_layers, config.widths)
            case "transformer":
                self.encoder = TransformerEncoder(
                    num_features, config.set_width, config.num_layers, config.num_heads, config.widths
                )
        self.output = initialised(nn.Linear(self.encoder.width, 1), INITIALISER)
        self.register_buffer("key", torch.randint(0, 2**31, ()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.key: Tensor
        self.calls: Tensor

    def forward(self, features: Tensor, mask: Tensor, rows: Tensor | None = None) -> Density:
        """Energy of `features` (B, P, F) where `mask` (B, P) is True, slots in descending pT.

        `rows` (B,), int64, are the numbers of the jets in their split; their place in the batch if not given.
        """
        # whatever P is, S slots come out; a graph whose P is free can hold this
        size = self.config.num_constituents
        mask_BS = F.pad(mask, (0, size), value=False)[:, :size]
        x_BSF = F.pad(features, (0, 0, 0, size))[:, :size]
        x_BSF = torch.where(mask_BS[..., None], x_BSF, 0.0)
        energy_B = self.energy(x_BSF, mask_BS)
        if not self.training:
            return Density(energy_B, energy_B)
        rows = torch.arange(len(x_BSF), device=x_BSF.device) if rows is None else rows
        sample_energy_B = self.energy(self.sample(x_BSF, mask_BS, rows), mask_BS)
        squares_B = energy_B.square() + sample_energy_B.square()
        loss_B = energy_B - sample_energy_B + self.config.regularisation * squares_B
        return Density(energy_B, loss_B, sample_energy_B)

    def energy(self, x_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Energy of every jet, shape (B,)."""
        return at_least_single(self.output(self.encoder(x_BSF, mask_BS))[:, 0])

    @torch.no_grad()
    def sample(self, like_BSF: Tensor, mask_BS: Tensor, rows: Tensor) -> Tensor:
        """Constituents by Langevin dynamics in the energy from normal noise, shape (B, S, F)."""
        config, shape = self.config, like_BSF.shape

        def noise(step: int) -> Tensor:
            call = self.calls * (config.langevin_steps + 1) + step
            found_BSF = normal_of_rows(rows, shape[1] * shape[2], self.key, call).view(shape).to(like_BSF.dtype)
            return torch.where(mask_BS[..., None], found_BSF, 0.0)

        x_BSF = config.start_width * noise(0)
        for step in range(config.langevin_steps):
            x_BSF = x_BSF + config.step_noise * noise(step + 1)
            x_BSF = torch.where(mask_BS[..., None], x_BSF - config.step_size * self._slope(x_BSF, mask_BS), 0.0)
        self.calls += 1
        return x_BSF

    def _slope(self, x_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Derivative of the energy by the features, shape (B, S, F); parameters gather no gradient."""
        if torch.compiler.is_compiling():  # it cannot follow autograd.grad, and torch.func bears no one else's hooks
            found_BSF: Tensor = torch.func.grad(lambda x_BSF: self.energy(x_BSF, mask_BS).sum())(x_BSF)
            return found_BSF
        # hooks of its own: what is saved here is gone before the loss, and no one else's to count
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
        with torch.enable_grad(), hooks:
            x_BSF = x_BSF.detach().requires_grad_()
            (slope_BSF,) = torch.autograd.grad(self.energy(x_BSF, mask_BS).sum(), x_BSF)
        return slope_BSF
