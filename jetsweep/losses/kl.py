"""Kullback-Leibler divergence of a diagonal Gaussian from the unit normal (arXiv:1312.6114)."""

# Shapes: B jets, L latent dimensions.

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.losses._precision import at_least_single
from jetsweep.losses.ranks import mean_over_ranks

KLConvention = Literal["sum", "mean"]
"""Over the latents: the textbook's `sum`, or the `mean` of VAE-Jet (arXiv:2007.01850)."""


def kl_per_latent(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1) in every latent, shape (B, L), at least 0, in nat."""
    mean, log_variance = at_least_single(mean), at_least_single(log_variance)
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


def kl_per_jet(mean: Tensor, log_variance: Tensor, convention: KLConvention, free_bits: float = 0.0) -> Tensor:
    """KL divergence of every jet.

    Parameters
    ----------
    mean, log_variance : Tensor, shape (B, L)
    convention : "sum" or "mean"
        What is done over the latents: with L latents the same beta weighs L times more with `sum`.
    free_bits : float
        Nat per latent that cost nothing (arXiv:1606.04934, with one latent a group): where the mean over the batch of
        a latent's divergence is smaller, every jet counts `free_bits` there, without gradient. For training alone: the
        batch is that of all ranks (see `jetsweep.losses.ranks`), and a jet's divergence depends on the others.

    Returns
    -------
    Tensor, shape (B,)
        In nat.

    Raises
    ------
    JetsweepError
        If the convention is unknown or `free_bits` is negative.
    """
    if convention not in get_args(KLConvention):
        raise JetsweepError(f"KL convention: expected one of {', '.join(get_args(KLConvention))}, found {convention!r}")
    if free_bits < 0:
        raise JetsweepError(f"free_bits must not be negative, found {free_bits:g}")
    kl_BL = kl_per_latent(mean, log_variance)
    if free_bits > 0:
        num_jets = kl_BL.new_tensor(len(kl_BL))
        batch_mean_L = mean_over_ranks(kl_BL.sum(dim=0)) / mean_over_ranks(num_jets)
        kl_BL = torch.where(batch_mean_L > free_bits, kl_BL, free_bits)
    return kl_BL.sum(dim=1) if convention == "sum" else kl_BL.mean(dim=1)
