"""Pure functions on four-vectors and constituents; jitted modules are imported where they are used."""

from jetsweep.physics.clustering import ClusterHistory, cluster
from jetsweep.physics.efp import EnergyFlowPolynomials, Measure
from jetsweep.physics.fourvectors import delta_phi, delta_r, eta, mass, phi, pt, rapidity
from jetsweep.physics.lund import LundPlane, lund_density, lund_plane, lund_plane_of_jets

__all__ = [
    "ClusterHistory",
    "EnergyFlowPolynomials",
    "LundPlane",
    "Measure",
    "cluster",
    "delta_phi",
    "delta_r",
    "eta",
    "lund_density",
    "lund_plane",
    "lund_plane_of_jets",
    "mass",
    "phi",
    "pt",
    "rapidity",
]
