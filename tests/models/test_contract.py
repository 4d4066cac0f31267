"""Every registered architecture honours the contract; a new file in models/ is tested without being named here."""

from jetsweep.models import MODELS, ModelConfig
from jetsweep.testing import ModelContract

# sizes for the twenty training steps; architectures that are not named train as configured by default
SMALLER = {
    "part": {
        "embed_dims": (32, 64, 32),
        "pair_embed_dims": (16, 16),
        "num_heads": 4,
        "num_layers": 2,
        "num_class_layers": 1,
    },
    "particlenet": {"num_neighbours": 7, "widths": ((32, 32, 32), (64, 64, 64)), "dense_width": 128},
    "lorentznet": {"width": 24, "num_layers": 2},
    "pelican": {"width": 25, "message_width": 15, "num_layers": 2},
}


def contract_of(name: str) -> type[ModelContract]:
    config: type[ModelConfig] = MODELS.get(name).config
    smaller = config(**SMALLER[name]) if name in SMALLER else None
    return type(f"Test_{name}", (ModelContract,), {"config": config(), "training_config": smaller})


for _name in MODELS.names():
    globals()[f"Test_{_name}"] = contract_of(_name)


def test_every_architecture_is_here():
    assert {"efn", "hldnn", "lorentznet", "part", "particlenet", "pelican", "pfn"} <= set(MODELS.names())
    assert {f"Test_{name}" for name in MODELS.names()} <= set(globals())
