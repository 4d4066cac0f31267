"""One process among the processes that train together; collective operations that do nothing when it is alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 32 * 2**20


def default_device() -> torch.device:
    """The current CUDA device where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def lost_peer(error: BaseException) -> bool:
    """Whether a collective operation failed as it does when another rank is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "closed by peer", "NCCL"))
    )


@dataclass(frozen=True)
class World:
    """The rank of this process, the number of ranks, and its device; more than one rank need torch.distributed.

    Gradients are averaged by `average_gradients` after the last micro-batch and not by DistributedDataParallel: the
    same code then serves several phases and streams, parts of a module called on their own, and unused parameters,
    none of which DDP's hooks allow together. Jet networks are megabytes, so overlap with backward would gain little.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def alone(cls, device: torch.device | str | None = None) -> World:
        """A world of one process."""
        return cls(0, 1, default_device() if device is None else torch.device(device))

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes and reports."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """Sum over ranks."""
        if self.size > 1:
            x = x.clone()
            dist.all_reduce(x)
        return x

    def max(self, values: list[float]) -> list[float]:
        """Elementwise maximum over ranks."""
        if self.size == 1:
            return values
        x = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
        return [float(v) for v in x.tolist()]

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Concatenate along the first axis over all ranks, in rank order; every rank gets the whole."""
        return array if self.size == 1 else np.concatenate(self.gather_objects(array))

    def gather_objects(self, item: Any) -> list[Any]:
        """One item of every rank, in rank order."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def from_first(self, item: Any) -> Any:
        """The item that rank 0 holds."""
        return self.gather_objects(item if self.is_first else None)[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors in place with those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def broadcast_module(self, module: nn.Module) -> None:
        """Give all ranks the parameters and buffers of rank 0."""
        self.broadcast([*module.parameters(), *module.buffers()])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over ranks, in place; a parameter without one counts as zero."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        num_bytes = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            grad = parameter.grad
            if bucket and (num_bytes + grad.nbytes > _BUCKET_BYTES or grad.dtype != bucket[0].dtype):
                self._average(bucket)
                bucket, num_bytes = [], 0
            bucket.append(grad)
            num_bytes += grad.nbytes
        if bucket:
            self._average(bucket)

    def _average(self, bucket: list[Tensor]) -> None:
        flat = torch.cat([grad.reshape(-1) for grad in bucket])
        dist.all_reduce(flat)
        flat /= self.size
        for grad, part in zip(bucket, torch.split(flat, [grad.numel() for grad in bucket]), strict=True):
            grad.copy_(part.view_as(grad))
