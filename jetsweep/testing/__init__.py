"""Contract tests and property checks that ship with the package, for our architectures and for yours.

Subclass `ModelContract` in a test file, give it a `config`, and pytest asks your network everything ours must answer.
"""

from jetsweep.testing.checks import (
    check_batch_independence,
    check_boost_invariance,
    check_finite_gradients,
    check_irc_safety,
    check_lorentz_invariance,
    check_padding_invariance,
    check_permutation_invariance,
    check_rotation_invariance,
    on_four_vectors,
)
from jetsweep.testing.contract import AutoencoderContract, DensityContract, ModelContract
from jetsweep.testing.toys import toy_four_vectors, toy_inputs

__all__ = [
    "AutoencoderContract",
    "DensityContract",
    "ModelContract",
    "check_batch_independence",
    "check_boost_invariance",
    "check_finite_gradients",
    "check_irc_safety",
    "check_lorentz_invariance",
    "check_padding_invariance",
    "check_permutation_invariance",
    "check_rotation_invariance",
    "on_four_vectors",
    "toy_four_vectors",
    "toy_inputs",
]
