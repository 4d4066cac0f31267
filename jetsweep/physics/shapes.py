"""Shapes of jets from their constituents: generalised angularities, pull, charge, thrust.

z_i = pT_i / sum of all pT, distances from the jet's axis in rapidity y and azimuth phi.
"""

# Shapes: B jets, N constituents of all jets.

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from jetsweep.physics.clustering import Floats, Ints, cluster

ANGULARITIES = {
    "multiplicity": (0.0, 0.0), "ptd_squared": (2.0, 0.0), "lha": (1.0, 0.5), "width": (1.0, 1.0), "thrust": (1.0, 2.0),
}  # fmt: skip
"""Exponents (kappa, beta) of the angularities with a name (arXiv:1408.3122, figure 1; arXiv:1704.03878)."""
Axis = Literal["winner", "sum"]


def angularity(
    values: npt.NDArray[np.floating],
    offsets: npt.NDArray[np.integer],
    kappa: float,
    beta: float,
    *,
    radius: float = 1.0,
    axis: Axis = "winner",
) -> Floats:
    """Generalised angularity of every jet (arXiv:1408.3122).

    lambda^kappa_beta = sum_i z_i^kappa (ΔR_i / R)^beta, where 0^0 = 1. It is infrared and collinear safe for kappa = 1
    and beta > 0. Named ones are in `ANGULARITIES`; pT^D is the square root of (2, 0), and for massless constituents
    near their axis (1, 2) is m^2 / (pT R)^2.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    kappa, beta : float
        0 or more.
    radius : float
        R.
    axis : "winner" or "sum"
        Winner-take-all axis of the Cambridge/Aachen tree (arXiv:1401.2158), which soft radiation does not move, or the
        direction of the jet's momentum.

    Returns
    -------
    array, shape (B,)
        0 for a jet without constituents.

    Raises
    ------
    ValueError
        If an exponent is negative, the radius is not positive, or there is no such axis.
    """
    for name, exponent in {"kappa": kappa, "beta": beta}.items():
        if not exponent >= 0:
            raise ValueError(f"expected {name} of 0 or more, found {exponent}")
    if not radius > 0:
        raise ValueError(f"expected a positive radius, found {radius}")
    pt, y, phi = coordinates(values)
    total = segment_sum(pt, offsets)
    d_y, d_phi = from_axes(y, phi, *jet_axes(values, offsets, axis), offsets)
    jet = jet_of(offsets)
    z = np.divide(pt, total[jet], out=np.zeros_like(pt), where=total[jet] > 0)
    return segment_sum(z**kappa * (np.hypot(d_y, d_phi) / radius) ** beta, offsets)


def jet_pull(values: npt.NDArray[np.floating], offsets: npt.NDArray[np.integer]) -> Floats:
    """Pull vector of every jet (arXiv:1001.5027), which leans towards its partner in colour.

    t = sum_i pT_i |r_i| r_i / pT_jet with r_i = (y_i - y_jet, phi_i - phi_jet).

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)

    Returns
    -------
    array, shape (B, 2)
        Components in rapidity and azimuth; 0 for a jet without constituents.
    """
    pt, y, phi = coordinates(values)
    d_y, d_phi = from_axes(y, phi, *jet_axes(values, offsets, "sum"), offsets)
    weight = pt * np.hypot(d_y, d_phi)
    momentum = np.hypot(*(segment_sum(np.asarray(values)[:, i], offsets) for i in (0, 1)))
    pull = np.column_stack([segment_sum(weight * x, offsets) for x in (d_y, d_phi)])
    return np.divide(pull, momentum[:, None], out=np.zeros_like(pull), where=momentum[:, None] > 0)


def jet_charge(
    values: npt.NDArray[np.floating],
    offsets: npt.NDArray[np.integer],
    charge: npt.NDArray[np.number],
    kappa: float = 0.5,
) -> Floats:
    """Charge of every jet, weighted with momentum (arXiv:1209.2421): sum_i Q_i (pT_i / pT_jet)^kappa.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
    charge : array, shape (N,), e
    kappa : float
        0 or more; 0.3 to 1 in the paper.

    Returns
    -------
    array, shape (B,), e
        0 for a jet without constituents.

    Raises
    ------
    ValueError
        If there is not one charge for each constituent, or kappa is negative.
    """
    values = np.asarray(values, np.float64).reshape(-1, 4)
    if charge.shape != (len(values),):
        raise ValueError(f"expected {len(values)} charges, one for each constituent, found shape {charge.shape}")
    if not kappa >= 0:
        raise ValueError(f"expected kappa of 0 or more, found {kappa}")
    momentum = np.hypot(*(segment_sum(values[:, i], offsets) for i in (0, 1)))[jet_of(offsets)]
    pt = np.hypot(values[:, 0], values[:, 1])
    share = np.divide(pt, momentum, out=np.zeros_like(pt), where=momentum > 0)
    return segment_sum(np.asarray(charge, np.float64) * share**kappa, offsets)


def thrust(values: npt.NDArray[np.floating], offsets: npt.NDArray[np.integer]) -> Floats:
    """Thrust (Farhi 1977), thrust major and thrust minor of every jet in its rest frame (see arXiv:1001.4082).

    T = max_n sum_i |p_i n| / sum_i |p_i|; the major is the same with n perpendicular to the thrust axis, the minor
    with n perpendicular to both.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)

    Returns
    -------
    array, shape (B, 3)
        0 for a jet without mass, which has no rest frame. The thrust axis is the best of those that an iteration from
        every momentum finds; major and minor are exact for it.
    """
    from jetsweep.physics._numba_shapes import all_thrusts

    out = np.zeros((len(offsets) - 1, 3))
    all_thrusts(np.ascontiguousarray(values, np.float64).reshape(-1, 4), np.asarray(offsets, np.int64), out)
    return out


def coordinates(values: npt.NDArray[np.floating]) -> tuple[Floats, Floats, Floats]:
    """PT (GeV), rapidity and azimuth of four-vectors, each of shape (N,); rapidity 0 for a null vector."""
    px, py, pz, energy = np.asarray(values, np.float64).reshape(-1, 4).T
    pt = np.hypot(px, py)
    along = np.abs(pz)
    # rounding must not make a massless particle tachyonic
    transverse_mass = np.sqrt(np.maximum((energy - along) * (energy + along), pt**2))
    safe = transverse_mass > 0
    y = np.log(np.divide(energy + along, transverse_mass, out=np.ones_like(pt), where=safe))
    return pt, np.copysign(y, pz), np.arctan2(py, px)


def jet_of(offsets: npt.NDArray[np.integer]) -> Ints:
    """Jet of every constituent, shape (N,)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def segment_sum(x: Floats, offsets: npt.NDArray[np.integer]) -> Floats:
    """Sum of every jet's part of `x` (N,), shape (B,)."""
    return np.bincount(jet_of(offsets), x, minlength=len(offsets) - 1).astype(np.float64)


def jet_axes(
    values: npt.NDArray[np.floating], offsets: npt.NDArray[np.integer], axis: Axis = "winner"
) -> tuple[Floats, Floats]:
    """Rapidity and azimuth of every jet's axis, each of shape (B,); 0 for a jet without constituents.

    Raises
    ------
    ValueError
        If there is no such axis.
    """
    if axis == "sum":
        vector = np.column_stack([segment_sum(x, offsets) for x in np.asarray(values, np.float64).reshape(-1, 4).T])
        return coordinates(vector)[1:]
    if axis != "winner":
        raise ValueError(f"expected the axis winner or sum, found {axis!r}")
    history = cluster(values, offsets, "cambridge", winner_takes_all=True)
    frame = np.zeros((len(offsets) - 1, 3))
    is_there = np.diff(history.offsets) > 0
    frame[is_there] = history.frame[history.offsets[1:][is_there] - 1]
    return frame[:, 1], frame[:, 2]


def from_axes(
    y: Floats, phi: Floats, axis_y: Floats, axis_phi: Floats, offsets: npt.NDArray[np.integer]
) -> tuple[Floats, Floats]:
    """Distances of constituents from their jet's axis in rapidity and azimuth, each of shape (N,)."""
    jet = jet_of(offsets)
    return y - axis_y[jet], (phi - axis_phi[jet] + np.pi) % (2 * np.pi) - np.pi
