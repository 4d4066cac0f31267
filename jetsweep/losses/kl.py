"""Kullback-Leibler divergence of a diagonal Gaussian from the unit normal (arXiv:1312.6114)."""

# Shapes: B jets, L latent dimensions.

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KLConvention = Literal["sum", "mean"]
"""Over the latents: the textbook's `sum`, or the `mean` of VAE-Jet (arXiv:2007.01850)."""


def kl_per_latent(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1) in every latent, shape (B, L), at least 0, in nat."""
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
        a latent's divergence is smaller, it counts as `free_bits`, without gradient.

    Returns
    -------
    Tensor, shape (B,)
    """
    kl_BL = kl_per_latent(mean, log_variance)
    if free_bits > 0:
        kl_BL = torch.where(kl_BL.mean(dim=0) > free_bits, kl_BL, free_bits)
    return kl_BL.sum(dim=1) if convention == "sum" else kl_BL.mean(dim=1)
