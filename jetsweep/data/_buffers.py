"""Large arrays in memory that was used before: taking fresh memory from the system costs as much as filling it."""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import dataclass

import numpy as np

_LARGE = 1 << 20
"""Numbers below which an array is simply made: the allocator of the process reuses small ones itself."""


@dataclass
class _Buffer:
    memory: np.ndarray
    lent: weakref.ref[np.ndarray] | None = None

    @property
    def is_free(self) -> bool:
        return self.lent is None or self.lent() is None


_buffers: list[_Buffer] = []
_lock = threading.Lock()


def empty(*shape: int) -> np.ndarray:
    """An array of float32 with any content, in memory of an earlier one that nobody holds any more.

    Views of it, and tensors made of it, keep it from being used again: numpy's views of an array over foreign memory
    hold that array. There is never more memory than was held at once.
    """
    size = math.prod(shape)
    if size < _LARGE:
        return np.empty(shape, np.float32)
    with _lock:
        fitting = [buffer for buffer in _buffers if buffer.is_free and size <= len(buffer.memory) <= 2 * size]
        if fitting:
            buffer = min(fitting, key=lambda buffer: len(buffer.memory))
        else:
            _buffers[:] = [buffer for buffer in _buffers if not buffer.is_free]
            # a little more, since windows differ in their numbers of constituents
            buffer = _Buffer(np.empty(size + size // 16, np.float32))
            _buffers.append(buffer)
        whole = np.frombuffer(buffer.memory.data, np.float32)
        buffer.lent = weakref.ref(whole)
        return whole[:size].reshape(shape)
