"""Terms that push known outliers away from the background (outlier exposure, arXiv:1812.04606, 2007.01850)."""

# Shapes: B jets of the background and as many outliers, L latent dimensions.

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.losses._precision import at_least_single

ExposureKind = Literal[
    "mse-sigmoid", "mse-margin", "mae-sigmoid", "mae-margin", "kl-margin", "energy-sigmoid", "energy-margin"
]
"""What is compared (squared or absolute reconstruction error per jet, the divergence of every latent, or minus the
logarithm of a density, arXiv:2010.03759), and how."""


def outlier_exposure(
    kind: ExposureKind, background: Tensor, outlier: Tensor, margin: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """One of the published terms, to be multiplied by lambda and added to the background's loss.

    Parameters
    ----------
    kind : ExposureKind
    background, outlier : Tensor, shape (B,), or (B, L) for "kl-margin"
        Of each background jet and of the outlier it is paired with: the mean squared error (``mse-``), the mean
        absolute error (``mae-``), the divergence of every latent (``kl-``, `jetsweep.losses.kl_per_latent`), or the
        energy (``energy-``).
    margin : float
        Lead that an outlier shall have, for ``-margin``.
    weight : Tensor, shape (B,), optional
        Weight of each outlier.

    Returns
    -------
    Tensor, shape ()
        Smaller where outliers stand out more; see `sigmoid_exposure` and `margin_exposure`.

    Raises
    ------
    JetsweepError
        If the kind is unknown or shapes differ.
    """
    if kind not in get_args(ExposureKind):
        raise JetsweepError(f"outlier exposure: expected one of {', '.join(get_args(ExposureKind))}, found {kind!r}")
    num_dims = 2 if kind == "kl-margin" else 1
    if background.dim() != num_dims:
        raise JetsweepError(f"{kind} needs {num_dims} dimensions, found {tuple(background.shape)}")
    if kind.endswith("sigmoid"):
        return sigmoid_exposure(background, outlier, weight)
    return margin_exposure(background, outlier, margin, weight)


def sigmoid_exposure(background: Tensor, outlier: Tensor, weight: Tensor | None = None) -> Tensor:
    """Minus the mean sigmoid of the outliers' excess: MSE-OE or MAE-OE of the sigmoid type.

    Parameters
    ----------
    background, outlier : Tensor, shape (B,)
        Reconstruction error (MSE or MAE) of each background jet and of the outlier it is paired with.
    weight : Tensor, shape (B,), optional
        Weight of each outlier.

    Returns
    -------
    Tensor, shape ()
        Sum of weight times minus the sigmoid over the **number of pairs**: between -1 and 0 for unit weights; -1/2 for
        equal errors.

    Raises
    ------
    JetsweepError
        If shapes differ.
    """
    return -_mean(torch.sigmoid(_lead(outlier, background)), weight)


def margin_exposure(background: Tensor, outlier: Tensor, margin: float, weight: Tensor | None = None) -> Tensor:
    """Mean of what an outlier lacks to a lead of `margin`: MSE-OE, MAE-OE or KL-OE of the margin type.

    Parameters
    ----------
    background, outlier : Tensor, shape (B,) or (B, L)
        Error of each background jet and of its outlier; with shape (B, L) the divergences of every latent
        (`jetsweep.losses.kl_per_latent`), which are compared before the mean over the latents.
    margin : float
        Lead beyond which there is nothing to gain, in the unit of the errors.
    weight : Tensor, shape (B,), optional
        Weight of each outlier.

    Returns
    -------
    Tensor, shape ()
        Sum of weight times the lack over the **number of pairs**: at least 0; `margin` for equal errors.

    Raises
    ------
    JetsweepError
        If shapes differ.
    """
    return _mean(F.relu(_lead(background, outlier) + margin), weight)


def _lead(first: Tensor, second: Tensor) -> Tensor:
    if first.shape != second.shape:
        raise JetsweepError(f"each outlier needs its background jet, found {tuple(first.shape)}, {tuple(second.shape)}")
    return at_least_single(first) - at_least_single(second)


def _mean(term: Tensor, weight: Tensor | None) -> Tensor:
    per_jet_B = term.mean(dim=1) if term.dim() > 1 else term
    if weight is None:
        return per_jet_B.mean()
    if weight.shape != per_jet_B.shape:
        raise JetsweepError(f"expected {len(per_jet_B)} outlier weights, found shape {tuple(weight.shape)}")
    return (weight * per_jet_B).mean()
