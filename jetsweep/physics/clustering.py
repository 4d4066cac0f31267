"""Sequential clustering of ragged batches of jets, with the whole merge history, inclusive and exclusive jets.

Distances d_ij = min(pT_i^2p, pT_j^2p) ΔR_ij^2 / R^2 and d_iB = pT_i^2p (arXiv:0802.1189), ΔR in rapidity and azimuth.
"""

# Shapes: B jets, N constituents of all jets, M nodes of all jets, J jets found in all.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POWERS = {"kt": 1.0, "cambridge": 0.0, "antikt": -1.0}
"""Exponents p of the named algorithms."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClusterHistory:
    """What was merged with what, for every jet of a batch.

    Jet `i` owns the nodes ``offsets[i]:offsets[i + 1]``: first its n constituents in input order, then a node for every
    merge in the order of merging, so that children come before their parents. Without a beam these are 2n - 1 nodes
    of one binary tree whose root is the last; node numbers count from the jet's first node.

    Parameters
    ----------
    p4 : array, shape (M, 4)
        Sums of the constituents' (px, py, pz, E), GeV.
    frame : array, shape (M, 3)
        pT (GeV), rapidity and azimuth that distances were measured with.
    children : array, shape (M, 2)
        The two merged nodes, that of larger pT first; -1 for a constituent.
    parent : array, shape (M,)
        The node that this one was merged into; -1 if it went to the beam or is the root.
    step : array, shape (M,)
        Step 0 to n - 1 at which the node was merged or went to the beam (the root: n - 1).
    distance : array, shape (M,)
        d_ij or d_iB of that step, GeV^2p; infinite for the root without a beam.
    offsets : array, shape (B + 1,)
    constituent_offsets : array, shape (B + 1,)
    """

    p4: Floats
    frame: Floats
    children: Ints
    parent: Ints
    step: Ints
    distance: Floats
    offsets: Ints
    constituent_offsets: Ints

    @property
    def num_constituents(self) -> Ints:
        """Constituents n of each jet, shape (B,)."""
        return np.diff(self.constituent_offsets)

    @property
    def jet(self) -> Ints:
        """Jet of each node, shape (M,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def created(self) -> Ints:
        """Steps after which each node is there, shape (M,): 0 for a constituent."""
        made = np.zeros(len(self.step), np.int64)
        is_merge = self.children[:, 0] >= 0
        made[is_merge] = self.step[self.offsets[:-1][self.jet[is_merge]] + self.children[is_merge, 0]] + 1
        return made

    def inclusive(self, min_pt: float = 0.0) -> Selection:
        """Nodes that went to the beam (or the root), by jet in the order of merging.

        Parameters
        ----------
        min_pt : float, GeV
            Smallest transverse momentum, of the sum of four-vectors.
        """
        return Selection(self, (self.parent < 0) & (np.hypot(self.p4[:, 0], self.p4[:, 1]) >= min_pt))

    def exclusive(self, count: int | Ints) -> Selection:
        """Nodes that are there when so many are left; all constituents of jets that have no more.

        With a beam the jets that went to it before are not among them, as in the exclusive kt algorithm for hadron
        collisions (Catani et al. 1993). Cambridge/Aachen sends them there in any order: all d_iB are 1.

        Parameters
        ----------
        count : int or array, shape (B,)

        Raises
        ------
        ValueError
            If a count is negative.
        """
        count_B = np.broadcast_to(np.asarray(count, np.int64), self.num_constituents.shape)
        if (count_B < 0).any():
            raise ValueError(f"expected a number of exclusive jets of 0 or more, found {int(count_B.min())}")
        steps_taken = np.maximum(self.num_constituents - count_B, 0)[self.jet]
        return Selection(self, (self.created <= steps_taken) & (self.step >= steps_taken))

    def exclusive_below(self, max_distance: float) -> Selection:
        """Nodes that are there after the last step before a distance exceeds `max_distance` for good.

        Steps count with the largest distance so far: those of anti-kt do not grow from one to the next.

        Parameters
        ----------
        max_distance : float, GeV^2p
        """
        by_step = np.zeros(int(self.constituent_offsets[-1]))
        # the two nodes of a merge write the same number
        by_step[self.constituent_offsets[:-1][self.jet] + self.step] = self.distance
        counts = [
            int((np.maximum.accumulate(by_step[low:high]) > max_distance).sum())
            for low, high in zip(self.constituent_offsets[:-1], self.constituent_offsets[1:])
        ]
        return self.exclusive(np.array(counts, np.int64))


@dataclass(frozen=True)
class Selection:
    """Some nodes of a history that share no constituent: the jets found in every jet (or event).

    Parameters
    ----------
    history : ClusterHistory
    is_chosen : array, shape (M,), bool
    """

    history: ClusterHistory
    is_chosen: npt.NDArray[np.bool_]

    @property
    def nodes(self) -> Ints:
        """Positions among all M nodes, shape (J,), ascending."""
        return np.flatnonzero(self.is_chosen)

    @property
    def p4(self) -> Floats:
        """Four-vectors (px, py, pz, E) in GeV, shape (J, 4)."""
        return self.history.p4[self.nodes]

    @property
    def offsets(self) -> Ints:
        """Row `i` owns the found jets ``offsets[i]:offsets[i + 1]``, shape (B + 1,)."""
        total = np.concatenate([[0], np.cumsum(self.is_chosen)])
        return total[self.history.offsets].astype(np.int64)

    def constituent_jet(self) -> Ints:
        """Which found jet of its row every constituent is in, shape (N,); -1 where it is in none."""
        from jetsweep.physics._numba_clustering import owners

        history = self.history
        owner = np.empty(len(history.parent), np.int64)
        owners(history.parent, history.offsets, self.is_chosen, owner)
        is_constituent: Ints = owner[history.children[:, 0] < 0]
        return is_constituent


def cluster(
    values: npt.NDArray[np.floating],
    offsets: npt.NDArray[np.integer],
    algorithm: str | float = "cambridge",
    radius: float | None = None,
    *,
    winner_takes_all: bool = False,
) -> ClusterHistory:
    """Cluster every jet (or event) of a batch, in double precision, O(n^2) in its constituents.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    algorithm : "kt", "cambridge", "antikt" or float
        Exponent p by name or as a number.
    radius : float, optional
        R. Without it there is no beam: every jet becomes one tree, and distances are those of R = 1.
    winner_takes_all : bool
        Directions of merges: that of the harder (arXiv:1401.2158) instead of that of the sum.

    Returns
    -------
    ClusterHistory

    Raises
    ------
    ValueError
        If there is no such algorithm, the radius is not positive, or a four-vector is not finite.

    Examples
    --------
    >>> jets = np.array([[3.0, 0.0, 0.0, 3.0], [2.0, 0.1, 0.0, 2.1], [0.0, 1.0, 0.0, 1.0]])
    >>> cluster(jets, np.array([0, 3]), "kt").children.tolist()
    [[-1, -1], [-1, -1], [-1, -1], [0, 1], [3, 2]]
    """
    from jetsweep.physics._numba_clustering import cluster_all

    if isinstance(algorithm, str) and algorithm not in POWERS:
        raise ValueError(f"expected one of the algorithms {', '.join(POWERS)} or an exponent, found {algorithm!r}")
    if radius is not None and not radius > 0:
        raise ValueError(f"expected a positive radius, found {radius}")
    power = POWERS[algorithm] if isinstance(algorithm, str) else float(algorithm)
    values = np.ascontiguousarray(values, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(values).all():
        raise ValueError("expected finite four-vectors, found NaN or infinity")
    constituent_offsets = np.asarray(offsets, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(np.maximum(2 * np.diff(constituent_offsets) - 1, 0))]).astype(np.int64)
    size = int(starts[-1])
    p4, frame, children = np.empty((size, 4)), np.empty((size, 3)), np.empty((size, 2), np.int64)
    parent, step, distance = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    num_nodes = np.zeros(len(starts) - 1, np.int64)
    history = (p4, frame, children, parent, step, distance)
    cluster_all(
        values,
        constituent_offsets,
        power,
        np.inf if radius is None else float(radius),
        winner_takes_all,
        starts,
        *history,
        num_nodes,
    )
    node_offsets = np.concatenate([[0], np.cumsum(num_nodes)]).astype(np.int64)
    if node_offsets[-1] < size:
        # jets that went to the beam left nodes unused
        place = np.arange(size) - np.repeat(starts[:-1], np.diff(starts))
        is_used = place < np.repeat(num_nodes, np.diff(starts))
        p4, frame, distance = p4[is_used], frame[is_used], distance[is_used]
        children, parent, step = children[is_used], parent[is_used], step[is_used]
    return ClusterHistory(p4, frame, children, parent, step, distance, node_offsets, constituent_offsets)
