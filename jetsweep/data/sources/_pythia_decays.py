"""What the resonances of generated events decay to, and which jets contain all of it."""

# Shapes: M particles of all events of a batch, R resonances, B jets, D particles of a decay, 4 = (px, py, pz, E).

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSTABLE = (6, 23, 24, 25, 35)
"""PDG ids that are followed down to what they decay to: top, Z, W and two Higgs bosons."""


@dataclass(frozen=True)
class Decays:
    """Resonances of a batch.

    Parameters
    ----------
    event : array, shape (R,)
        Event of each.
    p4 : array, shape (R, D, 4), GeV
        The resonance at its decay, then what it decays to, before the final-state shower: a W's two quarks, a top's b
        and two quarks, the four of two Higgs bosons.
    """

    event: np.ndarray
    p4: np.ndarray

    @property
    def mass(self) -> np.ndarray:
        """Of the resonance, GeV, shape (R,)."""
        return np.asarray(np.sqrt(np.maximum(self.p4[:, 0, 3] ** 2 - (self.p4[:, 0, :3] ** 2).sum(axis=1), 0.0)))


def decays(
    resonance: int,
    pdg_id: np.ndarray,
    p4: np.ndarray,
    event: np.ndarray,
    starts: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> Decays:
    """Every decay of `resonance` in a batch; all have the same number of products.

    Parameters
    ----------
    resonance : int
        Absolute PDG id, one of `UNSTABLE`.
    pdg_id, event, first, last : array, shape (M,)
        Id and event of every particle, and its first and last daughter's place in the event; 0 where it has none.
    p4 : array, shape (M, 4), GeV
    starts : array, shape (E + 1,)
        Event `i` owns the particles ``starts[i]:starts[i + 1]``.
    """
    absolute_M = np.abs(pdg_id)
    daughters_M2 = np.stack([first, last], axis=1) + starts[event][:, None]
    # a recoil or an emission gives the record another copy of a particle, which Vincia lists after what is emitted
    same_M2 = absolute_M[daughters_M2] == absolute_M[:, None]
    copy_M = np.where(same_M2[:, 0], daughters_M2[:, 0], np.where(same_M2[:, 1], daughters_M2[:, 1], -1))
    row_R = np.flatnonzero((absolute_M == resonance) & (copy_M < 0))
    rows_RD = np.stack([row_R, *_products(row_R, absolute_M, daughters_M2, copy_M)], axis=1)
    return Decays(event[row_R], p4[rows_RD])


def _products(
    row_R: np.ndarray, absolute_M: np.ndarray, daughters_M2: np.ndarray, copy_M: np.ndarray
) -> list[np.ndarray]:
    """Rows of what the particles `row_R` decay to; the particles themselves where they are no resonances."""
    if len(row_R) == 0 or not np.isin(absolute_M[row_R], UNSTABLE).all():
        return [row_R]
    while (copied_R := copy_M[row_R] >= 0).any():
        row_R = np.where(copied_R, copy_M[row_R], row_R)
    one_R, other_R = daughters_M2[row_R].T
    # t → W b in either order: the one that decays further comes first
    swap_R = np.isin(absolute_M[other_R], UNSTABLE) & ~np.isin(absolute_M[one_R], UNSTABLE)
    one_R, other_R = np.where(swap_R, other_R, one_R), np.where(swap_R, one_R, other_R)
    return [product for row in (one_R, other_R) for product in _products(row, absolute_M, daughters_M2, copy_M)]


def contained(jet_event: np.ndarray, jet_p4: np.ndarray, of: Decays, radius: float) -> np.ndarray:
    """For each jet, a resonance of its event that lies inside it with all its products, shape (B,); -1 for none.

    Parameters
    ----------
    jet_event : array, shape (B,)
    jet_p4 : array, shape (B, 4), GeV
    of : Decays
    radius : float
        Largest distance in eta and phi from the jet's axis.
    """
    found_B = np.full(len(jet_event), -1)
    # a batch has few resonances per event: compare every jet with every resonance of its event
    jet, resonance = np.nonzero(jet_event[:, None] == of.event[None, :])
    d_eta = pseudorapidity(of.p4)[resonance] - pseudorapidity(jet_p4)[jet, None]
    d_phi = np.arctan2(of.p4[..., 1], of.p4[..., 0])[resonance] - np.arctan2(jet_p4[:, 1], jet_p4[:, 0])[jet, None]
    d_phi = (d_phi + np.pi) % (2 * np.pi) - np.pi
    inside = (np.hypot(d_eta, d_phi) < radius).all(axis=1)
    found_B[jet[inside]] = resonance[inside]
    return found_B


def pseudorapidity(p4: np.ndarray) -> np.ndarray:
    """Of four-vectors (..., 4), shape (...)."""
    return np.asarray(np.arcsinh(p4[..., 2] / np.maximum(np.hypot(p4[..., 0], p4[..., 1]), 1e-9)))
