"""Auto-encoders: published sizes, scores with closed forms, noise that follows from rows, collapse and overfitting."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from jetsweep.losses.kl import kl_per_jet
from jetsweep.models._row_noise import normal_of_rows
from jetsweep.models.vae import VAE, VAEConfig
from jetsweep.tasks._anomaly_config import KLConfig
from jetsweep.tasks._anomaly_scores import SCORES
from jetsweep.testing.toys import toy_inputs


def number_of_parameters(**config):
    return sum(p.numel() for p in VAE(VAEConfig(**config), 4).parameters())


def test_published_sizes():
    """VAE-Jet's networks of four-momenta of 20 constituents."""
    assert number_of_parameters() == 125_796
    assert number_of_parameters(latent=64) == 136_272
    assert number_of_parameters(encoder="lstm", decoder="lstm") == 27_196
    # without the second head of 64 x 10 weights and 10 biases
    assert number_of_parameters(variational=False) == 125_796 - 650


def test_sizes_on_variables_of_the_jet():
    """As of one constituent with so many features; constituents do not count."""
    sizes = (15, 256, 128, 64)
    encoder = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    decoder = sum((a + 1) * b for a, b in itertools.pairwise((10, *sizes[:0:-1], 15)))
    for num_constituents in (20, 50):
        network = VAE(VAEConfig(features="high-level", num_constituents=num_constituents), 15)
        assert sum(p.numel() for p in network.parameters()) == encoder + 2 * (64 + 1) * 10 + decoder == 92_451


def test_variables_of_the_jet_are_one_full_slot():
    config = VAEConfig(features="scalars", scalars=("mass", "tau21", "eta"), widths=(16, 8), latent=2)
    network, x = VAE(config, 3).eval(), torch.randn(9, 3)
    outputs = network(jet_features=x)
    assert torch.equal(outputs.target, x[:, None])
    assert outputs.mask.shape == (9, 1)
    assert outputs.mask.all()
    torch.testing.assert_close(outputs.error, (outputs.output[:, 0] - x).square().mean(dim=1))


def jets(num_jets=100, slots=20, seed=0, **config):
    config = VAEConfig(**{"features": "energyflow", **config})
    tensors, _, num_features = toy_inputs(config, VAE.inputs, num_jets, slots, seed, min_constituents=5)
    torch.manual_seed(seed)
    return VAE(config, num_features), tensors


def trained(network, tensors, beta, steps=400, lr=3e-3):
    optimizer = torch.optim.Adam(network.train().parameters(), lr=lr)
    for _ in range(steps):
        outputs = network(**tensors)
        loss = outputs.error.mean() + beta * kl_per_jet(outputs.mean, outputs.log_variance, "sum").mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def test_without_a_prior_a_hundred_jets_are_learned_by_heart():
    network, tensors = jets(noise=0.0, widths=(128, 64))
    before = network.eval()(**tensors).error.mean()
    after = trained(network, tensors, beta=0.0)(**tensors).error.mean()
    assert after < 0.05 * before


def test_a_heavy_prior_collapses_the_latents():
    network, tensors = jets(widths=(32, 16), latent=4)
    outputs = trained(network, tensors, beta=10.0, steps=200)(**tensors)
    assert kl_per_jet(outputs.mean, outputs.log_variance, "sum").mean() < 0.01


def test_scores_follow_shuffled_jets():
    network, tensors = jets()
    order = torch.randperm(100)
    with torch.no_grad():
        first = network.eval()(**tensors)
        second = network(**{name: x[order] for name, x in tensors.items()})
    assert torch.allclose(first.error[order], second.error, atol=1e-6)


def test_same_seed_gives_the_same_scores():
    errors = []
    for _ in range(2):
        network, tensors = jets(widths=(32, 16))
        errors.append(trained(network, tensors, beta=0.1, steps=20)(**tensors).error)
    assert torch.equal(*errors)


def test_noise_is_normal_and_follows_from_rows():
    key, call = torch.tensor(7), torch.tensor(3)
    noise = normal_of_rows(torch.arange(4000), 5, key, call)
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T.numpy()) - np.eye(5)).max() < 0.06
    some = torch.tensor([5, 3999, 17])
    assert torch.equal(normal_of_rows(some, 5, key, call), noise[some])
    for other in ((key + 1, call), (key, call + 1)):
        again = normal_of_rows(torch.arange(4000), 5, *other)
        assert abs(float(np.corrcoef(noise.flatten(), again.flatten())[0, 1])) < 0.03


def test_training_does_not_depend_on_how_jets_are_split():
    network, tensors = jets()
    network.train()
    whole = network(**tensors).error
    network.calls.zero_()
    halves = []
    for part in (slice(0, 30), slice(30, 100)):
        network.calls.zero_()
        halves.append(network(**{name: x[part] for name, x in tensors.items()}).error)
    torch.testing.assert_close(torch.cat(halves), whole)


def test_no_noise_while_scoring():
    network, tensors = jets()
    with torch.no_grad():
        assert torch.equal(network.eval()(**tensors).error, network(**tensors).error)
        noisy = network.train()(**tensors).error, network(**tensors).error
    assert not torch.allclose(*noisy)


def test_error_of_the_mean_is_what_is_scored():
    network, tensors = jets(decode_mean=True)
    with torch.no_grad():
        while_training, scored = network.train()(**tensors), network.eval()(**tensors)
    torch.testing.assert_close(while_training.error_of_mean, scored.error)
    assert scored.error_of_mean is None
    assert torch.equal(scored.training_error, scored.error)
    assert torch.equal(while_training.training_error, (while_training.error + while_training.error_of_mean) / 2)


def test_scores_have_closed_forms():
    network, tensors = jets(posterior_samples=500, widths=(32, 16), latent=3)
    with torch.no_grad():
        outputs, kl = network.eval()(**tensors), KLConfig(beta=0.5, convention="sum")
    score = {name: entry.of(outputs, kl) for name, entry in SCORES.items() if not entry.lacks(network.config)}
    latent = torch.distributions.Normal(outputs.mean, torch.exp(0.5 * outputs.log_variance))
    divergence = torch.distributions.kl_divergence(latent, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(score["kl"], divergence, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score["loss"], outputs.error + 0.5 * divergence, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score["mse"], outputs.error)
    torch.testing.assert_close(score["mu2"], outputs.mean.square().sum(dim=1))
    torch.testing.assert_close(score["mu2_over_sigma2"], (outputs.mean / latent.stddev).square().sum(dim=1))
    mask = outputs.mask[..., None]
    absolute = ((outputs.output - outputs.target).abs() * mask).sum(dim=(1, 2)) / (3 * outputs.mask.sum(dim=1))
    torch.testing.assert_close(score["mae"], absolute)
    # more samples tighten the bound: the importance-weighted one is never looser
    assert (score["iwae"] <= score["negative_elbo"] + 1e-4).all()


def test_evidence_of_a_linear_gaussian_model_is_found():
    """With a decoder x = z the marginal likelihood is N(0, 2), and the exact posterior makes every weight that."""
    network = VAE(VAEConfig(num_constituents=1, latent=1, widths=(1,), posterior_samples=5, features="energyflow"), 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # relu(x + 10) - 10 is x here
        encoder, decoder = network.encoder.layers[0], network.decoder
        for layer in (encoder, decoder.layers[0]):
            layer.weight.fill_(1.0)
            layer.bias.fill_(10.0)
        network.mean.weight.fill_(0.5)
        network.mean.bias.fill_(-5.0)
        network.log_variance.bias.fill_(math.log(0.5))
        decoder.output.weight.fill_(1.0)
        decoder.output.bias.fill_(-10.0)
        x = torch.linspace(-2, 2, 9)[:, None, None]
        outputs = network.eval()(x, torch.ones(9, 1, dtype=torch.bool))
    expected = torch.from_numpy(stats.norm(0, math.sqrt(2)).logpdf(x[:, 0].numpy())).float()
    torch.testing.assert_close(outputs.log_weights, expected.expand(9, 5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"reconstruction": "emd", "features": "kin"}, "compares momentum fractions at angles"),
        ({"encoder": "transformer", "num_heads": 3}, "num_heads=3 does not divide set_width=64"),
        ({"posterior_samples": 2, "reconstruction": "chamfer"}, "posterior_samples: expected 0"),
        ({"posterior_samples": 2, "variational": False}, "posterior_samples: expected 0"),
        ({"features": "high-level", "encoder": "lstm"}, "encoder: lstm needs constituents, found features: high-level"),
        ({"features": "high-level", "encoder": "deep-set"}, "encoder: deep-set needs constituents"),
        ({"features": "high-level", "encoder": "transformer"}, "encoder: transformer needs constituents"),
        ({"features": "high-level", "decoder": "lstm"}, "decoder: lstm needs constituents"),
        ({"features": "high-level", "reconstruction": "emd"}, "reconstruction: emd needs constituents"),
        (
            {"features": "scalars", "scalars": ["mass"], "reconstruction": "chamfer"},
            "reconstruction: chamfer needs constituents, found features: scalars",
        ),
        ({"features": "scalars"}, r"scalars: expected one or more names beside features: scalars, found \[\]"),
        ({"scalars": ["mass"]}, r"scalars: expected none beside features: aligned-p4, found \['mass'\]"),
        ({"features": "scalars", "scalars": ["m", "m"]}, "expected each scalar once, found 'm' again"),
        ({"scaling": "robust"}, "scaling: expected standard beside features: aligned-p4, which has its own"),
    ],
)
def test_impossible_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig(**config)
