"""Toy trials shared by the tests of the training room."""

import pytest
import torch

from jetsweep.data.config import DataConfig, prepare
from jetsweep.training.config import TrialSpec


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("training-data")
    prepare(DataConfig.model_validate({"source": TOY}), root)
    return root


TOY = {"name": "toy", "jets": 600, "seed": 1}


@pytest.fixture(scope="session")
def make_spec():
    def make(model=None, seed=3, **training):
        settings = {"epochs": 3, "batch_size": 96, "optimizer": {"name": "adamw", "lr": 3e-3}, **training}
        return TrialSpec.model_validate(
            {
                "name": "test",
                "seed": seed,
                "data": {"source": TOY, "max_constituents": 16},
                "task": {"name": "tagging"},
                "model": model or {"name": "pfn", "phi_sizes": [16, 16], "f_sizes": [16]},
                "training": settings,
            }
        )

    return make


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
