import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jetsweep.models import create_model
from jetsweep.testing import check_irc_safety, on_four_vectors, toy_four_vectors


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), fraction=st.floats(0.05, 0.95))
def test_efn_is_infrared_and_collinear_safe(seed, fraction):
    torch.manual_seed(seed)
    tagger = on_four_vectors(create_model("efn"), "energyflow")
    p4_BP4, mask_BP, _ = toy_four_vectors(6, 15, seed=seed)
    check_irc_safety(tagger, p4_BP4, mask_BP, fraction=fraction, atol=2e-6)


@pytest.mark.parametrize("features", ["energyflow", "kin"])
def test_pfn_is_not(features):
    torch.manual_seed(0)
    tagger = on_four_vectors(create_model("pfn", {"energyflow": 3, "kin": 7}[features]), features)
    p4_BP4, mask_BP, _ = toy_four_vectors(6, 15)
    with pytest.raises(AssertionError, match="a collinear splitting changes the output"):
        check_irc_safety(tagger, p4_BP4, mask_BP)


def test_biases_of_phi_do_not_leak_from_padding():
    network = create_model("pfn", 3, 2)
    torch.nn.init.ones_(network.phi[-2].bias)
    features, mask = torch.zeros(1, 4, 3), torch.tensor([[True, False, False, False]])
    torch.testing.assert_close(network(features, mask), network(features[:, :1], mask[:, :1]))
