"""Pure functions on four-vectors and constituents; jitted modules are imported where they are used."""

from jetsweep.physics.clustering import ClusterHistory, cluster
from jetsweep.physics.efp import EnergyFlowPolynomials, Measure
from jetsweep.physics.fourvectors import delta_phi, delta_r, eta, mass, phi, pt, rapidity
from jetsweep.physics.lund import LundPlane, lund_density, lund_plane, lund_plane_of_jets
from jetsweep.physics.shapes import ANGULARITIES, angularity, jet_charge, jet_pull, thrust
from jetsweep.physics.substructure import EnergyCorrelators, SoftDrop, energy_correlators, n_subjettiness, soft_drop

__all__ = [
    "ANGULARITIES",
    "ClusterHistory",
    "EnergyCorrelators",
    "EnergyFlowPolynomials",
    "LundPlane",
    "Measure",
    "SoftDrop",
    "angularity",
    "cluster",
    "delta_phi",
    "delta_r",
    "energy_correlators",
    "eta",
    "jet_charge",
    "jet_pull",
    "lund_density",
    "lund_plane",
    "lund_plane_of_jets",
    "mass",
    "n_subjettiness",
    "phi",
    "pt",
    "rapidity",
    "soft_drop",
    "thrust",
]
