"""Densities of jets and of latent coordinates: normalised, learned, and silent about everything else."""

import math
import sys

import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.models import create_model
from jetsweep.models.vae import VAE, VAEConfig
from jetsweep.testing.toys import toy_inputs

LATENT = {"features": "energyflow", "widths": (32, 16), "latent": 3}


@pytest.fixture
def flows():
    pytest.importorskip("zuko")
    from jetsweep.models import _flows

    return _flows


def grid(num_dimensions, half_width=9.0, step=0.05):
    """Points on a grid, shape (N, D), and the volume that each stands for."""
    axis = torch.arange(-half_width, half_width, step) + step / 2
    return torch.cartesian_prod(*[axis] * num_dimensions).view(-1, num_dimensions), step**num_dimensions


@pytest.mark.parametrize("kind", ["nsf", "maf"])
@pytest.mark.parametrize("num_dimensions", [1, 2])
@pytest.mark.parametrize("standardise", [False, True])
def test_the_density_integrates_to_one(flows, kind, num_dimensions, standardise):
    torch.manual_seed(3)
    settings = flows.FlowSettings(kind=kind, transforms=2, widths=(16, 16))
    flow = flows.DensityFlow(num_dimensions, settings, "test", standardise)
    with torch.no_grad():
        for parameter in flow.parameters():  # far from where training begins
            parameter.add_(0.3 * torch.randn_like(parameter))
        points, volume = grid(num_dimensions)
        assert float(torch.exp(-flow(points)).sum()) * volume == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("kind", ["nsf", "maf"])
def test_a_known_density_is_learned(flows, kind):
    """A correlated normal density far from the unit one."""
    torch.manual_seed(0)
    root = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    truth = torch.distributions.MultivariateNormal(torch.tensor([1.0, -2.0]), scale_tril=root)
    flow = flows.DensityFlow(2, flows.FlowSettings(kind=kind, transforms=2, widths=(32,)), "test", standardise=True)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        flow(truth.sample((500,))).mean().backward()
        optimizer.step()
    x = truth.sample((4000,))
    with torch.no_grad():
        excess = flow(x) + truth.log_prob(x)
    # its mean is the divergence of the learned density from the true one
    assert 0 < float(excess.mean()) < 0.03
    assert float(excess.abs().mean()) < 0.15


def test_a_flow_keeps_single_precision_under_autocast(flows):
    flow = flows.DensityFlow(3, flows.FlowSettings(), "test")
    x = torch.randn(50, 3).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = flow(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, flow(x.float()))


def latent(**config):
    config = VAEConfig(**LATENT, **config)
    tensors, _, num_features = toy_inputs(config, VAE.inputs, 60, 20, min_constituents=5)
    torch.manual_seed(1)
    return VAE(config, num_features), tensors


def test_a_latent_flow_leaves_the_network_as_it_is(flows):
    plain, _ = latent()
    network, tensors = latent(latent_flow={"transforms": 2})
    weights = network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())
    assert {name.split(".")[0] for name in weights.keys() - plain.state_dict().keys()} == {"latent_flow"}
    outputs = network.train()(**tensors)
    torch.testing.assert_close(outputs.error, plain.train()(**tensors).error)
    outputs.latent_nll.mean().backward()
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None} == {"latent_flow"}


def test_the_latent_density_is_that_of_the_posterior_means(flows):
    network, tensors = latent(latent_flow={"kind": "maf", "transforms": 1})
    with torch.no_grad():
        for parameter in network.latent_flow.parameters():
            parameter.zero_()  # the identity
        outputs = network.eval()(**tensors)
    expected = 0.5 * outputs.mean.square().sum(dim=1) + 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(outputs.latent_nll, expected)
    assert latent()[0].eval()(**tensors).latent_nll is None


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    config = {**LATENT, "latent_flow": {}}
    sentence = r"model.latent_flow needs the package zuko, not installed: pip install 'jetsweep\[flows\]'"
    for make in (lambda: create_model("vae", **config), VAEConfig(**config).require_packages):
        with pytest.raises(JetsweepError, match=sentence):
            make()
    create_model("vae", **LATENT)
    VAEConfig(**LATENT).require_packages()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"latent_flow": {"kind": "glow"}}, "latent_flow.kind\n  Input should be 'nsf' or 'maf'"),
        ({"latent_flow": {"widths": []}}, "latent_flow.widths"),
        ({"latent_flow": {"layers": 2}}, "latent_flow.layers"),
    ],
)
def test_impossible_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig(**config)
