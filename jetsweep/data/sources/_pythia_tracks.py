"""Impact parameters, origins and vertices of generated particles, for flavour tagging. Not a tracker simulation."""

# Shapes: M generated particles of all events of a batch.

from __future__ import annotations

import numpy as np

from jetsweep.data.sources._jets import TRACKS

TRUTH = ("origin", "vertex")
PRIMARY, FROM_B, FROM_B_TO_C, FROM_C, FROM_TAU, OTHER = 2, 3, 4, 5, 6, 7
"""Origins as numbered by `jetsweep.models.gn2.ORIGINS`; pile-up and fake tracks (0, 1) are not simulated."""
SAME_VERTEX_MM = 0.1
SETTINGS = {
    "d0, dz": "mm; closest approach of a straight line to the beam, at the generated momentum",
    "sigma(d0)": "0.01 mm (+) 0.1 mm GeV / pt",
    "sigma(dz)": "0.05 mm (+) 0.2 mm GeV / pt",
    "origin": "2 primary, 3 from b, 4 from b to c, 5 from c, 6 from tau, 7 other secondary",
    "vertex": f"production vertices by event; 0 within {SAME_VERTEX_MM} mm of the collision",
}


def ancestors(pdg_id: np.ndarray, mother: np.ndarray) -> dict[str, np.ndarray]:
    """Whether each particle descends from a b hadron, a c hadron or a tau, each of shape (M,).

    Parameters
    ----------
    pdg_id : array, shape (M,)
    mother : array, shape (M,)
        Row of the first mother; one's own row, or that of the event's first entry, where there is none.
    """
    absolute = np.abs(pdg_id)
    hadron = (absolute > 100) & (absolute < 1_000_000)
    digits = (absolute // 100 % 10, absolute // 1000 % 10)
    kinds = {
        "b": hadron & ((digits[0] == 5) | (digits[1] == 5)),
        "c": hadron & ((digits[0] == 4) | (digits[1] == 4)),
        "tau": absolute == 15,
    }
    found = {name: np.zeros(len(pdg_id), bool) for name in kinds}
    above = mother
    while True:
        for name, kind in kinds.items():
            found[name] |= kind[above]
        higher = mother[above]
        if np.array_equal(higher, above):
            return found
        above = higher


def track_truth(
    pdg_id: np.ndarray, mother: np.ndarray, position: np.ndarray, event: np.ndarray
) -> dict[str, np.ndarray]:
    """Origin (int8) and vertex (int16) of every particle, shape (M,).

    Parameters
    ----------
    pdg_id : array, shape (M,)
    mother : array, shape (M,)
        As for `ancestors`.
    position : array, shape (M, 3), mm
        Of the production vertex; the collision is at 0.
    event : array, shape (M,)
        Event number of each, ascending.
    """
    of = ancestors(pdg_id, mother)
    displaced = np.linalg.norm(position, axis=1) > SAME_VERTEX_MM
    origin = np.select(
        [of["b"] & of["c"], of["b"], of["c"], of["tau"], displaced],
        [FROM_B_TO_C, FROM_B, FROM_C, FROM_TAU, OTHER],
        PRIMARY,
    )
    place = np.where(displaced[:, None], np.round(position, 3), 0.0)
    _, number = np.unique(np.column_stack([event, displaced, place]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    # sorted by event, then the collision before the others; an event without particles from it starts at 1
    first = np.full(int(event.max(initial=-1)) + 1, len(number))
    np.minimum.at(first, event, number)
    collision = np.zeros(len(first), bool)
    collision[event[~displaced]] = True
    vertex = number - first[event] + np.where(collision[event], 0, 1)
    return {"origin": origin.astype(np.int8), "vertex": vertex.astype(np.int16)}


def impact_parameters(p4: np.ndarray, position: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Smeared d0 and dz with their errors (mm, float32), shape (M,) each.

    d0 is positive where the particle passes the beam on its left.

    Parameters
    ----------
    p4 : array, shape (M, 4), GeV
    position : array, shape (M, 3), mm
    rng : numpy.random.Generator
    """
    pt = np.maximum(np.hypot(p4[:, 0], p4[:, 1]), 1e-3)
    cos, sin = p4[:, 0] / pt, p4[:, 1] / pt
    d0 = position[:, 1] * cos - position[:, 0] * sin
    dz = position[:, 2] - (position[:, 0] * cos + position[:, 1] * sin) * p4[:, 2] / pt
    d0_err, dz_err = np.hypot(0.01, 0.1 / pt), np.hypot(0.05, 0.2 / pt)
    d0 = d0 + rng.normal(size=len(pt)) * d0_err
    dz = dz + rng.normal(size=len(pt)) * dz_err
    return {name: x.astype(np.float32) for name, x in zip(TRACKS, (d0, d0_err, dz, dz_err))}
