"""Lund declusterings of clustered jets, jitted."""

# Arrays: M nodes of all histories, N declusterings, as in clustering.py and lund.py.

from __future__ import annotations

import numpy as np
from numba import njit

NUM_COLUMNS = 6
SMALLEST_DELTA = 1e-6
SMALLEST = 1e-20


@njit(cache=True, nogil=True)
def _declustering(harder, softer, p4, row):  # type: ignore[no-untyped-def]
    """Fill a row with ln kT, ln Δ, ln z, psi, ln m, ln kappa; `harder` and `softer` are frames."""
    rise = harder[1] - softer[1]
    # wrapped, so that a jet across ±pi is like any other
    turn = (harder[2] - softer[2] + np.pi) % (2 * np.pi) - np.pi
    delta = max(np.sqrt(rise * rise + turn * turn), SMALLEST_DELTA)
    z = max(softer[0], SMALLEST) / max(harder[0] + softer[0], SMALLEST)
    momentum = np.sqrt(p4[0] ** 2 + p4[1] ** 2 + p4[2] ** 2)
    mass = np.sqrt(abs((p4[3] - momentum) * (p4[3] + momentum)))
    row[0] = np.log(max(softer[0], SMALLEST) * delta)
    row[1] = np.log(delta)
    row[2] = np.log(z)
    if turn != 0.0:
        row[3] = np.arctan(rise / turn)
    else:
        row[3] = np.sign(rise) * np.pi / 2
    row[4] = np.log(max(mass, SMALLEST))
    row[5] = np.log(z * delta)


@njit(cache=True, nogil=True)
def decluster(  # type: ignore[no-untyped-def]
    p4, frame, children, parent, offsets, min_kt, min_delta, values, links, out_offsets
):
    """Fill `values` (N, 6), `links` (N, 3) = (parent, harder, softer) and `out_offsets` (B + 1,) of all jets.

    Merges are visited from the root down. One with too little kT leaves its place to its harder branch, one with too
    small an angle ends its branch.
    """
    size = 0
    out_offsets[0] = 0
    for jet in range(len(offsets) - 1):
        low, high = offsets[jet], offsets[jet + 1]
        # of every node: the declustering that it hangs from (-1: none, -2: not in the plane), and on which side
        above, side = np.full(high - low, -2), np.zeros(high - low, dtype=np.int64)
        first = size
        for i in range(high - low - 1, -1, -1):
            if parent[low + i] < 0:
                above[i] = -1
            a, b = children[low + i, 0], children[low + i, 1]
            if a < 0 or above[i] == -2:
                continue
            if frame[low + b, 0] > frame[low + a, 0]:
                a, b = b, a
            row = values[size]
            _declustering(frame[low + a], frame[low + b], p4[low + i], row)
            if row[1] < np.log(min_delta):
                continue
            if row[0] < np.log(min_kt):
                above[a], side[a] = above[i], side[i]
                continue
            links[size] = -1
            links[size, 0] = above[i]
            if above[i] >= 0:
                links[first + above[i], 1 + side[i]] = size - first
            above[a], side[a] = size - first, 0
            above[b], side[b] = size - first, 1
            size += 1
        out_offsets[jet + 1] = size
    return size


@njit(cache=True, nogil=True)
def mark_primary(links, offsets, out):  # type: ignore[no-untyped-def]
    """Mark the declusterings reached from the first by harder branches only."""
    for jet in range(len(offsets) - 1):
        out[offsets[jet] : offsets[jet + 1]] = False
        if offsets[jet] == offsets[jet + 1]:
            continue
        i = 0
        while i >= 0:
            out[offsets[jet] + i] = True
            i = links[offsets[jet] + i, 1]
