"""Anomaly scores of jets from what an auto-encoder or a density returns; larger is more anomalous."""

# Shapes: B jets, S slots, F features, L latents, K samples of the posterior.

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from jetsweep.losses.emd import sinkhorn_emd
from jetsweep.losses.kl import kl_per_jet
from jetsweep.losses.reconstruction import reconstruction_error
from jetsweep.models._density import Density

if TYPE_CHECKING:
    from jetsweep.tasks._anomaly_config import KLConfig

Need = Literal[
    "nothing", "auto-encoder", "posterior", "samples", "order", "angles", "latent flow", "density", "normalised density"
]


@dataclass(frozen=True)
class Score:
    """One score.

    Parameters
    ----------
    of : callable
        Takes what the network returns, a `jetsweep.models.vae.Reconstruction` or `jetsweep.models._density.Density`,
        and the task's `KLConfig`, returns a Tensor of shape (B,).
    needs : str
        What the network must be or have for it: an ``auto-encoder``, and one with a ``posterior``, ``samples`` of it,
        an output in the ``order`` of the slots, features that are momentum fractions at ``angles``, or a
        ``latent flow``; or a ``density``, perhaps ``normalised``.
    """

    of: Callable[[Any, KLConfig], Tensor]
    needs: Need = "auto-encoder"

    def lacks(self, model: Any) -> str:
        """What a network lacks for the score, empty if nothing."""
        from jetsweep.models.vae import Z_AND_ANGLES

        is_density = model.outputs == "density"
        if self.needs == "nothing":
            return ""
        if self.needs in ("density", "normalised density"):
            if not is_density:
                return "a density model: flow or ebm"
            return "a normalised density: flow" if self.needs != "density" and not model.normalised else ""
        if is_density:
            return "an auto-encoder"
        lacking = {
            "posterior": (not model.variational, "model.variational: true"),
            "samples": (not model.posterior_samples, "model.posterior_samples of at least 1"),
            "order": (not model.has_order, "a model.reconstruction slot by slot"),
            "angles": (model.features not in Z_AND_ANGLES, f"model.features out of {', '.join(Z_AND_ANGLES)}"),
            "latent flow": (getattr(model, "latent_flow", None) is None, "model.latent_flow, e.g. {transforms: 3}"),
        }
        missing, wanted = lacking.get(self.needs, (False, ""))
        return wanted if missing else ""


def check_scores(names: Iterable[str], model: Any) -> None:
    """Refuse a network without what a score needs.

    Raises
    ------
    ValueError
    """
    for name in names:
        wanted = SCORES[name].lacks(model)
        if wanted:
            known = [other for other, score in SCORES.items() if not score.lacks(model)]
            raise ValueError(f"task.scores: {name} needs {wanted}; model {model.name} as it is has {', '.join(known)}")


def total_loss(outputs: Any, kl: KLConfig) -> Tensor:
    """Reconstruction error plus beta times the divergence, neither annealed nor with free bits, shape (B,).

    Of a density it is the energy.
    """
    if isinstance(outputs, Density):
        return outputs.energy
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
    "loss": Score(total_loss, "nothing"),
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
    "negative_log_density": Score(lambda outputs, kl: outputs.energy, "normalised density"),
    "energy": Score(lambda outputs, kl: outputs.energy, "density"),
}
"""By name: the trained loss and its parts; squared, absolute and energy mover's distance of input and output; distances
from the prior in latent space; minus the evidence bound, and minus its importance-weighted form; minus the logarithm of
the density of the latent coordinates; minus that of the jet's, and the same but for a constant."""
