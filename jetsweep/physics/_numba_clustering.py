"""Sequential clustering of one jet's constituents with its whole history, jitted.

Generalised kt distances (arXiv:0802.1189) d_ij = min(pT_i^2p, pT_j^2p) ΔR_ij^2 / R^2 and d_iB = pT_i^2p: kt (p = 1,
Catani et al. 1993, Ellis and Soper 1993), Cambridge/Aachen (p = 0) and anti-kt (p = -1). Without a beam (infinite R,
distances not divided by it) every jet ends as one tree. The nearest neighbour in angle is kept for every particle
(hep-ph/0512210), so n particles take O(n^2).
"""

# Arrays: n constituents, M = 2n - 1 nodes at most; four-vectors px, py, pz, E in GeV; frames pT, rapidity, azimuth.

from __future__ import annotations

import numpy as np
from numba import njit

MAX_SUBJETS = 4


@njit(cache=True, nogil=True)
def coordinates(px, py, pz, energy):  # type: ignore[no-untyped-def]
    """Transverse momentum (GeV), rapidity and azimuth of one four-vector; far away but finite along the beam."""
    pt = np.sqrt(px * px + py * py)
    phi = np.arctan2(py, px)
    along = abs(pz)
    if pt == 0.0 and energy <= along:
        rapidity = 1e5 + along
    else:
        # rounding must not make a massless particle tachyonic
        transverse_mass_squared = max((energy - along) * (energy + along), pt * pt)
        rapidity = np.log((energy + along) / np.sqrt(transverse_mass_squared))
    return pt, rapidity if pz >= 0 else -rapidity, phi


@njit(cache=True, nogil=True)
def delta_r_squared(y_a, phi_a, y_b, phi_b):  # type: ignore[no-untyped-def]
    """Squared distance in rapidity and azimuth."""
    turn = abs(phi_a - phi_b)
    if turn > np.pi:
        turn = 2 * np.pi - turn
    return (y_a - y_b) ** 2 + turn * turn


@njit(cache=True, nogil=True)
def _weight(pt, power):  # type: ignore[no-untyped-def]
    """pT^2p; finite where p < 0 and there is no pT."""
    if power == 0.0:
        return 1.0
    if power == 1.0:
        return pt * pt
    square = max(pt * pt, 1e-300)
    return 1.0 / square if power == -1.0 else square**power


@njit(cache=True, nogil=True)
def _nearest(i, count, y, phi, limit):  # type: ignore[no-untyped-def]
    """Squared distance and slot of the nearest of `count` others below `limit`; (`limit`, -1) if there is none."""
    best, where = limit, -1
    for j in range(count):
        if j != i:
            square = delta_r_squared(y[i], phi[i], y[j], phi[j])
            if square < best:
                best, where = square, j
    return best, where


@njit(cache=True, nogil=True)
def _forget(gone, kept, count, y, phi, limit, near, near_square):  # type: ignore[no-untyped-def]
    """Neighbours after slot `gone` was filled from slot `count` and slot `kept` (-1: none) holds a new particle."""
    for i in range(count):
        old = near[i]
        if i == kept or old == gone or (kept >= 0 and old == kept):
            near_square[i], near[i] = _nearest(i, count, y, phi, limit)
            continue
        if old == count:
            near[i] = gone
        if kept >= 0:
            square = delta_r_squared(y[i], phi[i], y[kept], phi[kept])
            if square < near_square[i]:
                near_square[i], near[i] = square, kept


@njit(cache=True, nogil=True)
def cluster(p4, power, radius, winner_takes_all, vector, frame, children, parent, step, distance):  # type: ignore[no-untyped-def]
    """Cluster one jet and fill its history: n leaves in input order, then a node for each merge.

    Parameters
    ----------
    p4 : float64 array, shape (n, 4)
    power : float
        p above.
    radius : float
        R; infinite for no beam.
    winner_takes_all : bool
        Recombination: the direction of the harder and the sum of pT (arXiv:1401.2158); else the sum of four-vectors.
    vector, frame : float64 arrays, shapes (M, 4) and (M, 3)
        Out: sum of four-vectors; pT, rapidity and azimuth.
    children : int64 array, shape (M, 2)
        Out: the merged nodes, that of larger pT first; -1 for a leaf.
    parent : int64 array, shape (M,)
        Out: the node that this one was merged into; -1 if it went to the beam or is the last.
    step, distance : int64 and float64 arrays, shape (M,)
        Out: when the node was merged or went to the beam, 0 to n - 1, and the distance of that step (GeV^2p;
        infinite for the last one without a beam).

    Returns
    -------
    int
        Number of nodes.
    """
    n = len(p4)
    limit = radius * radius
    weight, y, phi, near_square = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    node, near = np.arange(n), np.empty(n, dtype=np.int64)
    for i in range(n):
        vector[i] = p4[i]
        frame[i, 0], frame[i, 1], frame[i, 2] = coordinates(p4[i, 0], p4[i, 1], p4[i, 2], p4[i, 3])
        weight[i], y[i], phi[i] = _weight(frame[i, 0], power), frame[i, 1], frame[i, 2]
        children[i] = -1
    for i in range(n):
        near_square[i], near[i] = _nearest(i, n, y, phi, limit)
    num_nodes, count = n, n
    for now in range(n):
        a = 0
        for i in range(1, count):
            # the smaller weight of a closest pair is that of the particle whose nearest neighbour is the other
            if weight[i] * near_square[i] < weight[a] * near_square[a]:
                a = i
        b = near[a]
        count -= 1
        if b < 0:
            step[node[a]], parent[node[a]] = now, -1
            distance[node[a]] = weight[a] if np.isfinite(limit) else np.inf
            gone, kept = a, -1
        else:
            smallest = weight[a] * near_square[a]
            harder, softer = node[a], node[b]
            if frame[softer, 0] > frame[harder, 0]:
                harder, softer = softer, harder
            kept, gone = min(a, b), max(a, b)
            for old in (harder, softer):
                step[old], parent[old] = now, num_nodes
                distance[old] = smallest / limit if np.isfinite(limit) else smallest
            children[num_nodes, 0], children[num_nodes, 1] = harder, softer
            vector[num_nodes] = vector[harder] + vector[softer]
            if winner_takes_all:
                frame[num_nodes, 0] = frame[harder, 0] + frame[softer, 0]
                frame[num_nodes, 1:] = frame[harder, 1:]
            else:
                sums = vector[num_nodes]
                pt_y_phi = coordinates(sums[0], sums[1], sums[2], sums[3])
                frame[num_nodes, 0], frame[num_nodes, 1], frame[num_nodes, 2] = pt_y_phi
            node[kept], weight[kept] = num_nodes, _weight(frame[num_nodes, 0], power)
            y[kept], phi[kept] = frame[num_nodes, 1], frame[num_nodes, 2]
            num_nodes += 1
        node[gone], weight[gone], y[gone], phi[gone] = node[count], weight[count], y[count], phi[count]
        near_square[gone], near[gone] = near_square[count], near[count]
        _forget(gone, kept, count, y, phi, limit, near, near_square)
    return num_nodes


@njit(cache=True, nogil=True)
def cluster_kt(p4, winner_takes_all):  # type: ignore[no-untyped-def]
    """Cluster one jet with kt and no beam down to one subjet.

    Parameters
    ----------
    p4 : float64 array, shape (n, 4)
    winner_takes_all : bool
        Recombination, as in `cluster`.

    Returns
    -------
    distances : float64 array, shape (MAX_SUBJETS,)
        At k - 1: the d_ij of the step from k + 1 to k subjets, 0 where there is none.
    subjets : float64 array, shape (MAX_SUBJETS, MAX_SUBJETS, 7)
        At k - 1: the k subjets as (pT, y, phi, px, py, pz, E); fewer where there are fewer constituents.
    """
    n = len(p4)
    size = max(2 * n - 1, 0)
    vector, frame, children = np.empty((size, 4)), np.empty((size, 3)), np.empty((size, 2), dtype=np.int64)
    parent, step, distance = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64), np.empty(size)
    cluster(p4, 1.0, np.inf, winner_takes_all, vector, frame, children, parent, step, distance)
    distances = np.zeros(MAX_SUBJETS)
    subjets = np.zeros((MAX_SUBJETS, MAX_SUBJETS, 7))
    for k in range(1, min(n, MAX_SUBJETS) + 1):
        if k < n:
            distances[k - 1] = distance[children[2 * n - k - 1, 0]]
        row = 0
        # n - k steps have made that many merges; what none of them took is a subjet
        for i in range(2 * n - k):
            if step[i] >= n - k:
                subjets[k - 1, row, :3], subjets[k - 1, row, 3:] = frame[i], vector[i]
                row += 1
    return distances, subjets


@njit(cache=True, nogil=True)
def cluster_all(  # type: ignore[no-untyped-def]
    values, offsets, power, radius, winner_takes_all, starts, vector, frame, children, parent, step, distance, num_nodes
):
    """Fill the histories of jets divided by `offsets` (B + 1,), that of each from `starts` (B + 1,) on.

    On one thread, without the interpreter's lock: numba's own threads must not be started by two loaders at once.
    """
    for jet in range(len(offsets) - 1):
        low, high = starts[jet], starts[jet + 1]
        num_nodes[jet] = cluster(
            values[offsets[jet] : offsets[jet + 1]],
            power,
            radius,
            winner_takes_all,
            vector[low:high],
            frame[low:high],
            children[low:high],
            parent[low:high],
            step[low:high],
            distance[low:high],
        )


@njit(cache=True, nogil=True)
def owners(parent, offsets, chosen, out):  # type: ignore[no-untyped-def]
    """For every node the rank in its jet of the chosen node that it is part of, -1 where there is none."""
    for jet in range(len(offsets) - 1):
        low, high = offsets[jet], offsets[jet + 1]
        rank = 0
        for i in range(low, high):
            out[i] = -1
            if chosen[i]:
                out[i] = rank
                rank += 1
        # parents come after their children
        for i in range(high - 1, low - 1, -1):
            if out[i] < 0 and parent[i] >= 0:
                out[i] = out[low + parent[i]]
