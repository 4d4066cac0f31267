"""Substructure of jets with free exponents: N-subjettiness, energy correlators and their ratios, soft drop.

z_i = pT_i / sum of all pT, distances ΔR in rapidity and azimuth.
"""

# Shapes: B jets, N constituents of all jets, K axes of a jet.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jetsweep.physics.clustering import ClusterHistory, Floats, cluster
from jetsweep.physics.shapes import Axis, coordinates, jet_of, segment_sum


def n_subjettiness(
    values: npt.NDArray[np.floating],
    offsets: npt.NDArray[np.integer],
    counts: tuple[int, ...] = (1, 2, 3),
    *,
    beta: float = 1.0,
    radius: float = 1.0,
    axes: Axis = "winner",
) -> Floats:
    """N-subjettiness of every jet (arXiv:1011.2268, 1108.2701).

    tau_N = sum_i z_i min_a (ΔR_ia / R)^beta for the N axes a of exclusive kt.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    counts : tuple of int
        Numbers N of axes, 1 or more.
    beta : float
        Above 0.
    radius : float
        R.
    axes : "winner" or "sum"
        Recombination of the clustering: winner-take-all (arXiv:1401.2158), near the minimum for beta of about 1, or
        sums of four-vectors, near it for beta = 2.

    Returns
    -------
    array, shape (B, len(counts))
        0 where a jet has no more constituents than axes.

    Raises
    ------
    ValueError
        If a count, the exponent or the radius is not positive, or there are no such axes.
    """
    if not all(count >= 1 for count in counts):
        raise ValueError(f"expected 1 axis or more, found {min(counts)}")
    if not (beta > 0 and radius > 0):
        raise ValueError(f"expected beta and radius above 0, found {beta} and {radius}")
    if axes not in ("winner", "sum"):
        raise ValueError(f"expected the axes winner or sum, found {axes!r}")
    history = cluster(values, offsets, "kt", winner_takes_all=axes == "winner")
    pt, y, phi = coordinates(values)
    jet, total = jet_of(offsets), segment_sum(pt, offsets)
    out = np.zeros((len(offsets) - 1, len(counts)))
    for column, count in enumerate(counts):
        closest = np.full(len(pt), np.inf)
        chosen = history.exclusive(count)
        frame, starts, found = history.frame[chosen.nodes], chosen.offsets[:-1], np.diff(chosen.offsets)
        for a in range(count):
            has = found[jet] > a
            axis = frame[starts[jet[has]] + a]
            turn = (phi[has] - axis[:, 2] + np.pi) % (2 * np.pi) - np.pi
            closest[has] = np.minimum(closest[has], np.hypot(y[has] - axis[:, 1], turn))
        weighted = segment_sum(pt * (closest / radius) ** beta, offsets)
        many = history.num_constituents > count
        np.divide(weighted, total, out=out[:, column], where=many & (total > 0))
    return out


@dataclass(frozen=True)
class EnergyCorrelators:
    """Energy correlation functions of every jet, each of shape (B,).

    Parameters
    ----------
    beta : float
        Angular exponent.
    sum_pt : array
        Sum of the constituents' pT, GeV.
    e2 : array
        sum_{i<j} z_i z_j θ_ij^beta (arXiv:1305.0007).
    v1e3, v2e3, v3e3 : array
        sum_{i<j<k} z_i z_j z_k times the product of the v smallest of the three θ^beta (arXiv:1609.07483); 3e3 is the
        e3 of arXiv:1305.0007.
    """

    beta: float
    sum_pt: Floats
    e2: Floats
    v1e3: Floats
    v2e3: Floats
    v3e3: Floats

    @property
    def ecf2(self) -> Floats:
        """ECF(2, beta) of arXiv:1305.0007, GeV^2."""
        return self.e2 * self.sum_pt**2

    @property
    def ecf3(self) -> Floats:
        """ECF(3, beta) of arXiv:1305.0007, GeV^3."""
        return self.v3e3 * self.sum_pt**3

    @property
    def c2(self) -> Floats:
        """e3 / e2^2 (arXiv:1305.0007); these four ratios are 0 where the denominator is."""
        return _ratio(self.v3e3, self.e2**2)

    @property
    def d2(self) -> Floats:
        """e3 / e2^3 (arXiv:1409.6298)."""
        return _ratio(self.v3e3, self.e2**3)

    @property
    def m2(self) -> Floats:
        """1e3 / e2 (arXiv:1609.07483)."""
        return _ratio(self.v1e3, self.e2)

    @property
    def n2(self) -> Floats:
        """2e3 / e2^2 (arXiv:1609.07483)."""
        return _ratio(self.v2e3, self.e2**2)


def energy_correlators(
    values: npt.NDArray[np.floating], offsets: npt.NDArray[np.integer], beta: float = 1.0
) -> EnergyCorrelators:
    """Two- and three-point energy correlation functions, O(n^3) in the constituents of a jet.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    beta : float
        Above 0.

    Raises
    ------
    ValueError
        If the exponent is not positive.

    Examples
    --------
    >>> jet = np.array([[3.0, 0.0, 0.0, 3.0], [0.0, 1.0, 0.0, 1.0]])
    >>> energy_correlators(jet, np.array([0, 2]), beta=2.0).e2 * 16 / (np.pi / 2) ** 2
    array([3.])
    """
    from jetsweep.physics._numba_correlators import all_correlators

    if not beta > 0:
        raise ValueError(f"expected beta above 0, found {beta}")
    out = np.zeros((len(offsets) - 1, 5))
    values = np.ascontiguousarray(values, np.float64).reshape(-1, 4)
    all_correlators(values, np.asarray(offsets, np.int64), float(beta), out)
    return EnergyCorrelators(float(beta), *out.T)


@dataclass(frozen=True)
class SoftDrop:
    """Groomed jets, each array of shape (B,).

    Parameters
    ----------
    mass : array, GeV
        Of what is left; that of a single constituent where no declustering passes.
    pt : array, GeV
    z_g : array
        min(pT_1, pT_2) / (pT_1 + pT_2) of the first declustering that passes, 0 where none does.
    r_g : array
        ΔR of its two branches, 0 where none does.
    dropped : array
        Declusterings that failed before.
    """

    mass: Floats
    pt: Floats
    z_g: Floats
    r_g: Floats
    dropped: Floats


def soft_drop(history: ClusterHistory, z_cut: float = 0.1, beta: float = 0.0, radius: float = 0.8) -> SoftDrop:
    """Groom jets with soft drop (arXiv:1402.2657); beta = 0 is the modified mass drop of arXiv:1307.0007.

    The harder branch is followed until a declustering has z > z_cut (ΔR / R)^beta.

    Parameters
    ----------
    history : ClusterHistory
        Of Cambridge/Aachen and without a beam, see `jetsweep.physics.cluster`.
    z_cut, beta : float
    radius : float
        R of the jets.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"expected a positive radius, found {radius}")
    size = len(history.offsets) - 1
    node = history.offsets[1:] - 1
    z_g, r_g, dropped = np.zeros(size), np.zeros(size), np.zeros(size)
    vector = np.zeros((size, 4))
    going = np.flatnonzero(np.diff(history.offsets) > 0)
    vector[going] = history.p4[node[going]]
    going = going[history.children[node[going], 0] >= 0]
    while len(going):
        branches = history.offsets[going, None] + history.children[node[going]]
        pt, y, phi = (history.frame[branches, i] for i in range(3))
        z = pt.min(axis=1) / np.maximum(pt.sum(axis=1), 1e-300)
        turn = (phi[:, 0] - phi[:, 1] + np.pi) % (2 * np.pi) - np.pi
        angle = np.hypot(y[:, 0] - y[:, 1], turn)
        # an angle of 0 has no negative power
        passed = z > z_cut * (np.maximum(angle, 1e-12) / radius) ** beta
        z_g[going[passed]], r_g[going[passed]] = z[passed], angle[passed]
        going, branches, pt = going[~passed], branches[~passed], pt[~passed]
        dropped[going] += 1
        node[going] = branches[np.arange(len(going)), pt.argmax(axis=1)]
        vector[going] = history.p4[node[going]]
        going = going[history.children[node[going], 0] >= 0]
    momentum = np.linalg.norm(vector[:, :3], axis=1)
    mass = np.sqrt(np.maximum((vector[:, 3] - momentum) * (vector[:, 3] + momentum), 0.0))
    return SoftDrop(mass, np.hypot(vector[:, 0], vector[:, 1]), z_g, r_g, dropped)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
