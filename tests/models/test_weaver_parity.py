"""The same weights in weaver's modules and in ours give the same outputs and gradients, in evaluation mode."""

import pytest
import torch
from torch import nn

from jetsweep.models import create_model
from jetsweep.models._weights import import_published_weights
from jetsweep.testing import toy_inputs

pytest.importorskip("weaver", reason="weaver-core is not installed", exc_type=ImportError)


def disturb(module):
    """Running statistics and affine parameters away from their trivial first values."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm | nn.LayerNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
    return module.eval()


def weaver_part(**options):
    from weaver.nn.model.ParticleTransformer import ParticleTransformer

    torch.manual_seed(0)
    sizes = {"input_dim": 7, "num_classes": 3, "use_pre_activation_pair": False}
    return disturb(ParticleTransformer(**(sizes | options)))


def weaver_particlenet():
    from weaver.nn.model.ParticleNet import ParticleNet

    torch.manual_seed(0)
    widths = [(7, (32, 32, 32)), (7, (64, 64, 64))]
    return disturb(ParticleNet(7, 3, conv_params=widths, fc_params=[(128, 0.1)], use_fusion=False))


LITE = {"num_neighbours": 7, "widths": ((32, 32, 32), (64, 64, 64)), "dense_width": 128}


def toys(name, num_slots=24, min_constituents=1, seed=0):
    network = create_model(name)
    inputs = network.inputs
    config = type(network.config) if name == "part" else None
    from jetsweep.models import MODELS

    config = MODELS.get(name).config()
    tensors, label_B, _ = toy_inputs(config, inputs, 16, num_slots, seed, min_constituents)
    return tensors, label_B


def ask_weaver_part(module, tensors):
    mask = tensors["mask"][:, None]
    return module(tensors["features"].transpose(1, 2), v=tensors["p4"].transpose(1, 2), mask=mask)


def ask_weaver_particlenet(module, tensors):
    return module(tensors["points"].transpose(1, 2), tensors["features"].transpose(1, 2), tensors["mask"][:, None])
