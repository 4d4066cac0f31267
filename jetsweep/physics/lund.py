"""Lund planes: full and primary, from the Cambridge/Aachen history of a jet.

Each merge of the history is undone from the root down: a declustering into a harder branch a and a softer branch b (by
pT). Coordinates as in the paper of the Lund jet plane (arXiv:1807.04758, section 2) and LundNet (arXiv:2012.08526):

===========  ===================================================================================
``ln_kt``    ln kT, kT = pT_b Δ in GeV
``ln_delta`` ln Δ, Δ^2 = (y_a - y_b)^2 + (phi_a - phi_b)^2, not below 1e-6
``ln_z``     ln z, z = pT_b / (pT_a + pT_b)
``psi``      arctan((y_a - y_b) / (phi_a - phi_b)), azimuthal angle about the harder branch, in [-pi/2, pi/2]
``ln_m``     ln m, m^2 = |(p_a + p_b)^2|, GeV; not below ln 1e-20
``ln_kappa`` ln kappa, kappa = z Δ
===========  ===================================================================================

The primary plane holds the declusterings met when following the harder branch each time.
"""

# Shapes: B jets, N declusterings of all jets.

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jetsweep.physics.clustering import ClusterHistory, Floats, Ints, cluster

LUND_COLUMNS = ("ln_kt", "ln_delta", "ln_z", "psi", "ln_m", "ln_kappa")
LUND_NODE_COLUMNS = (*LUND_COLUMNS, "above", "harder", "softer")
"""Columns of `lund_nodes`."""


class LundCuts(NamedTuple):
    """Where a plane ends, as in `lund_plane`; nothing is cut by default."""

    min_kt: float = 0.0
    min_delta: float = 0.0


UNCUT = LundCuts()


@dataclass(frozen=True)
class LundPlane:
    """Declusterings of every jet, widest last merge first, so that a declustering comes after the one it hangs from.

    Parameters
    ----------
    values : array, shape (N, 6)
        Columns in the order of `LUND_COLUMNS`.
    links : array, shape (N, 3)
        Declusterings next to each in the tree, counted from the jet's first, -1 where there is none: the one it hangs
        from, that of its harder branch, that of its softer branch.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Floats
    links: Ints
    offsets: Ints

    def __getitem__(self, name: str) -> Floats:
        """Column by name, shape (N,)."""
        column: Floats = self.values[:, LUND_COLUMNS.index(name)]
        return column

    @property
    def is_primary(self) -> npt.NDArray[np.bool_]:
        """Whether a declustering lies on the primary plane, shape (N,)."""
        from jetsweep.physics._numba_lund import mark_primary

        marks = np.empty(len(self.links), np.bool_)
        mark_primary(self.links, self.offsets, marks)
        return marks

    def primary(self) -> LundPlane:
        """The primary plane: each jet's declusterings in the order in which the harder branch is followed."""
        marks = self.is_primary
        offsets = np.concatenate([[0], np.cumsum(marks)])[self.offsets].astype(np.int64)
        lengths = np.diff(offsets)
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        links = np.full((len(place), 3), -1, np.int64)
        links[:, 0] = place - 1
        links[:, 1] = np.where(place + 1 < np.repeat(lengths, lengths), place + 1, -1)
        return LundPlane(self.values[marks], links, offsets)


def lund_plane(history: ClusterHistory, *, min_kt: float = 0.0, min_delta: float = 0.0) -> LundPlane:
    """Undo the merges of a history.

    With ``min_kt > 0`` the primary plane is infrared and collinear safe: soft emissions and collinear splittings add
    nothing to it.

    Parameters
    ----------
    history : ClusterHistory
        Of Cambridge/Aachen and without a beam for the Lund plane of the papers.
    min_kt : float, GeV
        A declustering below is passed over: its harder branch takes its place, its softer branch is left out.
    min_delta : float
        A declustering below ends its branch.

    Returns
    -------
    LundPlane
        n - 1 declusterings of a jet of n constituents if nothing is cut.

    Raises
    ------
    ValueError
        If a cut is negative.
    """
    from jetsweep.physics._numba_lund import NUM_COLUMNS, decluster

    for name, cut in {"min_kt": min_kt, "min_delta": min_delta}.items():
        if not cut >= 0:
            raise ValueError(f"expected {name} of 0 or more, found {cut}")
    size = int((history.children[:, 0] >= 0).sum())
    # one row more: a declustering is computed before it is known whether it stays
    values, links = np.empty((size + 1, NUM_COLUMNS)), np.empty((size + 1, 3), np.int64)
    offsets = np.empty(len(history.offsets), np.int64)
    tree = (history.p4, history.frame, history.children, history.parent, history.offsets)
    num_kept = decluster(*tree, float(min_kt), float(min_delta), values, links, offsets)
    return LundPlane(values[:num_kept], links[:num_kept], offsets)


def lund_plane_of_jets(
    values: npt.NDArray[np.floating],
    offsets: npt.NDArray[np.integer],
    *,
    min_kt: float = 0.0,
    min_delta: float = 0.0,
) -> LundPlane:
    """Cluster constituents with Cambridge/Aachen and undo the merges.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    min_kt, min_delta : float
        As in `lund_plane`.
    """
    return lund_plane(cluster(values, offsets, "cambridge"), min_kt=min_kt, min_delta=min_delta)


def lund_nodes(
    values: npt.NDArray[np.floating], offsets: npt.NDArray[np.integer], cuts: LundCuts = UNCUT
) -> tuple[npt.NDArray[np.float32], Ints]:
    """Declusterings and their links as one table, as networks on Lund trees read them (arXiv:2012.08526).

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    cuts : LundCuts

    Returns
    -------
    nodes : array, shape (M, 9), float32
        Columns in the order of `LUND_NODE_COLUMNS`. A jet without declusterings, of one constituent or because all are
        cut, is one node of zeros without links.
    offsets : array, shape (B + 1,)
    """
    plane = lund_plane_of_jets(values, offsets, min_kt=cuts.min_kt, min_delta=cuts.min_delta)
    lengths = np.diff(plane.offsets)
    is_bare = (np.diff(np.asarray(offsets)) > 0) & (lengths == 0)
    node_offsets = np.concatenate([[0], np.cumsum(lengths + is_bare)]).astype(np.int64)
    nodes = np.zeros((int(node_offsets[-1]), len(LUND_NODE_COLUMNS)), np.float32)
    nodes[:, -3:] = -1
    is_real = ~np.repeat(is_bare, lengths + is_bare)
    nodes[is_real, :-3], nodes[is_real, -3:] = plane.values, plane.links
    return nodes, node_offsets


def lund_density(
    plane: LundPlane, ln_inverse_delta: npt.NDArray[np.floating], ln_kt: npt.NDArray[np.floating]
) -> Floats:
    """Average density of declusterings, rho = 1/N_jets d^2 n / (d ln kT d ln 1/Δ) (arXiv:1807.04758).

    Parameters
    ----------
    plane : LundPlane
        The primary one for the density of the paper.
    ln_inverse_delta : array, shape (K + 1,)
        Bin edges of ln 1/Δ.
    ln_kt : array, shape (L + 1,)
        Bin edges of ln kT.

    Returns
    -------
    array, shape (K, L)
        Its sum times the bin area is the mean number of declusterings of a jet inside the edges.
    """
    counts, edges_x, edges_y = np.histogram2d(-plane["ln_delta"], plane["ln_kt"], (ln_inverse_delta, ln_kt))
    density: Floats = counts / np.outer(np.diff(edges_x), np.diff(edges_y)) / max(len(plane.offsets) - 1, 1)
    return density
