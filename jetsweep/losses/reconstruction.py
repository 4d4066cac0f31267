"""Reconstruction errors of jets: slot by slot (MSE, MAE, Huber, Gaussian) and of sets (Chamfer, arXiv:1612.00603)."""

# Shapes: B jets, P constituent slots, F features per constituent.

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ErrorKind = Literal["mse", "mae", "huber"]


def reconstruction_error(
    target: Tensor, output: Tensor, mask: Tensor | None = None, kind: ErrorKind = "mse", delta: float = 1.0
) -> Tensor:
    """Mean error of every jet over its features.

    Parameters
    ----------
    target, output : Tensor, shape (B, F) or (B, P, F)
    mask : Tensor, shape (B, P), bool, optional
        Slots that count, for shape (B, P, F); all of them if not given.
    kind : "mse", "mae" or "huber"
        Squared error, absolute error, or half the squared error up to `delta` and linear beyond.
    delta : float
        Border of `huber`, in the features' unit.

    Returns
    -------
    Tensor, shape (B,)
        0 for a jet without a slot that counts.
    """
    match kind:
        case "mse":
            error = F.mse_loss(output, target, reduction="none")
        case "mae":
            error = F.l1_loss(output, target, reduction="none")
        case "huber":
            error = F.huber_loss(output, target, reduction="none", delta=delta)
    return _mean_of_jets(error, mask)


def gaussian_error(target: Tensor, output: Tensor, log_variance: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of -ln N(target; output, exp(log_variance)) of every jet over its features, shape (B,), in nat.

    Parameters
    ----------
    target, output : Tensor, shape (B, F) or (B, P, F)
    log_variance : Tensor
        Of a shape that broadcasts with `target`: a number, or one per feature.
    mask : Tensor, shape (B, P), bool, optional
        Slots that count.
    """
    error = 0.5 * ((target - output).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))
    return _mean_of_jets(error, mask)


def chamfer_error(target: Tensor, output: Tensor, mask: Tensor, output_mask: Tensor | None = None) -> Tensor:
    """Chamfer distance of every jet: mean squared distance to the nearest in the other set, both ways, shape (B,).

    Parameters
    ----------
    target : Tensor, shape (B, P, F)
    output : Tensor, shape (B, Q, F)
        In any order.
    mask : Tensor, shape (B, P), bool
        Constituents of the target.
    output_mask : Tensor, shape (B, Q), bool, optional
        Constituents of the output; all of them if not given.

    Returns
    -------
    Tensor, shape (B,)
        0 where one of the two sets is empty.
    """
    if output_mask is None:
        output_mask = torch.ones_like(output[..., 0], dtype=torch.bool)
    target = torch.where(mask[..., None], target, 0.0)
    output = torch.where(output_mask[..., None], output, 0.0)
    distance_BPQ = (target[:, :, None] - output[:, None]).square().sum(dim=-1)
    pair_BPQ = mask[:, :, None] & output_mask[:, None, :]
    distance_BPQ = torch.where(pair_BPQ, distance_BPQ, math.inf)
    both_B = pair_BPQ.flatten(1).any(dim=1, keepdim=True)
    there_BP = torch.where(mask & both_B, distance_BPQ.amin(dim=2), 0.0)
    back_BQ = torch.where(output_mask & both_B, distance_BPQ.amin(dim=1), 0.0)
    num_target_B, num_output_B = mask.sum(dim=1).clamp(min=1), output_mask.sum(dim=1).clamp(min=1)
    return there_BP.sum(dim=1) / num_target_B + back_BQ.sum(dim=1) / num_output_B


def _mean_of_jets(error: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return error.flatten(1).mean(dim=1)
    # where, not a product: a slot that does not count may hold anything
    total_B = torch.where(mask[..., None], error, 0.0).flatten(1).sum(dim=1)
    return total_B / (mask.sum(dim=1) * error.shape[-1]).clamp(min=1)
