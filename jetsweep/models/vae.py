"""Auto-encoders of jets, variational or plain: the beta-VAE of VAE-Jet (arXiv:2007.01850) and its relatives."""

# Shapes: B jets, P constituent slots given, S slots of the network, F features per constituent, L latents, K samples.
# Variables of the jet are one slot of F features.

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from jetsweep.losses.emd import sinkhorn_emd
from jetsweep.losses.reconstruction import chamfer_error, gaussian_error, reconstruction_error
from jetsweep.models._autoencoder_parts import (
    DeepSetEncoder,
    DenseDecoder,
    DenseEncoder,
    LSTMDecoder,
    LSTMEncoder,
    TransformerEncoder,
)
from jetsweep.models._base import JET_VARIABLES, JetScaling, ModelConfig, ScalarNames, register
from jetsweep.models._flows import DensityFlow, FlowSettings, zuko_for
from jetsweep.models._row_noise import normal_of_rows

Z_AND_ANGLES = ("energyflow", "aligned", "aligned-flip")
"""Feature sets of a momentum fraction and two angles, between which an energy mover's distance is defined."""
NEEDS_CONSTITUENTS = ("lstm", "deep-set", "transformer", "chamfer", "emd")
"""Encoders, decoders and reconstruction errors of a sequence or a set, which the variables of a jet are not."""
LIKELIHOODS = ("mse", "mae", "gaussian")
"""Errors that are the negative logarithm of a density but for a constant: unit normal, unit Laplace, normal."""
LATENT_FLOW = "model.latent_flow"


class Reconstruction(NamedTuple):
    """What an auto-encoder returns.

    Parameters
    ----------
    error : Tensor, shape (B,)
        Of the kind that the network is trained with.
    target, output : Tensor, shape (B, S, F)
        What entered, in the scaled features, and what came out; for sets the slots of `output` have no order.
    mask : Tensor, shape (B, S), bool
        Slots of `target` with a constituent.
    mean : Tensor, shape (B, L)
        Latent coordinates; of a VAE the mean of the posterior.
    log_variance : Tensor, shape (B, L), or None
        Of the posterior; None for a plain auto-encoder.
    error_of_mean : Tensor, shape (B,), or None
        The error without latent noise, which is what scores are made of; only while training with `decode_mean`.
    log_weights : Tensor, shape (B, K), or None
        ln p(x|z) + ln p(z) - ln q(z|x) of K samples z of the posterior, in nat; only in evaluation.
    latent_nll : Tensor, shape (B,), or None
        -ln p(mean) by a flow that learns the density of `mean` and lets no gradient through to it, in nat; only with
        `latent_flow`.
    """

    error: Tensor
    target: Tensor
    output: Tensor
    mask: Tensor
    mean: Tensor
    log_variance: Tensor | None = None
    error_of_mean: Tensor | None = None
    log_weights: Tensor | None = None
    latent_nll: Tensor | None = None

    @property
    def training_error(self) -> Tensor:
        """What is lowered, shape (B,): the error, or its mean with that of the mean where both are there.

        A decoder that is trained on noisy latents alone is free at their mean, so a penalty on scores would be paid
        there, with nothing to hold the reconstruction.
        """
        return self.error if self.error_of_mean is None else (self.error + self.error_of_mean) / 2


class VAEConfig(ModelConfig):
    """Auto-encoder of the hardest constituents, or of jet variables; the defaults are VAE-Jet's dense network."""

    outputs: ClassVar[str] = "reconstruction"

    name: Literal["vae"] = "vae"
    features: str = Field(
        "aligned-p4",
        description="Feature set of the constituents; or high-level: the fifteen jet variables, scalars: those named "
        "in `scalars`.",
    )
    scalars: ScalarNames = Field((), description="Scalars that are read, as the dataset has them.")
    scaling: JetScaling = Field(
        "standard",
        description="Of jet variables, over the training background: mean and standard deviation, or (robust) median "
        "and interquartile range. Constituents have that of their feature set.",
    )
    num_constituents: PositiveInt = Field(
        20, description="Hardest constituents S that enter; jets with fewer are filled up with zeros."
    )
    encoder: Literal["dense", "lstm", "deep-set", "transformer"] = Field("dense", description="Kind of encoder.")
    decoder: Literal["dense", "lstm"] = Field("dense", description="Kind of decoder.")
    widths: tuple[PositiveInt, ...] = Field(
        (256, 128, 64), min_length=1, description="Dense layers of the encoder; those of the decoder in reverse."
    )
    lstm_widths: tuple[PositiveInt, ...] = Field(
        (50, 10), min_length=1, description="LSTMs of the encoder; the decoder has the first alone."
    )
    set_width: PositiveInt = Field(64, description="Width of constituents in the deep-set and transformer encoders.")
    num_layers: PositiveInt = Field(2, description="Constituent layers of these encoders.")
    num_heads: PositiveInt = Field(4, description="Attention heads of the transformer encoder.")
    latent: PositiveInt = Field(10, description="Latent dimensions L.")
    variational: bool = Field(True, description="A VAE (arXiv:1312.6114); false: a plain auto-encoder.")
    noise: NonNegativeFloat = Field(
        1.0, description="Factor on the latent noise while training; scores are always those of the posterior's mean."
    )
    decode_mean: bool = Field(
        False,
        description="Reconstruct from the posterior's mean while training too, half the error each: for task.disco.of: "
        "score.",
    )
    reconstruction: Literal["mse", "mae", "huber", "gaussian", "chamfer", "emd"] = Field(
        "mse",
        description="Reconstruction error: by slot (gaussian: the width of every slot and feature is learned), or of "
        "sets (chamfer, emd).",
    )
    huber_delta: PositiveFloat = Field(1.0, description="Border between quadratic and linear of huber.")
    emd_radius: PositiveFloat = Field(1.0, description="Distance that costs 1 in emd.")
    emd_smoothing: PositiveFloat = Field(0.01, description="Entropic regularisation of emd, in units of its cost.")
    emd_iterations: PositiveInt = Field(50, description="Sinkhorn iterations of emd.")
    posterior_samples: NonNegativeInt = Field(
        0, description="Samples K of each jet's posterior in evaluation, for the scores negative_elbo and iwae."
    )
    latent_flow: FlowSettings | None = Field(
        None, description="Density of the latent coordinates, for the score latent_density; the rest learns as without."
    )

    @model_validator(mode="after")
    def _inputs_fit(self) -> VAEConfig:
        of_the_jet = self.features in JET_VARIABLES
        if (self.features == "scalars") != bool(self.scalars):
            wanted = "one or more names" if self.features == "scalars" else "none"
            raise ValueError(f"scalars: expected {wanted} beside features: {self.features}, found {list(self.scalars)}")
        if self.scaling == "robust" and not of_the_jet:
            raise ValueError(f"scaling: expected standard beside features: {self.features}, which has its own scaling")
        kinds = {"encoder": self.encoder, "decoder": self.decoder, "reconstruction": self.reconstruction}
        for key, kind in kinds.items() if of_the_jet else ():
            if kind in NEEDS_CONSTITUENTS:
                raise ValueError(f"{key}: {kind} needs constituents, found features: {self.features} of the jet")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> VAEConfig:
        if self.encoder == "transformer" and self.set_width % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide set_width={self.set_width}")
        if self.reconstruction == "emd" and self.features not in Z_AND_ANGLES:
            raise ValueError(
                f"reconstruction: emd compares momentum fractions at angles, the features {', '.join(Z_AND_ANGLES)}; "
                f"found {self.features}"
            )
        if self.posterior_samples and not (self.variational and self.reconstruction in LIKELIHOODS):
            raise ValueError(
                f"posterior_samples: expected 0 unless the network is variational with one of {', '.join(LIKELIHOODS)},"
                f" found {self.posterior_samples}"
            )
        return self

    def require_packages(self) -> None:
        super().require_packages()
        if self.latent_flow is not None:
            zuko_for(LATENT_FLOW)

    @property
    def has_order(self) -> bool:
        """Whether each slot of the output stands for the same slot of the target."""
        return self.reconstruction not in ("chamfer", "emd")

    @property
    def num_slots(self) -> int:
        """Slots S of the network: 1 for variables of the jet."""
        return 1 if self.features in JET_VARIABLES else self.num_constituents

    @property
    def named_scalars(self) -> tuple[str, ...]:
        return self.scalars

    @property
    def jet_scaling(self) -> JetScaling:
        return self.scaling


@register(VAEConfig)
class VAE(nn.Module):
    """Encoder, Gaussian posterior with a unit normal prior, decoder.

    While training, latent noise follows from a jet's row and the number of calls so far, so that it does not depend on
    how a batch is spread over ranks; in evaluation the decoder sees the posterior's mean.

    Parameters
    ----------
    config : VAEConfig
    num_features : int
        Features F per constituent, or variables of the jet.
    num_classes : int
        Not used: the output is the input.

    Raises
    ------
    JetsweepError
        If `config.latent_flow` needs a package that is not installed.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "mask", "rows")
    jet_inputs: ClassVar[tuple[str, ...]] = ("jet_features", "rows")

    def __init__(self, config: VAEConfig, num_features: int, num_classes: int = 0) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config, num_features)
        self.mean = nn.Linear(self.encoder.width, config.latent)
        self.log_variance = nn.Linear(self.encoder.width, config.latent) if config.variational else None
        size = (config.num_slots, num_features)
        self.decoder: nn.Module
        if config.decoder == "dense":
            self.decoder = DenseDecoder(config.latent, config.widths[::-1], *size)
        else:
            self.decoder = LSTMDecoder(config.latent, config.lstm_widths[:1], *size)
        self.output_log_variance = nn.Parameter(torch.zeros(size)) if config.reconstruction == "gaussian" else None
        self.register_buffer("key", torch.randint(0, 2**31, ()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.key: Tensor
        self.calls: Tensor
        # last, so that the other weights are those of a network without it
        self.latent_flow = None
        if config.latent_flow is not None:
            self.latent_flow = DensityFlow(config.latent, config.latent_flow, LATENT_FLOW, standardise=True)

    def forward(
        self,
        features: Tensor | None = None,
        mask: Tensor | None = None,
        rows: Tensor | None = None,
        jet_features: Tensor | None = None,
    ) -> Reconstruction:
        """Encode and decode `features` (B, P, F) where `mask` (B, P) is True, slots in descending pT.

        Or `jet_features` (B, F) instead of both. `rows` (B,), int64, are the numbers of the jets in their split; their
        place in the batch if not given.
        """
        if jet_features is not None:
            features, mask = jet_features[:, None], torch.ones_like(jet_features[:, :1], dtype=torch.bool)
        assert features is not None, "constituents or variables of the jet"
        assert mask is not None, "comes with the constituents"
        # whatever P is, S slots come out; a graph whose P is free can hold this
        size = self.config.num_slots
        mask_BS = F.pad(mask, (0, size), value=False)[:, :size]
        target_BSF = F.pad(features, (0, 0, 0, size))[:, :size]
        target_BSF = torch.where(mask_BS[..., None], target_BSF, 0.0)
        encoding_BH = self.encoder(target_BSF, mask_BS)
        mean_BL = self.mean(encoding_BH)
        log_variance_BL = None if self.log_variance is None else self.log_variance(encoding_BH)
        z_BL = mean_BL
        if self.training and log_variance_BL is not None:
            rows = torch.arange(len(mean_BL), device=mean_BL.device) if rows is None else rows
            noise_BL = normal_of_rows(rows, self.config.latent, self.key, self.calls)
            self.calls += 1
            z_BL = mean_BL + self.config.noise * noise_BL.to(mean_BL.dtype) * torch.exp(0.5 * log_variance_BL)
        output_BSF = self.decode(z_BL)
        error_B = self.error(target_BSF, output_BSF, mask_BS)
        error_of_mean_B = None
        if self.config.decode_mean and self.training:
            error_of_mean_B = self.error(target_BSF, self.decode(mean_BL), mask_BS)
        log_weights_BK = None
        if self.config.posterior_samples and not self.training:
            assert log_variance_BL is not None
            log_weights_BK = self._log_weights(target_BSF, mask_BS, mean_BL, log_variance_BL)
        latent_nll_B = None if self.latent_flow is None else self.latent_flow(mean_BL.detach())
        return Reconstruction(
            error_B,
            target_BSF,
            output_BSF,
            mask_BS,
            mean_BL,
            log_variance_BL,
            error_of_mean_B,
            log_weights_BK,
            latent_nll_B,
        )

    def decode(self, z_BL: Tensor) -> Tensor:
        """Slots of latent coordinates (B, L), shape (B, S, F); for `emd` with momentum fractions of sum 1."""
        output_BSF: Tensor = self.decoder(z_BL)
        if self.config.reconstruction == "emd":
            share_BS1 = output_BSF[..., :1].float().softmax(dim=1)
            output_BSF = torch.cat([share_BS1, output_BSF[..., 1:].float()], dim=-1)
        return output_BSF

    def error(self, target_BSF: Tensor, output_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Reconstruction error of every jet, shape (B,)."""
        config = self.config
        match config.reconstruction:
            case "gaussian":
                assert self.output_log_variance is not None
                return gaussian_error(target_BSF, output_BSF, self.output_log_variance, mask_BS)
            case "chamfer":
                return chamfer_error(target_BSF, output_BSF, mask_BS)
            case "emd":
                return energy_movers_distance(target_BSF, output_BSF, mask_BS, config)
            case kind:
                return reconstruction_error(target_BSF, output_BSF, mask_BS, kind, config.huber_delta)

    def _log_weights(self, target_BSF: Tensor, mask_BS: Tensor, mean_BL: Tensor, log_variance_BL: Tensor) -> Tensor:
        """Logarithms of importance weights (arXiv:1509.00519), shape (B, K), with the same noise for every jet."""
        num_samples, zero = self.config.posterior_samples, torch.zeros_like(self.calls)
        samples_K = torch.arange(num_samples, device=mean_BL.device)
        noise_KL = normal_of_rows(samples_K, self.config.latent, zero, zero)
        num_entries_B = mask_BS.sum(dim=1) * target_BSF.shape[2]
        found = []
        for noise_L in noise_KL:
            z_BL = mean_BL.float() + noise_L * torch.exp(0.5 * log_variance_BL.float())
            error_B = self.error(target_BSF, self.decode(z_BL), mask_BS)
            # ln p(z) - ln q(z|x); what is left of the normalisations is the posterior's width
            ratio_B = 0.5 * (noise_L.square() + log_variance_BL - z_BL.square()).sum(dim=1)
            found.append(_log_density(self.config.reconstruction, error_B, num_entries_B) + ratio_B)
        return torch.stack(found, dim=1)


def energy_movers_distance(target_BSF: Tensor, output_BSF: Tensor, mask_BS: Tensor, config: VAEConfig) -> Tensor:
    """EMD between (z, angle, angle) of jets and of their reconstructions, shape (B,)."""
    return sinkhorn_emd(
        target_BSF[..., 1:],
        target_BSF[..., 0],
        output_BSF[..., 1:],
        output_BSF[..., 0],
        mask_BS,
        radius=config.emd_radius,
        smoothing=config.emd_smoothing,
        iterations=config.emd_iterations,
    )


def _log_density(kind: str, error_B: Tensor, num_entries_B: Tensor) -> Tensor:
    """Logarithm of p(x|z) over all entries, from the mean error of one."""
    match kind:
        case "mse":
            per_entry_B = -0.5 * error_B - 0.5 * math.log(2 * math.pi)
        case "mae":
            per_entry_B = -error_B - math.log(2)
        case _:
            per_entry_B = -error_B
    return num_entries_B * per_entry_B


def _encoder(config: VAEConfig, num_features: int) -> DenseEncoder | LSTMEncoder | DeepSetEncoder | TransformerEncoder:
    match config.encoder:
        case "dense":
            return DenseEncoder(config.num_slots, num_features, config.widths)
        case "lstm":
            return LSTMEncoder(num_features, config.lstm_widths)
        case "deep-set":
            return DeepSetEncoder(num_features, (config.set_width,) * config.num_layers, config.widths)
        case "transformer":
            return TransformerEncoder(
                num_features, config.set_width, config.num_layers, config.num_heads, config.widths
            )
