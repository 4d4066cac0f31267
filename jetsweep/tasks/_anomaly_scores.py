"""Anomaly scores of jets from what an auto-encoder returns; larger is more anomalous."""

# Shapes: B jets, S slots, F features, L latents, K samples of the posterior.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from jetsweep.losses.emd import sinkhorn_emd
from jetsweep.losses.kl import kl_per_jet
from jetsweep.losses.reconstruction import reconstruction_error

if TYPE_CHECKING:
    from jetsweep.tasks._anomaly_config import KLConfig

Need = Literal["nothing", "posterior", "samples", "order", "angles", "latent flow"]


@dataclass(frozen=True)
class Score:
    """One score.

    Parameters
    ----------
    of : callable
        Takes a `jetsweep.models.vae.Reconstruction` and the task's `KLConfig`, returns a Tensor of shape (B,).
    needs : str
        What the network must have for it: a ``posterior``, ``samples`` of it, an output in the ``order`` of the slots,
        features that are momentum fractions at ``angles``, or a ``latent flow``.
    """

    of: Callable[[Any, KLConfig], Tensor]
    needs: Need = "nothing"

    def check_model(self, name: str, model: Any) -> None:
        """Refuse a network without what the score needs.

        Raises
        ------
        ValueError
        """
        from jetsweep.models.vae import Z_AND_ANGLES

        lacks = {
            "posterior": (not model.variational, "model.variational: true"),
            "samples": (not model.posterior_samples, "model.posterior_samples of at least 1"),
            "order": (not model.has_order, "a model.reconstruction slot by slot"),
            "angles": (model.features not in Z_AND_ANGLES, f"model.features out of {', '.join(Z_AND_ANGLES)}"),
            "latent flow": (model.latent_flow is None, "model.latent_flow, e.g. {transforms: 3}"),
        }
        missing, wanted = lacks.get(self.needs, (False, ""))
        if missing:
            raise ValueError(f"task.scores: {name} needs {wanted}")


def total_loss(outputs: Any, kl: KLConfig) -> Tensor:
    """Reconstruction error plus beta times the divergence, neither annealed nor with free bits, shape (B,)."""
    error: Tensor = outputs.error
    if outputs.log_variance is None:
        return error
    return error + kl.beta * kl_per_jet(outputs.mean, outputs.log_variance, kl.convention)


def _divergence(outputs: Any, kl: KLConfig) -> Tensor:
    return kl_per_jet(outputs.mean, outputs.log_variance, kl.convention)


def _by_slot(kind: Literal["mse", "mae"]) -> Callable[[Any, KLConfig], Tensor]:
    return lambda outputs, kl: reconstruction_error(outputs.target, outputs.output, outputs.mask, kind)


def _distance(outputs: Any, kl: KLConfig) -> Tensor:
    """Energy mover's distance of radius 1 between a jet and its reconstruction."""
    target_BSF, output_BSF = outputs.target, outputs.output
    return sinkhorn_emd(target_BSF[..., 1:], target_BSF[..., 0], output_BSF[..., 1:], output_BSF[..., 0], outputs.mask)


def _importance_weighted(outputs: Any, kl: KLConfig) -> Tensor:
    """Minus the importance-weighted bound on the log-likelihood (arXiv:1509.00519)."""
    return math.log(outputs.log_weights.shape[1]) - torch.logsumexp(outputs.log_weights, dim=1)


SCORES: dict[str, Score] = {
    "loss": Score(total_loss),
    "reconstruction": Score(lambda outputs, kl: outputs.error),
    "kl": Score(_divergence, "posterior"),
    "mse": Score(_by_slot("mse"), "order"),
    "mae": Score(_by_slot("mae"), "order"),
    "mu2": Score(lambda outputs, kl: outputs.mean.float().square().sum(dim=1)),
    "mu2_over_sigma2": Score(
        lambda outputs, kl: (outputs.mean.float().square() * torch.exp(-outputs.log_variance.float())).sum(dim=1),
        "posterior",
    ),
    "negative_elbo": Score(lambda outputs, kl: -outputs.log_weights.mean(dim=1), "samples"),
    "iwae": Score(_importance_weighted, "samples"),
    "emd": Score(_distance, "angles"),
    "latent_density": Score(lambda outputs, kl: outputs.latent_nll, "latent flow"),
}
"""By name: the trained loss and its parts; squared, absolute and energy mover's distance of input and output; distances
from the prior in latent space; minus the evidence bound, and minus its importance-weighted form; minus the logarithm of
the density of the latent coordinates."""
