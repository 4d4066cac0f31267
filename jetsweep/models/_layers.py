"""Parts that sets of constituents share: rows of real slots, and batch norm that sees nothing else."""

# Shapes: B jets, P slots, N real slots of all jets (all B·P of them while compiling), D width.

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class Slots:
    """Moves between padded slots (B, P, D) and rows of the real ones (N, D).

    Rows spare the arithmetic on padding. Their number depends on the data, so a graph that is being compiled keeps all
    B·P slots as rows and carries `row_mask` instead.

    Parameters
    ----------
    mask_BP : Tensor, shape (B, P), bool

    Attributes
    ----------
    index : Tensor or None, shape (N,), int64
        Slots that are rows, counted over the whole batch; None if all are.
    row_mask : Tensor or None, shape (N,), bool
        Which rows are real; None if all are.
    """

    def __init__(self, mask_BP: Tensor) -> None:
        self.mask_BP = mask_BP
        self.index: Tensor | None = None
        self.row_mask: Tensor | None = None
        if torch.compiler.is_compiling():
            self.row_mask = mask_BP.flatten()
        else:
            index = mask_BP.flatten().nonzero()[:, 0]
            # without empty slots there is nothing to pack
            self.index = index if len(index) < mask_BP.numel() else None

    def rows(self, x_BPD: Tensor) -> Tensor:
        """Real slots as rows, shape (N, D); while compiling also the others, set to 0."""
        x_ND = x_BPD.flatten(0, 1)
        if self.index is not None:
            return x_ND.index_select(0, self.index)
        if self.row_mask is None:
            return x_ND
        if x_ND.dtype == torch.bool:
            return x_ND & self.row_mask[:, None]  # onnxruntime cannot choose between booleans
        return x_ND.masked_fill(~self.row_mask[:, None], 0)

    def padded(self, x_ND: Tensor) -> Tensor:
        """Rows back in their slots, shape (B, P, D), empty slots 0."""
        if self.index is not None:
            x_ND = x_ND.new_zeros(self.mask_BP.numel(), x_ND.shape[1]).index_copy(0, self.index, x_ND)
        elif self.row_mask is not None:
            x_ND = x_ND.masked_fill(~self.row_mask[:, None], 0)
        return x_ND.view(*self.mask_BP.shape, x_ND.shape[1])


def cut_empty_slots(mask_BP: Tensor, *padded: Tensor) -> tuple[Tensor, ...]:
    """Leave out the last slots, those that no jet of the batch fills; a graph that is being compiled keeps its size.

    Parameters
    ----------
    mask_BP : Tensor, shape (B, P), bool
    *padded : Tensor, shape (B, P, ...)

    Returns
    -------
    tuple of Tensor
        `mask_BP` and `padded`, cut to a multiple of eight slots where they have more.
    """
    if torch.compiler.is_compiling():
        return (mask_BP, *padded)
    filled = mask_BP.any(dim=0).nonzero()
    length = int(filled[-1]) + 1 if len(filled) else 1
    length = -(-length // 8) * 8  # fused attention on GPUs wants rows of whole vectors
    return tuple(x[:, :length] for x in (mask_BP, *padded))


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over rows that are real, with the statistics of all ranks together while training.

    The same weights and running statistics as `nn.BatchNorm1d`; a single worker and several workers with the same
    global batch give the same result (up to rounding). A single row has no spread: it is normalised with the running
    statistics, which it leaves alone.
    """

    def forward(self, x_ND: Tensor, row_mask: Tensor | None = None) -> Tensor:
        """Normalise rows (N, D); `row_mask` tells which of them count, all of them if not given.

        With shape (N,) for whole rows, with shape (N, D) for each column on its own.
        """
        if not self.training:
            return F.batch_norm(x_ND, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if row_mask is None and not shared and len(x_ND) > 1:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            return F.batch_norm(
                x_ND, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum or 0.0, self.eps
            )
        assert self.running_mean is not None
        assert self.running_var is not None
        mean_D, var_D, count = _moments(x_ND.float(), row_mask, shared)
        # clones: the running statistics change in place below
        mean_D = torch.where(count > 1, mean_D, self.running_mean.clone())
        var_D = torch.where(count > 1, var_D, self.running_var.clone())
        self._track(mean_D.detach(), var_D.detach(), count)
        scale_D = self.weight * torch.rsqrt(var_D + self.eps)
        return ((x_ND - mean_D) * scale_D + self.bias).to(x_ND.dtype)

    def _track(self, mean_D: Tensor, var_D: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = torch.where(count > 1, self.momentum or 0.0, 0.0)
        unbiased_D = var_D * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean_D, momentum)
        self.running_var.lerp_(unbiased_D, momentum)
        self.num_batches_tracked.add_(1)


def _moments(x_ND: Tensor, row_mask: Tensor | None, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (biased) of what counts, over all ranks if `shared`, and its number, shape (1,) or (D,)."""
    row_mask = x_ND.new_ones(len(x_ND)) if row_mask is None else row_mask.to(x_ND.dtype)
    weight = row_mask if row_mask.dim() > 1 else row_mask[:, None]
    count = _over_ranks(weight.sum(dim=0), shared)
    size = count.clamp(min=1)
    mean_D = _over_ranks((weight * x_ND).sum(dim=0), shared) / size
    var_D = _over_ranks((weight * (x_ND - mean_D) ** 2).sum(dim=0), shared) / size
    return mean_D, var_D, count


def _over_ranks(x: Tensor, shared: bool) -> Tensor:
    if not shared:
        return x
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total


def mean_over_slots(x_BPD: Tensor, mask_BP: Tensor) -> Tensor:
    """Mean of the real slots, shape (B, D); 0 for a jet without any."""
    total_BD = torch.where(mask_BP[..., None], x_BPD, 0.0).sum(dim=1)
    return total_BD / mask_BP.sum(dim=1, keepdim=True).clamp(min=1)
