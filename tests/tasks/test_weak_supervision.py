"""Weak supervision: datasets of data and template, what the truth may do, and the order of methods on a toy."""

import numpy as np
import pytest
import torch

from jetsweep.data.config import DataConfig, prepare
from jetsweep.data.make import make_dataset
from jetsweep.errors import DataError
from jetsweep.training import TrialSpec, train

QUICK_FLOW = {"epochs": 4, "transforms": 2, "width": 32, "batch_size": 256}


def make_spec(method, jets=20_000, signal_events=250, epochs=8, seed=1):
    source = {"name": "resonance", "method": method, "jets": jets, "signal_events": signal_events, "seed": seed}
    if method == "cathode":
        source["flow"] = QUICK_FLOW
    return TrialSpec.model_validate(
        {
            "name": "test",
            "seed": seed,
            "data": {"source": source},
            "task": "weak-supervision",
            "model": "mlp",
            "training": {
                "epochs": epochs,
                "batch_size": 256,
                "optimizer": {"name": "adam", "lr": 2e-3},
                "schedule": {"name": "constant"},
            },
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("resonance")


def columns(dataset, split):
    (batch,) = dataset.loader(split, 100_000, constituents=(), scalars=("resonance_mass", "mass_light")).batches(0)
    return batch.targets["label"].numpy(), {name: x.numpy() for name, x in batch.scalars.items()}, batch.weight


@pytest.mark.parametrize("method", ["idealised", "cwola", "supervised"])
def test_what_is_told_from_what(root, method):
    dataset = prepare(make_spec(method).data, root)
    label, scalars, weight = columns(dataset, "train")
    inside = (scalars["resonance_mass"] >= 3300) & (scalars["resonance_mass"] < 3700)
    assert inside[label == 1].all()
    assert inside[label == 0].all() == (method != "cwola")
    if method == "cwola":
        assert not inside[label == 0].any()
        assert ((scalars["resonance_mass"] > 3100) & (scalars["resonance_mass"] < 3900)).all()
    sums = [float(weight[label == i].sum()) for i in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=0.05)
    label, scalars, _ = columns(dataset, "test")
    # the signal's lighter jet has a mass of 100 GeV with a width of 25
    assert np.median(scalars["mass_light"][label == 1]) == pytest.approx(100, abs=3)
    assert ((scalars["resonance_mass"] >= 3300) & (scalars["resonance_mass"] < 3700)).all()


def test_rows_without_constituents_are_refused_where_they_are_needed(root):
    spec = make_spec("idealised").model_dump() | {"model": {"name": "pfn"}}
    with pytest.raises(DataError, match=r"expected column 'px' among the group 'constituents', found rows without"):
        train(TrialSpec.model_validate(spec), root / "wrong", root)


def test_methods_come_in_the_expected_order(root):
    """Largest significance improvement: idealised, CATHODE a little behind, both far above a random cut."""
    torch.set_num_threads(1)
    sic = {name: train(make_spec(name), root / name, root).test["test/max_sic"] for name in ("idealised", "cathode")}
    # their errors are a few tenths at 100 background events
    assert sic["idealised"] > sic["cathode"] - 0.7
    assert sic["cathode"] > 3


def test_without_signal_there_is_no_bump(root):
    torch.set_num_threads(1)
    train(make_spec("idealised", signal_events=0), root / "null", root)
    arrays = np.load(root / "null" / "evaluation" / "val.npz")
    is_data, score = arrays["label"] == 1, arrays["probability"][:, 1]
    for efficiency in (0.1, 0.02):
        passes = score > np.quantile(score[~is_data], 1 - efficiency)
        found, expected = passes[is_data].sum(), passes[~is_data].sum() * is_data.sum() / (~is_data).sum()
        assert abs(found - expected) < 4 * np.sqrt(2 * expected)


def test_truth_enters_nothing_before_the_test(root, tmp_path):
    """The same data with other truth: nothing but test metrics could change, and there is no column to change them."""
    dataset = prepare(make_spec("idealised").data, root)
    assert "is_signal" not in dataset.manifest.scalars
    label, _, _ = columns(dataset, "val")
    assert set(np.unique(label)) == {0, 1}
    inside = dataset.class_counts("train")["data"] + dataset.class_counts("val")["data"]
    assert inside > 3000  # background and signal of the region alike are data


def lhco(folder, rows=400, **changes):
    rng = np.random.default_rng(3)
    for i, name in enumerate(("innerdata_train.npy", "innerdata_test.npy", "innerdata_extrasig.npy")):
        is_signal = np.full(rows, 1.0) if i == 2 else (np.arange(rows) < rows // 50).astype(float)
        columns = [
            rng.uniform(3.3, 3.7, rows),
            *rng.uniform(0, 0.5, (2, rows)),
            *rng.uniform(0, 1, (2, rows)),
            is_signal,
        ]
        np.save(folder / name, changes.get(name, np.column_stack(columns)))
    return {"name": "resonance", "events": "lhco", "path": str(folder), "method": "idealised"}


def test_arrays_of_the_lhc_olympics(tmp_path):
    made = make_dataset(lhco(tmp_path), tmp_path / "made")
    assert made.class_counts("test") == {"template": 196, "data": 400}
    label, scalars, _ = columns(made, "train")
    assert scalars["resonance_mass"].min() >= 3300
    assert scalars["mass_light"].max() <= 500
    assert (label == 1).sum() + made.class_counts("val")["data"] == 400


@pytest.mark.parametrize("outer", [False, True])
def test_side_bands_of_a_narrower_region(tmp_path, outer):
    """What the region leaves out of the inner array, and the outer one where it is there."""
    source = lhco(tmp_path) | {"method": "cwola", "region": [3400, 3600]}
    if outer:
        columns_of_outer = np.random.default_rng(4).uniform([3.2, 0, 0, 0, 0, 0], [3.3, 0.5, 0.5, 1, 1, 0], (70, 6))
        np.save(tmp_path / "outerdata_train.npy", columns_of_outer)
    made = make_dataset(source, tmp_path / "made")
    mass = np.load(tmp_path / "innerdata_train.npy")[:, 0]
    inside = int(((mass >= 3.4) & (mass < 3.6)).sum())
    assert made.class_counts("train")["data"] + made.class_counts("val")["data"] == inside
    # the outer array lies further off than CWoLa looks
    assert made.class_counts("train")["template"] + made.class_counts("val")["template"] == 400 - inside
    assert len(made.manifest.provenance["side bands"]) == 1 + outer


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {"innerdata_train.npy": np.zeros((5, 4))},
            {},
            r"expected floats of shape \(events, 6\), found float64 \(5, 4\)",
        ),
        ({"innerdata_test.npy": np.full((5, 6), np.nan)}, {}, "found 5 of 5 rows with others"),
        ({}, {"method": "cathode"}, "outerdata_train.npy: expected an array .*, found no such file"),
        ({}, {"region": [100, 200]}, "region: no event has a mass of 100 to 200 GeV"),
        ({}, {"path": None}, "path: expected a folder beside events: lhco"),
        ({}, {"region": [3700, 3300]}, "region: expected two ascending masses, found 3700 and 3300"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, changes, options, message):
    with pytest.raises(DataError, match=message):
        make_dataset(lhco(tmp_path, **changes) | options, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_pickle_is_never_loaded(tmp_path):
    source = lhco(tmp_path)
    np.save(tmp_path / "innerdata_train.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"innerdata_train.npy: expected a plain numpy array"):
        make_dataset(source, tmp_path / "made")


def test_the_same_seed_makes_the_same_template(tmp_path):
    source = {
        "name": "resonance",
        "method": "cathode",
        "jets": 3000,
        "signal_events": 30,
        "flow": {**QUICK_FLOW, "epochs": 1},
    }
    digests = {prepare(DataConfig.model_validate({"source": source}), tmp_path / str(i)).digest for i in range(2)}
    assert len(digests) == 1


def test_folds_leave_every_event_out_once(tmp_path):
    held = []
    for fold in range(3):
        source = {"name": "resonance", "method": "idealised", "jets": 3000, "signal_events": 30}
        made = make_dataset({**source, "folds": 3, "fold": fold}, tmp_path / str(fold))
        sizes = {split: made.class_counts(split) for split in made.splits}
        assert sizes["held-out"]["template"] == 0
        rows = [
            b.scalars["resonance_mass"]
            for b in made.loader("held-out", 5000, constituents=(), scalars=("resonance_mass",)).batches(0)
        ]
        held.append(set(torch.cat(rows).tolist()))
        trained = torch.cat(
            [
                b.scalars["resonance_mass"][b.targets["label"] == 1]
                for split in ("train", "val")
                for b in made.loader(split, 5000, constituents=(), scalars=("resonance_mass",)).batches(0)
            ]
        )
        assert not held[-1] & set(trained.tolist())
        total = len(trained) + sizes["held-out"]["data"]
    assert not held[0] & held[1]
    assert sum(map(len, held)) == len(set.union(*held)) == total
    with pytest.raises(DataError, match="fold: expected a number below folds: 3, found 3"):
        make_dataset({**source, "folds": 3, "fold": 3}, tmp_path / "wrong")
