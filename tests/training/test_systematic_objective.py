"""The relative systematic uncertainty as a metric of every epoch, and as an objective."""

import numpy as np
import pytest

from jetsweep.data.config import prepare
from jetsweep.errors import DataError
from jetsweep.experiment import load_experiment
from jetsweep.training import train
from jetsweep.training.check import check_data
from jetsweep.training.checkpoint import load_checkpoint
from jetsweep.training.config import TrialSpec
from jetsweep.training.history import read_history
from jetsweep.training.systematics import measure_systematics, scheme_of

NAME = "systematic_uncertainty_at_0.5"
LARGE = {"neutral_scale": 0.2, "charged_loss": 0.3}


def asking(spec, source, efficiencies=(0.5,)):
    tree = spec.model_dump(mode="json")
    tree["data"]["source"] = source
    tree["task"]["systematic_efficiencies"] = list(efficiencies)
    return TrialSpec.model_validate(tree)


@pytest.fixture(scope="module")
def source():
    return {"name": "toy", "jets": 3000, "seed": 1, "tracks": True, "variations": LARGE}


def test_every_epoch_measures_what_evaluate_measures(make_spec, source, tmp_path):
    spec = asking(make_spec(epochs=2), source, (0.5, 0.8))
    result = train(spec, tmp_path / "trial", tmp_path / "data")
    dataset = prepare(spec.data, tmp_path / "data")
    found = [row[f"val/{NAME}"] for row in read_history(tmp_path / "trial" / "history.jsonl")]
    assert len(found) == 2
    assert np.isfinite(found).all()
    assert min(found) > 0
    assert found[0] != found[1]
    loaded = load_checkpoint(tmp_path / "trial/checkpoints/best")
    for split, metrics in (("val", result.best), ("test", result.test)):
        again = measure_systematics(loaded, dataset, scheme_of(dataset), split, replicas=2)
        assert metrics[f"{split}/{NAME}"] == pytest.approx(again.uncertainty["total"][0], rel=1e-6)
        assert metrics[f"{split}/systematic_uncertainty_at_0.8"] != metrics[f"{split}/{NAME}"]


def test_only_where_it_is_asked_for_and_only_with_variations(make_spec, source, data_root, tmp_path):
    spec = make_spec(epochs=1)
    assert not any("systematic" in name for name in train(spec, tmp_path / "plain", data_root).best)
    wanted = asking(spec, spec.data.source.model_dump(mode="json"))
    expected = f"val/{NAME} needs varied samples of the split 'val', expected splits syst_val/<sample>, found none; "
    with pytest.raises(DataError, match=expected):
        check_data(wanted, prepare(wanted.data, data_root))
    with pytest.raises(DataError, match=expected):
        train(wanted, tmp_path / "wanted", data_root)
    check_data(asking(spec, source), prepare(asking(spec, source).data, data_root))


FILE = """
name: trade-off
task: {name: tagging, signal: top}
data: {source: {name: toy, jets: 600, tracks: true, variations: true}}
model: {name: pfn, f_dropout: {uniform: [0.0, 0.2]}}
search:
  trials: 4
  objectives: [{metric: val/rejection_at_0.5, mode: max}, {metric: val/systematic_uncertainty_at_0.5, mode: min}]
  constraints: ["val/systematic_uncertainty_at_0.3 < 0.5"]
"""


def test_an_objective_asks_for_it(tmp_path):
    (tmp_path / "x.yaml").write_text(FILE)
    template = load_experiment(tmp_path / "x.yaml")
    task = template.concrete({"model.f_dropout": 0.1}).trial_spec().task
    assert task.systematic_efficiencies == (0.3, 0.5)
    (tmp_path / "y.yaml").write_text(FILE.replace("top}", "top, systematic_efficiencies: [0.7, 0.5]}"))
    task = load_experiment(tmp_path / "y.yaml").concrete({"model.f_dropout": 0.1}).task
    assert task.systematic_efficiencies == (0.7, 0.5, 0.3)
    (tmp_path / "z.yaml").write_text("\n".join(line for line in FILE.splitlines() if "val/" not in line))
    assert load_experiment(tmp_path / "z.yaml").concrete({"model.f_dropout": 0.1}).task.systematic_efficiencies == ()
