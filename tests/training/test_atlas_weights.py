"""Jets of the ATLAS open data are trained with their weights, or not at all."""

import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.errors import DataError
from jetsweep.testing.atlas import write_atlas_files
from jetsweep.training import train
from jetsweep.training.check import check_data


@pytest.fixture
def atlas_spec(make_spec, tmp_path):
    sets = ("train_nominal", "test_nominal")
    write_atlas_files(tmp_path / "in", jets=300, sets=sets, compress=False)
    make_dataset("atlas-top-tagging", tmp_path / "data", path=str(tmp_path / "in"))

    def make(**task):
        spec = make_spec(epochs=1)
        data = spec.data.model_validate({"path": str(tmp_path / "data"), "max_constituents": 16})
        return spec.model_copy(
            update={"data": data, "task": type(spec.task).model_validate({"name": "tagging", **task})}
        )

    return make


def test_training_uses_the_weights(atlas_spec, tmp_path):
    result = train(atlas_spec(), tmp_path / "trial", tmp_path)
    assert np.isfinite(result.test["test/auc"])
    with np.load(tmp_path / "trial/evaluation/test.npz") as arrays:
        assert (arrays["weight"] == 1).all()


def test_training_without_them_is_refused(atlas_spec, tmp_path):
    from jetsweep.data import open_dataset

    dataset = open_dataset(tmp_path / "data")
    check_data(atlas_spec(), dataset)
    with pytest.raises(
        DataError, match=r"trained with their weights only, expected task.use_weights: true, found False"
    ):
        check_data(atlas_spec(use_weights=False), dataset)
