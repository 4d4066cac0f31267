"""Fifteen high-level jet variables from constituents, those of the ATLAS top-tagging study (arXiv:2407.20127).

===================  ==============================================================================================
tau1_wta … tau4_wta  N-subjettiness (arXiv:1011.2268), exponent 1, R0 = 1, axes of exclusive kt with winner-take-all
split12, split23     kt splitting scales, sqrt of d_12 and d_23 of the kt clustering, GeV
ecf1, ecf2, ecf3     energy correlation functions (arXiv:1305.0007), exponent 1, GeV, GeV^2, GeV^3
c2, d2               ECF3 ECF1 / ECF2^2 and ECF3 ECF1^3 / ECF2^3 (arXiv:1409.6298)
qw                   smallest mass of two of three exclusive kt subjets (arXiv:0806.0023), GeV
l2, l3               ratios of generalised correlators (arXiv:1609.07483): 3e3(1) / 1e2(2)^(3/2) and
                     3e3(1) / 3e3(2)^(1/2), with momentum fractions
thrust_maj           thrust major in the jet's rest frame
===================  ==============================================================================================

Distances are in rapidity and azimuth. The published note leaves the normalisation R0 and the exponents of L2 and L3 to
the experiment's software; the choices above are the ones whose angular powers cancel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HIGH_LEVEL_NAMES = (
    "tau1_wta", "tau2_wta", "tau3_wta", "tau4_wta", "split12", "split23", "ecf1", "ecf2", "ecf3",
    "c2", "d2", "qw", "l2", "l3", "thrust_maj",
)  # fmt: skip


def high_level_variables(values: npt.NDArray[np.floating], offsets: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Compute the fifteen variables of every jet.

    Parameters
    ----------
    values : array, shape (N, 4)
        Constituents (px, py, pz, E) in GeV, jet after jet.
    offsets : array, shape (B + 1,)
        Jet `i` owns ``values[offsets[i]:offsets[i + 1]]``.

    Returns
    -------
    array, shape (B, 15), float32
        Columns in the order of `HIGH_LEVEL_NAMES`; a jet without constituents is all zeros.
    """
    from jetsweep.physics._numba_shapes import NUM_VARIABLES, all_jets

    out = np.zeros((len(offsets) - 1, NUM_VARIABLES))
    all_jets(np.ascontiguousarray(values, dtype=np.float64), np.asarray(offsets, dtype=np.int64), out)
    return out.astype(np.float32)
