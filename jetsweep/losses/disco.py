"""Distance correlation between two numbers per jet, e.g. a loss and the jet mass (DisCo, arXiv:2001.05310).

The textbook holds matrices of distances, O(G^2) in time and memory. A sum over pairs of jets is here taken over sorted
jets, in O(G log^2 G) time and O(G) memory, and the gradient is written down instead of recorded.
"""

# Shapes: B jets of this rank, G jets of all ranks.

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from jetsweep.errors import JetsweepError
from jetsweep.losses.ranks import jets_of_all_ranks


def distance_correlation(x: Tensor, y: Tensor, weight: Tensor | None = None, power: float = 1.0) -> Tensor:
    """Distance correlation of two numbers per jet over the jets of all ranks.

    Every rank gets the same value, and the gradient for its own jets times G / B. Where each rank's loss is weighted
    by its share of the jets and gradients are added, as the training loop does (and as DistributedDataParallel does
    for equal shares), the sum is the gradient that one process would find.

    Parameters
    ----------
    x, y : Tensor, shape (B,)
        Any unit: the result does not depend on shift and scale. Either may need a gradient. B may differ between ranks.
    weight : Tensor, shape (B,), optional
        Per-jet weight, at least 0; its sum does not matter; gets no gradient.
    power : float
        1 gives mean(AB) / sqrt(mean(AA) mean(BB)) of the doubly centred distances A and B, which is the **square** of
        the usual distance correlation; any other value raises it to that power.

    Returns
    -------
    Tensor, shape ()
        Between 0 and 1, computed in float64 and returned in the type of `x` (float32 for half precision); 0, with
        gradient 0, where all jets of positive weight have the same `x` or `y`; NaN if any number is not finite.

    Raises
    ------
    JetsweepError
        If the shapes differ or `power` is not positive.

    Notes
    -----
    Collective where torch.distributed runs: see `jetsweep.losses.ranks`. In evaluation take
    `jetsweep.metrics.distance_correlation` of the whole split.
    """
    weight = torch.ones_like(x) if weight is None else weight
    if x.dim() != 1 or x.shape != y.shape or x.shape != weight.shape:
        raise JetsweepError(
            f"x, y and weight need one shape (B,), found {tuple(x.shape)}, {tuple(y.shape)} and {tuple(weight.shape)}"
        )
    if not power > 0:
        raise JetsweepError(f"the power of a distance correlation must be positive, found {power:g}")
    value: Tensor = _DistanceCorrelation.apply(x, y, weight)  # type: ignore[no-untyped-call]
    if power != 1.0:
        # a root of 0 has no slope
        value = torch.where(value == 0, 0.0, value.clamp(min=1e-30) ** power)
    return value.to(torch.promote_types(x.dtype, torch.float32))


class _DistanceCorrelation(torch.autograd.Function):
    """Value and gradients, both in the forward pass.

    With p the weights over their sum and A, B the doubly centred distances, Sigma_AB = sum_ij p_i p_j A_ij B_ij has the
    gradient d Sigma_AB / dx_k = 2 p_k T_k, where T_k = sum_j p_j sign(x_k - x_j) B_kj, and is of first degree in x:
    Sigma_AB = sum_k x_k dSigma_AB/dx_k = 2 sum_k p_k x_k T_k.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        jets_3G, own = jets_of_all_ranks(torch.stack([x.double(), y.double(), weight.double()]))
        x_axis, y_axis, p_G = _axes(jets_3G)
        slope_x_G = _slope(x_axis, y_axis)
        spread = (x_axis.variance * y_axis.variance).clamp(min=0.0).sqrt()
        flat = x_axis.flat | y_axis.flat | (spread == 0)
        value = (2 * (p_G * x_axis.x_G) @ slope_x_G / spread).clamp(0.0, 1.0)
        num_ratio = p_G.numel() / max(len(x), 1)
        gradients: list[Tensor | None] = [None, None]
        for i, (axis, other) in enumerate(((x_axis, y_axis), (y_axis, x_axis))):
            if ctx.needs_input_grad[i]:
                slope_G = slope_x_G if i == 0 else _slope(axis, other)
                gradient_G = 2 * p_G * (slope_G / spread - value * axis.own_slope_G / axis.variance)
                gradients[i] = torch.where(flat, 0.0, num_ratio * gradient_G[own]).to((x, y)[i].dtype)
        ctx.save_for_backward(*gradients)
        return torch.where(flat, 0.0, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else grad.to(g.dtype) * g for g in ctx.saved_tensors), None)


class _Axis:
    """One number per jet, with what sums over its own distances give.

    Parameters
    ----------
    x_G, p_G : Tensor, shape (G,), float64
        Numbers, of weighted mean 0 for the sake of rounding, and weights of sum 1.
    """

    def __init__(self, x_G: Tensor, p_G: Tensor) -> None:
        self.x_G, self.p_G = x_G, p_G
        sorted_G, self.order = x_G.sort()
        self.below = torch.searchsorted(sorted_G, x_G)
        self.up_to = torch.searchsorted(sorted_G, x_G, right=True)
        self.rank_G = self.signed_sum(p_G)
        self.mean_distance_G = x_G * self.rank_G - self.signed_sum(p_G * x_G)
        self.centre_G = self.mean_distance_G - p_G @ self.mean_distance_G
        self.own_slope_G = x_G - self.signed_sum(p_G * self.mean_distance_G) - self.centre_G * self.rank_G
        self.variance = 2 * (p_G * x_G) @ self.own_slope_G
        lowest, highest = (torch.where(p_G > 0, x_G, sign * torch.inf) for sign in (1, -1))
        self.flat = lowest.amin() >= highest.amax()

    def signed_sum(self, u_G: Tensor) -> Tensor:
        """Sum over j of u_j sign(x_k - x_j), shape (G,)."""
        total_G = torch.cat([u_G.new_zeros(1), u_G[self.order].cumsum(dim=0)])
        return total_G[self.below] + total_G[self.up_to] - total_G[-1]

    def sum_of_equals(self, u_G: Tensor) -> Tensor:
        """Sum of u over the jets with the same x, shape (G,)."""
        total_G = torch.cat([u_G.new_zeros(1), u_G[self.order].cumsum(dim=0)])
        return total_G[self.up_to] - total_G[self.below]


def _axes(jets_3G: Tensor) -> tuple[_Axis, _Axis, Tensor]:
    """Both numbers less their mean, and weights of sum 1 (or all 0)."""
    x_G, y_G, weight_G = jets_3G
    total = weight_G.sum()
    p_G = weight_G / torch.where(total == 0, 1.0, total)
    return _Axis(x_G - p_G @ x_G, p_G), _Axis(y_G - p_G @ y_G, p_G), p_G


def _slope(axis: _Axis, other: _Axis) -> Tensor:
    """T_k of all jets, shape (G,)."""
    rest_G = axis.signed_sum(axis.p_G * other.mean_distance_G) + other.centre_G * axis.rank_G
    return _signed_distances(axis, other) - rest_G


def _signed_distances(axis: _Axis, other: _Axis) -> Tensor:
    """Sum over j of p_j sign(x_k - x_j) |y_k - y_j|, shape (G,).

    That is twice the sum over jets before k, in order of x, less the sum over all. Jets before k are met once each as
    merge sort meets them: in blocks of doubling size, where k stands in the later half and they in the earlier one.
    """
    y_G, p_G = other.x_G, axis.p_G
    # jets with the same x in order of y
    order = other.order[axis.x_G[other.order].argsort(stable=True)]
    num_jets = len(order)
    size = 1 << max(num_jets - 1, 0).bit_length()
    y_S, p_S = (F.pad(u_G[order], (0, size - num_jets)) for u_G in (y_G, p_G))
    before_S = torch.zeros_like(y_S)
    half = 1
    while half < size:
        sorted_y, place = y_S.view(-1, 2 * half).sort(dim=1)
        is_early = place < half
        early_p = torch.where(is_early, p_S.view(-1, 2 * half).gather(1, place), 0.0)
        lower, lower_y = early_p.cumsum(dim=1), (early_p * sorted_y).cumsum(dim=1)
        distance = sorted_y * (2 * lower - lower[:, -1:]) - (2 * lower_y - lower_y[:, -1:])
        before_S.view(-1, 2 * half).scatter_add_(1, place, torch.where(is_early, 0.0, distance))
        half *= 2
    before_G = torch.empty_like(y_G)
    before_G[order] = before_S[:num_jets]
    equals_G = y_G * axis.sum_of_equals(p_G) - axis.sum_of_equals(p_G * y_G)
    return 2 * before_G - other.mean_distance_G - equals_G
