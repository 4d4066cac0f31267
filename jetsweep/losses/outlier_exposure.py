"""Terms that push known outliers away from the background (outlier exposure, arXiv:1812.04606, 2007.01850)."""

# Shapes: B jets of the background and as many outliers, L latent dimensions.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_exposure(background: Tensor, outlier: Tensor, weight: Tensor | None = None) -> Tensor:
    """Minus the mean sigmoid of the outliers' excess: MSE-OE or MAE-OE of the sigmoid type.

    Parameters
    ----------
    background, outlier : Tensor, shape (B,)
        Reconstruction error (MSE or MAE) of each background jet and of the outlier it is paired with.
    weight : Tensor, shape (B,), optional
        Per-pair weight.

    Returns
    -------
    Tensor, shape ()
        Between -1 and 0 for unit weights; -1/2 for equal errors.
    """
    return -_mean(torch.sigmoid(outlier - background), weight)


def margin_exposure(background: Tensor, outlier: Tensor, margin: float, weight: Tensor | None = None) -> Tensor:
    """Mean of what an outlier lacks to a lead of `margin`: MSE-OE, MAE-OE or KL-OE of the margin type.

    Parameters
    ----------
    background, outlier : Tensor, shape (B,) or (B, L)
        Error of each background jet and of its outlier; with shape (B, L) the divergences of every latent
        (`jetsweep.losses.kl.kl_per_latent`), which are compared before the mean over the latents.
    margin : float
        Lead beyond which there is nothing to gain, in the unit of the errors.
    weight : Tensor, shape (B,), optional
        Per-pair weight.

    Returns
    -------
    Tensor, shape ()
        At least 0; `margin` for equal errors.
    """
    return _mean(F.relu(background - outlier + margin), weight)


def _mean(term: Tensor, weight: Tensor | None) -> Tensor:
    per_jet_B = term.flatten(1).mean(dim=1) if term.dim() > 1 else term
    return per_jet_B.mean() if weight is None else (weight * per_jet_B).mean()
