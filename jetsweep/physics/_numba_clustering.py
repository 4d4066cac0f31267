"""Sequential kt clustering of one jet's constituents, jitted; no beam distance, so it runs down to one jet.

The exclusive kt algorithm (Catani et al. 1993, Ellis and Soper 1993) with distances d_ij = min(pT)^2 ΔR_ij^2.
"""

# Arrays: n constituents; columns px, py, pz, E in GeV.

from __future__ import annotations

import numpy as np
from numba import njit

MAX_SUBJETS = 4


@njit(cache=True, nogil=True)
def coordinates(px, py, pz, energy):  # type: ignore[no-untyped-def]
    """Transverse momentum (GeV), rapidity and azimuth of one four-vector."""
    pt = np.sqrt(px * px + py * py)
    phi = np.arctan2(py, px)
    along = abs(pz)
    transverse_mass_squared = max((energy - along) * (energy + along), 1e-20)
    rapidity = np.log((energy + along + 1e-30) / np.sqrt(transverse_mass_squared))
    return pt, rapidity if pz >= 0 else -rapidity, phi


@njit(cache=True, nogil=True)
def delta_r_squared(y_a, phi_a, y_b, phi_b):  # type: ignore[no-untyped-def]
    """Squared distance in rapidity and azimuth."""
    turn = abs(phi_a - phi_b)
    if turn > np.pi:
        turn = 2 * np.pi - turn
    return (y_a - y_b) ** 2 + turn * turn


@njit(cache=True, nogil=True)
def _nearest(i, active, pt, y, phi):  # type: ignore[no-untyped-def]
    best, where = np.inf, -1
    for j in range(len(active)):
        if active[j] and j != i:
            distance = min(pt[i], pt[j]) ** 2 * delta_r_squared(y[i], phi[i], y[j], phi[j])
            if distance < best:
                best, where = distance, j
    return best, where


@njit(cache=True, nogil=True)
def cluster_kt(p4, winner_takes_all):  # type: ignore[no-untyped-def]
    """Cluster one jet down to one subjet.

    Parameters
    ----------
    p4 : float64 array, shape (n, 4)
    winner_takes_all : bool
        Recombination: the direction of the harder and the sum of pT (arXiv:1401.2158); else the sum of four-vectors.

    Returns
    -------
    distances : float64 array, shape (MAX_SUBJETS,)
        At k - 1: the d_ij of the step from k + 1 to k subjets, 0 where there is none.
    subjets : float64 array, shape (MAX_SUBJETS, MAX_SUBJETS, 7)
        At k - 1: the k subjets as (pT, y, phi, px, py, pz, E); fewer where there are fewer constituents.
    """
    n = len(p4)
    pt, y, phi = np.empty(n), np.empty(n), np.empty(n)
    vector = p4.copy()
    for i in range(n):
        pt[i], y[i], phi[i] = coordinates(p4[i, 0], p4[i, 1], p4[i, 2], p4[i, 3])
    active = np.ones(n, dtype=np.bool_)
    near_distance, near = np.empty(n), np.empty(n, dtype=np.int64)
    for i in range(n):
        near_distance[i], near[i] = _nearest(i, active, pt, y, phi)
    distances = np.zeros(MAX_SUBJETS)
    subjets = np.zeros((MAX_SUBJETS, MAX_SUBJETS, 7))
    count = n
    while count > 0:
        if count <= MAX_SUBJETS:
            _record(subjets[count - 1], active, pt, y, phi, vector)
        if count == 1:
            break
        a = -1
        for i in range(n):
            if active[i] and (a < 0 or near_distance[i] < near_distance[a]):
                a = i
        b = near[a]
        if count - 1 <= MAX_SUBJETS:
            distances[count - 2] = near_distance[a]
        harder = a if pt[a] >= pt[b] else b
        vector[a] += vector[b]
        if winner_takes_all:
            pt[a], y[a], phi[a] = pt[a] + pt[b], y[harder], phi[harder]
        else:
            pt[a], y[a], phi[a] = coordinates(vector[a, 0], vector[a, 1], vector[a, 2], vector[a, 3])
        active[b] = False
        count -= 1
        for i in range(n):
            if active[i]:
                if i == a or near[i] == a or near[i] == b:
                    near_distance[i], near[i] = _nearest(i, active, pt, y, phi)
                else:
                    distance = min(pt[i], pt[a]) ** 2 * delta_r_squared(y[i], phi[i], y[a], phi[a])
                    if distance < near_distance[i]:
                        near_distance[i], near[i] = distance, a
    return distances, subjets


@njit(cache=True, nogil=True)
def _record(out, active, pt, y, phi, vector):  # type: ignore[no-untyped-def]
    k = 0
    for i in range(len(active)):
        if active[i]:
            out[k, 0], out[k, 1], out[k, 2] = pt[i], y[i], phi[i]
            out[k, 3:] = vector[i]
            k += 1
