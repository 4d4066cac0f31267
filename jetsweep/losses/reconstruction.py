"""Reconstruction errors of jets: slot by slot (MSE, MAE, Huber, Gaussian) and of sets (Chamfer, arXiv:1612.00603).

Slots that do not count may hold anything, in target and output: they change neither the value nor a gradient.
The distance of sets of energies is `jetsweep.losses.sinkhorn_emd`.
"""

# Shapes: B jets, P and Q constituent slots, F features per constituent.

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from jetsweep.errors import JetsweepError
from jetsweep.losses._precision import at_least_single

ErrorKind = Literal["mse", "mae", "huber"]
"""Squared error, absolute error, or half the squared error up to a border and linear beyond."""


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
    delta : float
        Border of `huber`, in the features' unit.

    Returns
    -------
    Tensor, shape (B,)
        0 for a jet without a slot that counts.

    Raises
    ------
    JetsweepError
        If the kind is unknown, `delta` is not positive or shapes differ.
    """
    target, output = _compared(target, output, mask)
    match kind:
        case "mse":
            error = F.mse_loss(output, target, reduction="none")
        case "mae":
            error = F.l1_loss(output, target, reduction="none")
        case "huber":
            if not delta > 0:
                raise JetsweepError(f"the border of huber must be positive, found {delta:g}")
            error = F.huber_loss(output, target, reduction="none", delta=delta)
        case _:
            raise JetsweepError(
                f"reconstruction error: expected one of {', '.join(get_args(ErrorKind))}, found {kind!r}"
            )
    return _mean_of_jets(error, mask)


def gaussian_error(target: Tensor, output: Tensor, log_variance: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of -ln N(target; output, exp(log_variance)) of every jet over its features.

    Parameters
    ----------
    target, output : Tensor, shape (B, F) or (B, P, F)
    log_variance : Tensor
        Learned, of a shape that broadcasts to `target`'s: one number, one per feature, or one per entry.
    mask : Tensor, shape (B, P), bool, optional
        Slots that count, for shape (B, P, F); all of them if not given.

    Returns
    -------
    Tensor, shape (B,)
        In nat, of any sign; 0 for a jet without a slot that counts.

    Raises
    ------
    JetsweepError
        If shapes differ.
    """
    log_variance = torch.broadcast_to(log_variance, target.shape)
    target, output = _compared(target, output, mask)
    log_variance = _real(at_least_single(log_variance), mask)
    error = 0.5 * ((target - output).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))
    return _mean_of_jets(error, mask)


def chamfer_error(
    target: Tensor, output: Tensor, mask: Tensor | None = None, output_mask: Tensor | None = None
) -> Tensor:
    """Chamfer distance of every jet: mean squared distance to the nearest in the other set, added for both ways.

    Parameters
    ----------
    target : Tensor, shape (B, P, F)
    output : Tensor, shape (B, Q, F)
        In any order.
    mask : Tensor, shape (B, P), bool, optional
        Constituents of the target; all slots if not given.
    output_mask : Tensor, shape (B, Q), bool, optional
        Constituents of the output; all slots if not given.

    Returns
    -------
    Tensor, shape (B,)
        0 where one of the two sets is empty.
    """
    mask = torch.ones_like(target[..., 0], dtype=torch.bool) if mask is None else mask
    output_mask = torch.ones_like(output[..., 0], dtype=torch.bool) if output_mask is None else output_mask
    target, output = _real(at_least_single(target), mask), _real(at_least_single(output), output_mask)
    square_BPQ = (target[:, :, None] - output[:, None]).square().sum(dim=-1)
    pair_BPQ = mask[:, :, None] & output_mask[:, None, :]
    square_BPQ = torch.where(pair_BPQ, square_BPQ, math.inf)
    both_B = pair_BPQ.flatten(1).any(dim=1, keepdim=True)
    there_BP = torch.where(mask & both_B, square_BPQ.amin(dim=2), 0.0)
    back_BQ = torch.where(output_mask & both_B, square_BPQ.amin(dim=1), 0.0)
    num_target_B, num_output_B = mask.sum(dim=1).clamp(min=1), output_mask.sum(dim=1).clamp(min=1)
    return there_BP.sum(dim=1) / num_target_B + back_BQ.sum(dim=1) / num_output_B


def _compared(target: Tensor, output: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    if target.shape != output.shape or (mask is not None and mask.shape != target.shape[:-1]):
        masked = "" if mask is None else f" with a mask of {tuple(mask.shape)}"
        raise JetsweepError(
            f"target and output need one shape, found {tuple(target.shape)} and {tuple(output.shape)}{masked}"
        )
    return _real(at_least_single(target), mask), _real(at_least_single(output), mask)


def _real(x: Tensor, mask: Tensor | None) -> Tensor:
    """0 in the slots that do not count: a product with 0 would keep their NaN, and their gradient."""
    return x if mask is None else torch.where(mask[..., None], x, 0.0)


def _mean_of_jets(error: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return error.flatten(1).mean(dim=1)
    total_B = torch.where(mask[..., None], error, 0.0).flatten(1).sum(dim=1)
    return total_B / (mask.sum(dim=1) * error.shape[-1]).clamp(min=1)
