"""L-GATr by its package: what each reference leaves of the Lorentz group, and what is said without the package."""

import sys
from importlib.util import find_spec

import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.models import create_model, require_packages
from jetsweep.testing import (
    check_boost_invariance,
    check_lorentz_invariance,
    check_rotation_invariance,
    on_four_vectors,
    toy_four_vectors,
)

SMALL = {"num_blocks": 2, "num_heads": 2, "num_multivectors": 4, "num_scalars": 8}
installed = pytest.mark.skipif(find_spec("lgatr") is None, reason="needs the extra lgatr")


def network_of(**config):
    torch.manual_seed(0)
    return create_model("lgatr", 7, 2, **SMALL, **config).double()


def jets():
    p4_BP4, mask_BP, _ = toy_four_vectors(6, 10, seed=3)
    return p4_BP4.double(), mask_BP


@installed
@pytest.mark.parametrize("rapidity", [0.5, 2.0])
def test_without_references_the_whole_lorentz_group_is_a_symmetry(rapidity):
    network = network_of(beam="none", time=False)
    check_lorentz_invariance(network, "kin", *jets(), rapidity=rapidity, atol=1e-6)


@installed
@pytest.mark.parametrize(
    ("references", "boosts"),
    [
        ({}, False),
        ({"time": False}, True),  # the plane across the beam is the same after a boost along it
        ({"beam": "none"}, False),
        ({"beam": "lightlike", "time": False}, False),
    ],
    ids=str,
)
def test_what_references_leave_of_it(references, boosts):
    network = network_of(**references)
    tagger = on_four_vectors(network, "kin")
    check_rotation_invariance(tagger, *jets(), atol=1e-6)
    with pytest.raises(AssertionError, match="a rotation and a boost"):
        check_lorentz_invariance(network, "kin", *jets(), atol=1e-6)
    if boosts:
        check_boost_invariance(tagger, *jets(), atol=1e-6)
    else:
        with pytest.raises(AssertionError, match="along the beam"):
            check_boost_invariance(tagger, *jets(), atol=1e-6)


@installed
def test_features_give_up_boosts():
    network = network_of(beam="none", time=False, scalars="features")
    with pytest.raises(AssertionError, match="a rotation and a boost"):
        check_lorentz_invariance(network, "kin", *jets(), atol=1e-6)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "lgatr", None)
    for make in (lambda: create_model("lgatr"), lambda: require_packages(["pfn", "lgatr"])):
        with pytest.raises(JetsweepError, match=r"needs the package lgatr, not installed: pip install .*\[lgatr\]"):
            make()
