import pytest
import torch

from jetsweep.models import create_model
from jetsweep.models.part import ParTConfig
from jetsweep.testing import toy_inputs

SMALL = {"embed_dims": (16, 16), "num_heads": 4, "num_layers": 1, "num_class_layers": 1, "trim": False}


def test_version_3_has_stochastic_depth_instead_of_dropout_unless_told_otherwise():
    config = ParTConfig(version=3)
    assert (config.dropout, config.attention_dropout, config.activation_dropout, config.drop_path) == (0, 0, 0, 0.1)
    assert ParTConfig(version=3, dropout=0.2).dropout == 0.2
    assert ParTConfig(version=2) == ParTConfig().model_copy(update={"version": 2})
    assert ParTConfig.model_validate(config.model_dump()) == config


def test_biases_are_only_in_the_embedding_and_the_output_of_version_3():
    names = [name for name, _ in create_model("part", 7, 2, version=3).named_parameters() if name.endswith("bias")]
    assert {name.split(".")[0] for name in names} == {"input_norm", "embed", "pair_embed", "head"}
    assert not any("linears" in name for name in names)


def test_branches_are_skipped_at_their_rate_and_scaled_up_otherwise():
    torch.manual_seed(0)
    block = create_model("part", 7, 2, version=3, drop_path=0.5, **SMALL).blocks[0]
    for kept_B11 in block.train().kept_branches(torch.zeros(2000, 1, 4)):
        assert kept_B11.unique().tolist() == [0.0, 2.0]
        assert kept_B11.mean().item() == pytest.approx(1.0, abs=0.1)
    assert block.eval().kept_branches(torch.zeros(2000, 1, 4)) is None


def test_all_constituents_of_a_jet_skip_together():
    torch.manual_seed(0)
    network = create_model("part", 7, 2, version=3, drop_path=0.5, **SMALL)
    tensors, _, _ = toy_inputs(ParTConfig(), network.inputs, 64, 12)
    seen = []
    network.blocks[0].register_forward_hook(lambda module, args, out: seen.append((args[0], out, args[1])))
    with torch.no_grad():
        network.train()(**tensors)
    before_ND, after_ND, slots = seen[0]
    unchanged_BP = slots.padded((after_ND == before_ND).all(dim=1, keepdim=True).float())[..., 0].bool()
    skipped_B = (unchanged_BP | ~slots.mask_BP).all(dim=1)
    assert torch.equal(unchanged_BP.any(dim=1), skipped_B)
    # both branches are skipped by a quarter of the jets
    assert 5 < skipped_B.sum() < 30
