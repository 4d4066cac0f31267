"""Distance correlation between two numbers per jet, e.g. a score and the jet mass (DisCo, arXiv:2001.05310)."""

# Shapes: B jets of this rank, G jets of all ranks.

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1 << 15
"""Pairs of jets that are held at once: a quarter of a MiB in float64, the size of a core's cache."""


def distance_correlation(x: Tensor, y: Tensor, weight: Tensor | None = None, power: float = 1.0) -> Tensor:
    """Distance correlation of two numbers per jet over the batches of all ranks.

    Takes O(G^2 / ranks) time on each rank and O(G) memory: of the matrices of distances only a block is held at once.
    Every rank gets the same value. Its gradient on a rank is that of the rank's own jets times the number of ranks, so
    that the mean over ranks (what DDP takes) is the gradient of the whole.

    Parameters
    ----------
    x, y : Tensor, shape (B,)
        Any unit: the result does not depend on shift and scale. B may differ between ranks.
    weight : Tensor, shape (B,), optional
        Per-jet weight, at least 0, without gradient.
    power : float
        1 gives dCov^2(x, y) / (dCov(x, x) dCov(y, y)), which is the **square** of the usual distance correlation; any
        other value raises it to that power.

    Returns
    -------
    Tensor, shape ()
        Between 0 and 1, computed in float64 and returned in the type of `x`; 0, with gradient 0, where all jets have
        the same `x` or `y`.

    Raises
    ------
    ValueError
        If the shapes differ or `power` is not positive.
    """
    weight = torch.ones_like(x) if weight is None else weight
    if x.dim() != 1 or x.shape != y.shape or x.shape != weight.shape:
        raise ValueError(
            f"x, y and weight need one shape (B,), found {tuple(x.shape)}, {tuple(y.shape)} and {tuple(weight.shape)}"
        )
    if power <= 0:
        raise ValueError(f"power must be positive, found {power:g}")
    value: Tensor = _DistanceCorrelation.apply(x, y, weight)  # type: ignore[no-untyped-call]
    if power != 1.0:
        # the root of 0 has no slope
        value = torch.where(value > 0, value.clamp(min=1e-30) ** power, 0.0)
    return value.to(x.dtype)


class _DistanceCorrelation(torch.autograd.Function):
    """Value and both gradients in the forward pass.

    With p the weights over their sum and A, B the double-centred distances, Sigma_AB = sum_ij p_i p_j A_ij B_ij has
    the gradient d Sigma_AB / dx_k = 2 p_k T_k, where T_k = sum_j p_j sign(x_k - x_j) B_kj, and Sigma_AB = 2 sum_k p_k
    x_k T_k. Only the part sum_j p_j sign(x_k - x_j) |y_k - y_j| of T_k runs over all pairs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        x_G, y_G, p_G, own, ranks = _gathered(x, y, weight)
        x_axis, y_axis = _Axis(x_G, p_G), _Axis(y_G, p_G)
        slope_x_B = x_axis.slope(y_axis, own)
        product = 2 * (p_G * x_G)[own] @ slope_x_B
        if ranks > 1:
            dist.all_reduce(product)
        spread = (x_axis.variance * y_axis.variance).clamp(min=0.0).sqrt()
        varies = x_axis.varies & y_axis.varies & (spread > 0)
        value = torch.where(varies, product / spread, 0.0)
        factor_B = torch.where(varies, 2 * ranks * p_G[own], 0.0)
        gradients: list[Tensor | None] = [None, None]
        for i, (axis, other) in enumerate(((x_axis, y_axis), (y_axis, x_axis))):
            if ctx.needs_input_grad[i]:
                slope_B = slope_x_B if i == 0 else axis.slope(other, own)
                gradient_B = slope_B / spread - value * axis.own_slope[own] / axis.variance
                gradients[i] = torch.where(varies, factor_B * gradient_B, 0.0).to((x, y)[i].dtype)
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else grad.to(g.dtype) * g for g in ctx.saved_tensors), None)


class _Axis:
    """One number per jet, with what its distances give in O(G log G).

    Parameters
    ----------
    x_G, p_G : Tensor, shape (G,), float64
        Numbers, and weights of sum 1.
    """

    def __init__(self, x_G: Tensor, p_G: Tensor) -> None:
        self.x_G, self.p_G = x_G, p_G
        sorted_G, self.order = x_G.sort()
        self.below = torch.searchsorted(sorted_G, x_G)
        self.up_to = torch.searchsorted(sorted_G, x_G, right=True)
        self.rank_G = self.signed_sum(p_G)
        self.mean_distance_G = x_G * self.rank_G - self.signed_sum(p_G * x_G)
        self.centre_G = self.mean_distance_G - p_G @ self.mean_distance_G
        self.own_slope = x_G - p_G @ x_G - self.signed_sum(p_G * self.mean_distance_G) - self.centre_G * self.rank_G
        self.variance = 2 * (p_G * x_G) @ self.own_slope
        self.varies = x_G.max() > x_G.min()

    def signed_sum(self, u_G: Tensor) -> Tensor:
        """Sum over j of u_j sign(x_k - x_j), shape (G,)."""
        total_G = torch.cat([u_G.new_zeros(1), u_G[self.order].cumsum(dim=0)])
        return total_G[self.below] + total_G[self.up_to] - total_G[-1]

    def slope(self, other: _Axis, own: slice) -> Tensor:
        """T_k of the jets in `own`, shape (B,)."""
        rest_G = self.signed_sum(self.p_G * other.mean_distance_G) + other.centre_G * self.rank_G
        return _pair_sums(self.x_G[own], other.x_G[own], self.x_G, other.x_G, self.p_G) - rest_G[own]


def _pair_sums(x_B: Tensor, y_B: Tensor, x_G: Tensor, y_G: Tensor, p_G: Tensor) -> Tensor:
    """Sum over j of p_j sign(x_k - x_j) |y_k - y_j|, shape (B,), block by block."""
    rows = max(1, BLOCK // len(x_G)) if x_B.device.type == "cpu" else max(1, (1 << 24) // len(x_G))
    sums = []
    for start in range(0, len(x_B), rows):
        sign = torch.sub(x_B[start : start + rows, None], x_G).sign_()
        distance = torch.sub(y_B[start : start + rows, None], y_G).abs_()
        sums.append(distance.mul_(sign) @ p_G)
    return torch.cat(sums) if sums else x_B.new_zeros(0)


def _gathered(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, slice, int]:
    """Numbers less their mean and weights of sum 1 of all ranks, the place of this rank's jets, the number of ranks."""
    jets = torch.stack([x, y, weight]).detach().double()
    own, ranks = slice(0, len(x)), 1
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        ranks = dist.get_world_size()
        count = torch.tensor([len(x)], device=x.device)
        counts = [torch.zeros_like(count) for _ in range(ranks)]
        dist.all_gather(counts, count)
        sizes = [int(c) for c in counts]
        padded = torch.nn.functional.pad(jets, (0, max(sizes) - len(x)))
        parts = [torch.empty_like(padded) for _ in range(ranks)]
        dist.all_gather(parts, padded)
        jets = torch.cat([part[:, :size] for part, size in zip(parts, sizes)], dim=1)
        start = sum(sizes[: dist.get_rank()])
        own = slice(start, start + len(x))
    p_G = jets[2] / jets[2].sum()
    return jets[0] - p_G @ jets[0], jets[1] - p_G @ jets[1], p_G, own, ranks
