"""Copies of ragged rows on the host, jitted; `_host` does the same without numba."""

# Arrays: N entries of a block or batch, R or B rows, F columns, P padded slots.

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def place(children, low_R, count_R, target_R, out_NF):  # type: ignore[no-untyped-def]
    """Copy entries ``low[i] … low[i] + count[i]`` of a tuple of columns to rows ``target[i] …`` of `out`."""
    out, num_columns = out_NF.reshape(-1), len(children)
    for i in range(len(low_R)):
        source, target = low_R[i], target_R[i] * num_columns
        for k in range(count_R[i]):
            for column in range(num_columns):
                out[target + k * num_columns + column] = children[column][source + k]


@njit(cache=True, nogil=True)
def pad(values_NF, offsets, x_BPF, mask_BP):  # type: ignore[no-untyped-def]
    """Fill `x` with the leading P entries of each row and zeros, `mask` with where they are."""
    num_rows, length, num_columns = x_BPF.shape
    source, target, mask = values_NF.reshape(-1), x_BPF.reshape(-1), mask_BP.reshape(-1)
    for i in range(num_rows):
        count = min(offsets[i + 1] - offsets[i], length)
        first, begin, end = offsets[i] * num_columns, i * length * num_columns, (i + 1) * length * num_columns
        filled = begin + count * num_columns
        # slices of one dimension become single copies, which loops over entries do not
        target[begin:filled] = source[first : first + count * num_columns]
        target[filled:end] = 0.0
        mask[i * length : i * length + count] = True
        mask[i * length + count : (i + 1) * length] = False
