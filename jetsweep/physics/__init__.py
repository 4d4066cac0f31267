"""Pure functions on four-vectors and constituents; jitted modules are imported where they are used."""

from jetsweep.physics.fourvectors import delta_phi, delta_r, eta, mass, phi, pt, rapidity

__all__ = ["delta_phi", "delta_r", "eta", "mass", "phi", "pt", "rapidity"]
