"""Copies of ragged rows on the host, jitted; `_shards` and `batch` do the same without numba."""

# Arrays: N entries of a block or batch, B rows, F columns, P padded slots.

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def gather(matrix_NF, low_B, count_B, out_NF):  # type: ignore[no-untyped-def]
    """Copy entries ``low[i] … low[i] + count[i]`` of every row to the front of `out`, one row after the other."""
    source, target, num_columns = matrix_NF.reshape(-1), out_NF.reshape(-1), matrix_NF.shape[1]
    end = 0
    for i in range(len(low_B)):
        first, size = low_B[i] * num_columns, count_B[i] * num_columns
        for k in range(size):
            target[end + k] = source[first + k]
        end += size


@njit(cache=True, nogil=True)
def pad(values_NF, offsets, x_BPF, mask_BP):  # type: ignore[no-untyped-def]
    """Fill `x` with the leading P entries of each row and zeros, `mask` with where they are."""
    num_rows, length, num_columns = x_BPF.shape
    source, target = values_NF.reshape(-1), x_BPF.reshape(-1)
    for i in range(num_rows):
        count = min(offsets[i + 1] - offsets[i], length)
        first, begin, size = offsets[i] * num_columns, i * length * num_columns, count * num_columns
        for k in range(size):
            target[begin + k] = source[first + k]
        target[begin + size : begin + length * num_columns] = 0.0
        mask_BP[i, :count] = True
        mask_BP[i, count:] = False
