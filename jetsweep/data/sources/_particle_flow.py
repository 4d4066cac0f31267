"""A toy particle flow: tracks, and calorimeter cells without tracks. Not Delphes; every manifest says so."""

# Shapes: M generated particles of all events of a batch, N reconstructed objects.

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jetsweep.data.sources._jets import FLAGS, flags_of_ids

SETTINGS = {
    "tracks": "abs(eta) < 2.5, pt > 0.5 GeV, efficiency 0.95, sigma(pt)/pt = 0.01 (+) 1.5e-4 pt",
    "photon, electron without track": "cells 0.02 (0.1 beyond 2.5), sigma(E) = 0.10 sqrt(E) (+) 0.007 E, E > 0.5 GeV",
    "other without track": "cells of 0.1 (0.2 beyond 2.5), sigma(E) = 0.50 sqrt(E) (+) 0.03 E, E > 1.0 GeV",
    "reach": "abs(eta) < 4.9; muons without track are lost; positions uniform in the cell; massless",
}
TRACK_ETA, REACH_ETA = 2.5, 4.9


def particle_flow(
    p4: np.ndarray,
    pdg_id: np.ndarray,
    event: np.ndarray,
    rng: np.random.Generator,
    of_tracks: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """What a simple detector sees.

    Parameters
    ----------
    p4 : array, shape (M, 4)
        px, py, pz, energy of visible final particles, GeV.
    pdg_id : array, shape (M,)
    event : array, shape (M,)
        Event number of each, ascending.
    rng : numpy.random.Generator
    of_tracks : dict of str to array, shape (M,), optional
        Further columns that a track takes along.

    Returns
    -------
    p4 : array, shape (N, 4)
        Massless objects, by event.
    columns : dict of str to array, shape (N,)
        Charge and the five species flags, as the detector would tell them; those of `of_tracks`, whose integers are -1
        and whose other numbers are 0 without a track.
    event : array, shape (N,)
    """
    pt_M = np.hypot(p4[:, 0], p4[:, 1])
    eta_M = np.arcsinh(p4[:, 2] / np.maximum(pt_M, 1e-9))
    inside_M = np.abs(eta_M) < REACH_ETA
    carried = {name: x[inside_M] for name, x in (of_tracks or {}).items()}
    p4, pdg_id, event, pt_M, eta_M = p4[inside_M], pdg_id[inside_M], event[inside_M], pt_M[inside_M], eta_M[inside_M]
    phi_M = np.arctan2(p4[:, 1], p4[:, 0])
    kinds = flags_of_ids(pdg_id)

    in_tracker_M = (kinds["charge"] != 0) & (np.abs(eta_M) < TRACK_ETA) & (pt_M > 0.5)
    tracked_M = in_tracker_M & (rng.random(len(pt_M)) < 0.95)
    pt_T = pt_M[tracked_M]
    pt_T = pt_T * np.maximum(1 + np.hypot(0.01, 1.5e-4 * pt_T) * rng.normal(size=len(pt_T)), 0.01)
    parts = [(pt_T, eta_M[tracked_M], phi_M[tracked_M], event[tracked_M])]
    columns = [{name: x[tracked_M] for name, x in (kinds | carried).items()}]
    without_track = {name: x.dtype.type(-1 if x.dtype.kind == "i" else 0) for name, x in carried.items()}

    electromagnetic_M = kinds["is_photon"] | kinds["is_electron"]
    hadronic_M = ~(electromagnetic_M | kinds["is_muon"])
    for deposits_M, cell, stochastic, constant, threshold, flag in (
        (electromagnetic_M & ~tracked_M, 0.02, 0.10, 0.007, 0.5, "is_photon"),
        (hadronic_M & ~tracked_M, 0.1, 0.50, 0.03, 1.0, "is_neutral_hadron"),
    ):
        for central, size in ((True, cell), (False, 0.1 if flag == "is_photon" else 0.2)):
            here_M = deposits_M & ((np.abs(eta_M) < TRACK_ETA) == central)
            cells = _cells(p4[here_M, 3], eta_M[here_M], phi_M[here_M], event[here_M], size)
            energy_C, eta_C, phi_C, event_C = cells
            energy_C = energy_C + rng.normal(size=len(energy_C)) * np.hypot(
                stochastic * np.sqrt(energy_C), constant * energy_C
            )
            eta_C = eta_C + size * (rng.random(len(eta_C)) - 0.5)
            phi_C = phi_C + size * (rng.random(len(phi_C)) - 0.5)
            seen_C = energy_C > threshold
            parts.append((energy_C[seen_C] / np.cosh(eta_C[seen_C]), eta_C[seen_C], phi_C[seen_C], event_C[seen_C]))
            count = int(seen_C.sum())
            columns.append(
                {
                    "charge": np.zeros(count, np.int8),
                    **{name: np.full(count, name == flag) for name in FLAGS},
                    **{name: np.full(count, x) for name, x in without_track.items()},
                }
            )

    pt_N, eta_N, phi_N, event_N = (np.concatenate(x) for x in zip(*parts))
    order_N = np.argsort(event_N, kind="stable")
    pt_N, eta_N, phi_N = pt_N[order_N], eta_N[order_N], phi_N[order_N]
    out_N4 = np.column_stack([pt_N * np.cos(phi_N), pt_N * np.sin(phi_N), pt_N * np.sinh(eta_N), pt_N * np.cosh(eta_N)])
    merged = {name: np.concatenate([c[name] for c in columns])[order_N] for name in columns[0]}
    return out_N4, merged, event_N[order_N]


def _cells(
    energy: np.ndarray, eta: np.ndarray, phi: np.ndarray, event: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Energy sums of the cells that were hit, with their centres and event numbers."""
    i_eta = np.floor((eta + REACH_ETA) / size).astype(np.int64)
    i_phi = np.floor((phi + np.pi) / size).astype(np.int64)
    key, inverse = np.unique((event.astype(np.int64) * 1000 + i_eta) * 1000 + i_phi, return_inverse=True)
    total = np.bincount(inverse, energy, minlength=len(key))
    eta_centre = (key // 1000 % 1000 + 0.5) * size - REACH_ETA
    return total, eta_centre, (key % 1000 + 0.5) * size - np.pi, key // 1_000_000
