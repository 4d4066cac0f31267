"""The same weights in weaver's modules and in ours give the same outputs and gradients, in evaluation mode."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from weaver.nn.model.ParticleNet import ParticleNet
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from jetsweep.models import MODELS, create_model
from jetsweep.models._weights import import_published_weights
from jetsweep.testing import toy_inputs

PART = {"embed_dims": (32, 64, 32), "pair_embed_dims": (16, 16), "num_heads": 4, "num_layers": 3, "num_class_layers": 2}
LITE = {"num_neighbours": 7, "widths": ((32, 32, 32), (64, 64, 64)), "dense_width": 128}
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}


def disturb(module):
    """Running statistics and affine parameters away from their trivial first values."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.RMSNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            if not isinstance(norm, nn.RMSNorm):
                nn.init.normal_(norm.bias, std=0.1)
    return module.eval()


def weaver_part(**options):
    torch.manual_seed(0)
    sizes = {
        "input_dim": 7,
        "num_classes": 3,
        "embed_dims": list(PART["embed_dims"]),
        "pair_input_dim": 4,
        "pair_embed_dims": list(PART["pair_embed_dims"]),
        "num_heads": PART["num_heads"],
        "num_layers": PART["num_layers"],
        "num_cls_layers": PART["num_class_layers"],
        "fc_params": [],
        "use_pre_activation_pair": False,
    }
    return disturb(ParticleTransformer(**(sizes | options)))


def weaver_particlenet():
    torch.manual_seed(0)
    blocks = [(LITE["num_neighbours"], widths) for widths in LITE["widths"]]
    return disturb(ParticleNet(7, 3, conv_params=blocks, fc_params=[(LITE["dense_width"], 0.1)], use_fusion=False))


def ours(name, peer, **config):
    network = create_model(name, 7, 3, **config)
    import_published_weights(network, peer.state_dict())
    return network.eval()


def jets(name, dtype, min_constituents=1, num_slots=24):
    config = MODELS.get(name).config()
    tensors, label_B, _ = toy_inputs(
        config, MODELS.get(name).network.inputs, 16, num_slots, min_constituents=min_constituents
    )
    return {key: x.to(dtype) if x.is_floating_point() else x for key, x in tensors.items()}, label_B


def ask_weaver(module, tensors):
    features, mask = tensors["features"].transpose(1, 2), tensors["mask"][:, None]
    if isinstance(module, ParticleNet):
        return module(tensors["points"].transpose(1, 2), features, mask)
    return module(features, v=tensors["p4"].transpose(1, 2), mask=mask)


def assert_parity(peer, network, tensors, label_B, dtype):
    """Outputs agree, and so do the gradients of every weight that has a place in both."""
    peer, network = peer.to(dtype), network.to(dtype)
    atol = TOLERANCES[dtype]
    expected, found = ask_weaver(peer, tensors), network(**tensors)
    torch.testing.assert_close(found, expected, atol=atol, rtol=atol)
    for logits_BC in (expected, found):
        nn.functional.cross_entropy(logits_BC, label_B).backward()
    twin = create_twin(network, {name: parameter.grad for name, parameter in peer.named_parameters()}, peer)
    for (name, parameter), gradient in zip(network.named_parameters(), twin.parameters()):
        torch.testing.assert_close(
            parameter.grad, gradient.detach(), atol=atol, rtol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def create_twin(network, gradients, peer):
    """Weaver's gradients under our names: imported as if they were weights."""
    twin = deepcopy(network)
    tensors = {name: gradients.get(name, buffer) for name, buffer in peer.state_dict().items()}
    import_published_weights(twin, tensors)
    return twin


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("pairs", [True, False])
def test_particle_transformer(dtype, pairs):
    peer = weaver_part(**({} if pairs else {"pair_input_dim": 0, "pair_embed_dims": None}))
    assert_parity(peer, ours("part", peer, use_pairs=pairs, **PART), *jets("part", dtype), dtype)


def test_particle_transformer_without_the_last_pair_activation():
    peer = weaver_part(use_pre_activation_pair=True)
    network = ours("part", peer, last_pair_activation=False, **PART)
    assert_parity(peer, network, *jets("part", torch.float32), torch.float32)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("version", [2, 3])
def test_later_versions_of_the_particle_transformer(dtype, version):
    peer = weaver_part(version=version)
    assert_parity(peer, ours("part", peer, version=version, **PART), *jets("part", dtype), dtype)


def test_published_particle_transformer():
    torch.manual_seed(0)
    peer = disturb(ParticleTransformer(17, 10, fc_params=[], use_pre_activation_pair=False))
    network = create_model("part", 17, 10)
    import_published_weights(network, peer.state_dict())
    tensors, _ = jets("part", torch.float32)
    tensors["features"] = torch.randn(*tensors["mask"].shape, 17) * tensors["mask"][..., None]
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(**tensors), ask_weaver(peer, tensors), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_particlenet_of_jets_with_enough_neighbours(dtype):
    peer = weaver_particlenet()
    tensors, label_B = jets("particlenet", dtype, min_constituents=LITE["num_neighbours"] + 1)
    assert_parity(peer, ours("particlenet", peer, **LITE), tensors, label_B, dtype)


def test_particlenet_of_short_jets_with_the_peers_rule():
    peer = weaver_particlenet()
    tensors, label_B = jets("particlenet", torch.float32)
    assert_parity(peer, ours("particlenet", peer, neighbour_rule="peer", **LITE), tensors, label_B, torch.float32)


def test_particlenet_of_short_jets_differs_by_default():
    peer = weaver_particlenet()
    tensors, _ = jets("particlenet", torch.float32)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(ours("particlenet", peer, **LITE)(**tensors), ask_weaver(peer, tensors))
