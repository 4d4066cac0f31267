"""Jet shapes of one jet's constituents, jitted: N-subjettiness, energy correlators, thrust major, Qw."""

# Arrays: n constituents; p4 (n, 4) = px, py, pz, E in GeV.

from __future__ import annotations

import numpy as np
from numba import njit, prange

from jetsweep.physics._numba_clustering import MAX_SUBJETS, cluster_kt, coordinates, delta_r_squared

NUM_VARIABLES = 15


@njit(cache=True, nogil=True)
def n_subjettiness(pt, y, phi, axes, count):  # type: ignore[no-untyped-def]
    """tau_N = sum_i pT_i min_a ΔR(i, a) / sum_i pT_i for `count` axes (pT, y, phi, …); angular exponent 1, R0 = 1."""
    total, weighted = 0.0, 0.0
    for i in range(len(pt)):
        closest = np.inf
        for a in range(count):
            closest = min(closest, delta_r_squared(y[i], phi[i], axes[a, 1], axes[a, 2]))
        weighted += pt[i] * np.sqrt(closest)
        total += pt[i]
    return weighted / total if total > 0 else 0.0


@njit(cache=True, nogil=True)
def correlators(pt, y, phi):  # type: ignore[no-untyped-def]
    """ECF1, ECF2, ECF3 with exponent 1, then ECF2 and ECF3 with exponent 2."""
    n = len(pt)
    square = np.empty((n, n))
    ecf2, ecf2_squared, ecf3, ecf3_squared = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(i):
            square[i, j] = delta_r_squared(y[i], phi[i], y[j], phi[j])
            pair = pt[i] * pt[j]
            ecf2 += pair * np.sqrt(square[i, j])
            ecf2_squared += pair * square[i, j]
            for k in range(j):
                triple = square[i, j] * square[i, k] * square[j, k]
                weight = pair * pt[k]
                ecf3 += weight * np.sqrt(triple)
                ecf3_squared += weight * triple
    return pt.sum(), ecf2, ecf3, ecf2_squared, ecf3_squared


@njit(cache=True, nogil=True)
def _thrust_axis(p):  # type: ignore[no-untyped-def]
    """Direction n that maximises sum |p·n|: best fixed point of n ← sum sign(p·n) p, started at every momentum."""
    best, axis = -1.0, np.zeros(3)
    for s in range(len(p)):
        direction = p[s].copy()
        for _ in range(50):
            total = np.zeros(3)
            for i in range(len(p)):
                side = 1.0 if p[i, 0] * direction[0] + p[i, 1] * direction[1] + p[i, 2] * direction[2] >= 0 else -1.0
                for k in range(3):
                    total[k] += side * p[i, k]
            moved = abs(total[0] - direction[0]) + abs(total[1] - direction[1]) + abs(total[2] - direction[2])
            direction = total
            length = np.sqrt(total[0] ** 2 + total[1] ** 2 + total[2] ** 2)
            if moved <= 1e-9 * length:
                break
        if length > best:
            best = length
            axis = direction / length if length > 0 else direction
    return axis


@njit(cache=True, nogil=True)
def _planar_maximum(u, v):  # type: ignore[no-untyped-def]
    """Vector of length max_n sum |p·n| along n, for momenta (u, v) in a plane.

    The best half-plane has one momentum on its border, so all are tried.
    """
    best, best_u, best_v = 0.0, 0.0, 0.0
    for s in range(len(u)):
        along_u, along_v, border_u, border_v = 0.0, 0.0, 0.0, 0.0
        for i in range(len(u)):
            side = u[i] * v[s] - v[i] * u[s]
            forward = u[i] * u[s] + v[i] * v[s]
            if abs(side) <= 1e-9 * abs(forward):
                # on the border like s itself: all of these go to the same side
                sign = 1.0 if forward >= 0 else -1.0
                border_u, border_v = border_u + sign * u[i], border_v + sign * v[i]
            else:
                sign = 1.0 if side > 0 else -1.0
                along_u, along_v = along_u + sign * u[i], along_v + sign * v[i]
        for sign in (1.0, -1.0):
            total_u, total_v = along_u + sign * border_u, along_v + sign * border_v
            if total_u**2 + total_v**2 > best:
                best, best_u, best_v = total_u**2 + total_v**2, total_u, total_v
    return best_u, best_v


@njit(cache=True, nogil=True)
def thrusts(p4):  # type: ignore[no-untyped-def]
    """Thrust, its major and its minor in the jet's rest frame: sum |p·n| / sum |p|, 0 without such a frame.

    n is the thrust axis, the best direction perpendicular to it, and the one perpendicular to both.
    """
    n = len(p4)
    jet = np.zeros(4)
    for i in range(n):
        jet += p4[i]
    mass_squared = jet[3] ** 2 - jet[0] ** 2 - jet[1] ** 2 - jet[2] ** 2
    if n < 2 or mass_squared <= 1e-12 * jet[3] ** 2:
        return 0.0, 0.0, 0.0
    mass = np.sqrt(mass_squared)
    rest, size = np.empty((n, 3)), np.empty(n)
    for i in range(n):
        along = p4[i, 0] * jet[0] + p4[i, 1] * jet[1] + p4[i, 2] * jet[2]
        shift = along / (mass * (jet[3] + mass)) - p4[i, 3] / mass
        for k in range(3):
            rest[i, k] = p4[i, k] + shift * jet[k]
        size[i] = np.sqrt((rest[i] ** 2).sum())
    axis = _thrust_axis(rest)
    # two directions that span the plane perpendicular to the axis
    first = np.zeros(3)
    first[np.argmin(np.abs(axis))] = 1.0
    first -= (first * axis).sum() * axis
    first /= np.sqrt((first**2).sum())
    second = np.cross(axis, first)
    u, v = np.empty(n), np.empty(n)
    for i in range(n):
        u[i], v[i] = (rest[i] * first).sum(), (rest[i] * second).sum()
    best_u, best_v = _planar_maximum(u, v)
    length, along, minor = np.sqrt(best_u**2 + best_v**2), 0.0, 0.0
    for i in range(n):
        along += abs((rest[i] * axis).sum())
        minor += abs(v[i] * best_u - u[i] * best_v)
    total = size.sum()
    return along / total, length / total, minor / (length * total) if length > 0 else 0.0


@njit(cache=True, nogil=True)
def all_thrusts(values, offsets, out):  # type: ignore[no-untyped-def]
    """Fill `out` (B, 3) with thrust, major and minor of jets divided by `offsets` (B + 1,)."""
    for jet in range(len(offsets) - 1):
        out[jet, 0], out[jet, 1], out[jet, 2] = thrusts(values[offsets[jet] : offsets[jet + 1]])


@njit(cache=True, nogil=True)
def _smallest_pair_mass(subjets, count):  # type: ignore[no-untyped-def]
    """Qw: smallest invariant mass of two of three exclusive kt subjets (arXiv:0806.0023); 0 with fewer than two."""
    best = np.inf
    for a in range(count):
        for b in range(a):
            total = subjets[a, 3:] + subjets[b, 3:]
            best = min(best, total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2)
    return np.sqrt(max(best, 0.0)) if count > 1 else 0.0


@njit(cache=True, nogil=True)
def one_jet(p4, out):  # type: ignore[no-untyped-def]
    """Fill `out` (15,) with the variables of one jet, in the order of `HIGH_LEVEL_NAMES`."""
    n = len(p4)
    if n == 0:
        out[:] = 0.0
        return
    pt, y, phi = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        pt[i], y[i], phi[i] = coordinates(p4[i, 0], p4[i, 1], p4[i, 2], p4[i, 3])
    _, axes = cluster_kt(p4, True)
    distances, subjets = cluster_kt(p4, False)
    for k in range(MAX_SUBJETS):
        # every constituent is its own axis when there are no more than axes
        out[k] = n_subjettiness(pt, y, phi, axes[k], k + 1) if n > k + 1 else 0.0
    out[4], out[5] = np.sqrt(distances[0]), np.sqrt(distances[1])
    ecf1, ecf2, ecf3, ecf2_squared, ecf3_squared = correlators(pt, y, phi)
    out[6], out[7], out[8] = ecf1, ecf2, ecf3
    out[9] = ecf3 * ecf1 / ecf2**2 if ecf2 > 0 else 0.0
    out[10] = ecf3 * ecf1**3 / ecf2**3 if ecf2 > 0 else 0.0
    out[11] = _smallest_pair_mass(subjets[2] if n > 2 else subjets[1], min(n, 3))
    # the pT factors cancel only after normalisation to the jet's pT
    third = ecf3 / ecf1**3 if ecf1 > 0 else 0.0
    out[12] = third / (ecf2_squared / ecf1**2) ** 1.5 if ecf2_squared > 0 else 0.0
    out[13] = third / np.sqrt(ecf3_squared / ecf1**3) if ecf3_squared > 0 else 0.0
    out[14] = thrusts(p4)[1]


@njit(cache=True, nogil=True, parallel=True)
def all_jets(values, offsets, out):  # type: ignore[no-untyped-def]
    """Fill `out` (B, 15) from constituents `values` (N, 4), float64, of jets divided by `offsets` (B + 1,)."""
    for jet in prange(len(offsets) - 1):
        one_jet(values[offsets[jet] : offsets[jet + 1]], out[jet])
