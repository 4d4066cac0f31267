"""Densities of jets and of latent coordinates: normalised, learned, and silent about everything else."""

import math
import sys

import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.models import create_model, require_packages
from jetsweep.models._row_noise import normal_of_rows
from jetsweep.models.ebm import EBM, EBMConfig
from jetsweep.models.flow import FlowModelConfig
from jetsweep.models.vae import VAE, VAEConfig
from jetsweep.testing.toys import toy_inputs

LATENT = {"features": "energyflow", "widths": (32, 16), "latent": 3}


@pytest.fixture
def flows():
    pytest.importorskip("zuko")
    from jetsweep.models import _flows

    return _flows


def grid(num_dimensions, half_width=9.0):
    """Points on a grid, shape (N, D), and the volume that each stands for."""
    step = {1: 0.002, 2: 0.05}[num_dimensions]
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
        for parameter in flow.parameters():  # away from where training begins
            parameter.add_(0.1 * torch.randn_like(parameter))
        points, volume = grid(num_dimensions)
        density = torch.exp(-flow(points))
    assert float(density.double().sum()) * volume == pytest.approx(1.0, abs=1e-3)
    assert float((density - torch.exp(-0.5 * points.square().sum(dim=1)) / (2 * math.pi) ** 0.5).abs().max()) > 0.01


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


def test_a_flow_is_its_density_of_standardised_scalars(flows):
    config = {"features": "scalars", "scalars": ("jet_mass", "jet_pt"), "kind": "maf", "transforms": 1}
    network = create_model("flow", num_features=2, **config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()  # the identity
        x = torch.randn(9, 2)
        outputs = network.eval()(x)
    torch.testing.assert_close(outputs.energy, 0.5 * x.square().sum(dim=1) + math.log(2 * math.pi))
    assert outputs.loss is outputs.energy


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


def energy_model(num_jets=64, **config):
    config = EBMConfig(**{"encoder": "deep-set", "set_width": 16, "num_layers": 2, "widths": (16,), **config})
    tensors, _, num_features = toy_inputs(config, EBM.inputs, num_jets, 20, min_constituents=5)
    torch.manual_seed(1)
    return EBM(config, num_features), tensors


@pytest.mark.parametrize("encoder", ["dense", "deep-set", "transformer"])
def test_samples_follow_langevin_dynamics(encoder):
    """Step by step with autograd; of parameters no gradient is left."""
    network, tensors = energy_model(encoder=encoder, num_heads=4, num_constituents=20, langevin_steps=5)
    config, mask, rows = network.config, tensors["mask"], tensors["rows"]
    features = torch.where(mask[..., None], tensors["features"], 0.0)

    def noise(call):
        normal = normal_of_rows(rows, features[0].numel(), network.key, torch.tensor(call))
        return torch.where(mask[..., None], normal.view_as(features), 0.0)

    network.calls.fill_(2)  # two batches of six draws went before
    x = config.start_width * noise(12)
    for step in range(5):
        x = (x + config.step_noise * noise(13 + step)).requires_grad_()
        (slope,) = torch.autograd.grad(network.energy(x, mask).sum(), x)
        x = torch.where(mask[..., None], x.detach() - config.step_size * slope, 0.0)
    found = network.train().sample(features, mask, rows)
    torch.testing.assert_close(found, x)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert int(network.calls) == 3


def test_the_loss_of_an_energy_model_contrasts_jets_and_samples():
    network, tensors = energy_model(regularisation=0.3)
    outputs = network.train()(**tensors)
    squares = outputs.energy.square() + outputs.sample_energy.square()
    torch.testing.assert_close(outputs.loss, outputs.energy - outputs.sample_energy + 0.3 * squares)
    scored = network.eval()(**tensors)
    assert torch.equal(scored.energy, outputs.energy)
    assert scored.sample_energy is None


def test_samples_do_not_depend_on_how_jets_are_split():
    network, tensors = energy_model()
    whole = network.train()(**tensors).sample_energy
    halves = []
    for part in (slice(0, 20), slice(20, 64)):
        network.calls.zero_()
        halves.append(network(**{name: x[part] for name, x in tensors.items()}).sample_energy)
    torch.testing.assert_close(torch.cat(halves), whole)
    assert not torch.allclose(network(**tensors).sample_energy, whole)


def test_training_lowers_the_energy_of_jets_below_that_of_noise():
    network, tensors = energy_model(100, langevin_steps=12)
    mask = tensors["mask"]
    noise = torch.where(mask[..., None], network.config.start_width * torch.randn_like(tensors["features"]), 0.0)
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-2)
    lead = []
    for step in range(81):
        if step % 80 == 0:
            with torch.no_grad():
                lead.append(network.energy(noise, mask) - network.energy(tensors["features"], mask))
        optimizer.zero_grad()
        network(**tensors).loss.mean().backward()
        optimizer.step()
    assert float(lead[1].mean()) > float(lead[0].mean()) + 0.1
    assert float((lead[1] > 0).float().mean()) > 0.95


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    config = {**LATENT, "latent_flow": {}}
    sentence = r"model.latent_flow needs the package zuko, not installed: pip install 'jetsweep\[flows\]'"
    for make in (lambda: create_model("vae", **config), VAEConfig(**config).require_packages):
        with pytest.raises(JetsweepError, match=sentence):
            make()
    create_model("vae", **LATENT)
    VAEConfig(**LATENT).require_packages()
    sentence = r"model.name: flow needs the package zuko, not installed: pip install 'jetsweep\[flows\]'"
    for make in (lambda: create_model("flow"), lambda: require_packages(["flow"]), FlowModelConfig().require_packages):
        with pytest.raises(JetsweepError, match=sentence):
            make()


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
