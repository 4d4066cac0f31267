"""Every registered architecture honours the contract; a new file in models/ is tested without being named here."""

from importlib.util import find_spec

import pytest
import torch

from jetsweep.models import MODELS, ModelConfig
from jetsweep.testing import AutoencoderContract, DensityContract, ModelContract

# sizes for the twenty training steps; architectures that are not named train as configured by default
SMALL_GN2 = {"width": 32, "output_width": 32, "num_layers": 2, "num_heads": 4, "hidden": 64, "head_sizes": (32,)}
SMALLER = {
    "gn2": SMALL_GN2,
    "gn2x": SMALL_GN2,
    "part": {
        "embed_dims": (32, 64, 32),
        "pair_embed_dims": (16, 16),
        "num_heads": 4,
        "num_layers": 2,
        "num_class_layers": 1,
    },
    "particlenet": {"num_neighbours": 7, "widths": ((32, 32, 32), (64, 64, 64)), "dense_width": 128},
    "resnet": {"num_pixels": 32, "num_blocks": (1, 1), "base_width": 8, "dropout": 0.1},
    "lgatr": {"num_blocks": 2, "num_heads": 2, "num_multivectors": 2, "num_scalars": 16},
    "lorentznet": {"width": 24, "num_layers": 2},
    "vae": {"features": "energyflow"},  # toy momenta are not scaled
    "flow": {"features": "scalars"},  # of fifteen variables that are normal already there is little to learn
    "ebm": {"features": "kin", "set_width": 32, "num_layers": 2, "num_heads": 4, "widths": (32,), "langevin_steps": 6},
    "pelican": {"width": 25, "message_width": 15, "num_layers": 2},
}
LEARNING_RATES = {"lgatr": 3e-3, "flow": 1e-2}
# torch follows the package's cached constants and its own product with its own gradient, but remarks on both
SAID_WHILE_COMPILING = {
    "lgatr": (
        "Dynamo detected a call to a .functools.lru_cache:UserWarning",
        ".*autograd.function.Function.* should not be instantiated:DeprecationWarning",
    )
}
# packages of optional extras
NEEDS = {"flow": "zuko", "lgatr": "lgatr"}
CONTRACTS = {"logits": ModelContract, "reconstruction": AutoencoderContract, "density": DensityContract}
# pcnn sorts by pT inside, so the order of slots does not matter to it
IN_SLOT_ORDER = {"dnn", "vae"}


def contract_of(name: str) -> type[ModelContract]:
    config: type[ModelConfig] = MODELS.get(name).config
    smaller = config(**SMALLER[name]) if name in SMALLER else None
    facts = {"config": config(), "training_config": smaller, "is_permutation_invariant": name not in IN_SLOT_ORDER}
    if name in LEARNING_RATES:
        facts["learning_rate"] = LEARNING_RATES[name]
    contract = type(f"Test_{name}", (CONTRACTS[config.outputs],), facts)
    for warning in SAID_WHILE_COMPILING.get(name, ()):
        contract = pytest.mark.filterwarnings(f"ignore:{warning}")(contract)
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        contract = pytest.mark.skip(reason=f"needs the package {NEEDS[name]}")(contract)
    return contract


class TestParTVersion2(ModelContract):
    config = MODELS.get("part").config(version=2, **SMALLER["part"])


class TestParTVersion3(ModelContract):
    config = MODELS.get("part").config(version=3, **SMALLER["part"])


class TestLSTMAutoencoder(AutoencoderContract):
    config = MODELS.get("vae").config(encoder="lstm", decoder="lstm", variational=False, features="kin")
    is_permutation_invariant = False
    learning_rate = 1e-2

    def test_compiles_without_graph_breaks(self):
        with torch._dynamo.config.patch(allow_rnn=True):  # else torch leaves LSTMs to their own kernels
            super().test_compiles_without_graph_breaks()


class TestDeepSetVAE(AutoencoderContract):
    config = MODELS.get("vae").config(encoder="deep-set", reconstruction="chamfer", features="energyflow", latent=4)


class TestTransformerVAE(AutoencoderContract):
    config = MODELS.get("vae").config(
        encoder="transformer",
        num_layers=1,
        reconstruction="emd",
        emd_iterations=5,
        features="energyflow",
        latent=4,
        widths=(32, 16),
    )


class TestGaussianVAE(AutoencoderContract):
    config = MODELS.get("vae").config(reconstruction="gaussian", posterior_samples=3, features="energyflow")
    is_permutation_invariant = False
    learning_rate = 3e-2


class TestHighLevelVAE(AutoencoderContract):
    config = MODELS.get("vae").config(features="high-level", scaling="robust")
    learning_rate = 1e-2


class TestScalarAutoencoder(AutoencoderContract):
    config = MODELS.get("vae").config(features="scalars", scalars=("jet_mass", "tau21"), variational=False, latent=1)
    learning_rate = 1e-2


class TestDenseEBM(DensityContract):
    config = MODELS.get("ebm").config(encoder="dense", features="kin", widths=(32, 16), num_constituents=15)
    is_permutation_invariant = False


class TestDeepSetEBM(DensityContract):
    config = MODELS.get("ebm").config(
        encoder="deep-set", features="kin", set_width=32, num_layers=2, widths=(32,), langevin_steps=10
    )


@pytest.mark.skipif(find_spec("zuko") is None, reason="needs the package zuko")
class TestMaskedAutoregressiveFlow(DensityContract):
    config = MODELS.get("flow").config(kind="maf", features="scalars")
    learning_rate = 1e-2


@pytest.mark.skipif(find_spec("zuko") is None, reason="needs the extra flows")
class TestLatentFlowVAE(AutoencoderContract):
    config = MODELS.get("vae").config(features="energyflow", latent=4, widths=(32, 16), latent_flow={"transforms": 2})
    is_permutation_invariant = False


for _name in MODELS.names():
    globals()[f"Test_{_name}"] = contract_of(_name)


def test_every_architecture_is_here():
    assert len(MODELS.names()) >= 15
    assert {"dnn", "efn", "gn2", "lgatr", "lorentznet", "part", "pelican", "pfn"} <= set(MODELS.names())
    assert {f"Test_{name}" for name in MODELS.names()} <= set(globals())
