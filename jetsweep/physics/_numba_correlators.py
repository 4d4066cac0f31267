"""Energy correlators of one jet with any angular exponent, jitted."""

# Arrays: n constituents of a jet.

from __future__ import annotations

import numpy as np
from numba import njit

from jetsweep.physics._numba_clustering import coordinates, delta_r_squared


@njit(cache=True, nogil=True)
def correlators(p4, beta, out):  # type: ignore[no-untyped-def]
    """Fill `out` (5,): sum of pT, 1e2, then 1e3, 2e3, 3e3 = sums over triples of z z z times their smallest angles."""
    n = len(p4)
    pt, y, phi = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        pt[i], y[i], phi[i] = coordinates(p4[i, 0], p4[i, 1], p4[i, 2], p4[i, 3])
    out[:] = 0.0
    out[0] = pt.sum()
    if out[0] <= 0:
        return
    angle = np.empty((n, n))
    for i in range(n):
        for j in range(i):
            angle[i, j] = delta_r_squared(y[i], phi[i], y[j], phi[j]) ** (0.5 * beta)
            pair = pt[i] * pt[j]
            out[1] += pair * angle[i, j]
            for k in range(j):
                a, b, c = angle[i, j], angle[i, k], angle[j, k]
                smallest, largest = min(a, b, c), max(a, b, c)
                triple = pair * pt[k]
                product = a * b * c
                out[2] += triple * smallest
                # the two smallest; largest is 0 only where all are
                out[3] += triple * product / largest if largest > 0 else 0.0
                out[4] += triple * product
    out[1] /= out[0] ** 2
    out[2:] /= out[0] ** 3


@njit(cache=True, nogil=True)
def all_correlators(values, offsets, beta, out):  # type: ignore[no-untyped-def]
    """Fill `out` (B, 5) from constituents `values` (N, 4) of jets divided by `offsets` (B + 1,)."""
    for jet in range(len(offsets) - 1):
        correlators(values[offsets[jet] : offsets[jet + 1]], beta, out[jet])
