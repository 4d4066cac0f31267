"""The toy source and Pythia: determinism, kinematics, learnable but not trivial."""

import json
import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jetsweep.data import make_dataset
from jetsweep.data.sources import pythia as pythia_source
from jetsweep.data.sources._jets import flags_of_ids, hash_split, row_hash
from jetsweep.data.sources._particle_flow import particle_flow
from jetsweep.data.sources.toy import make_toy_jets
from jetsweep.errors import DataError


def test_toy_is_the_same_whenever_it_is_made_and_another_with_another_seed(tmp_path):
    first = make_dataset("toy", tmp_path / "a", jets=300, seed=1)
    assert make_dataset("toy", tmp_path / "b", jets=300, seed=1).digest == first.digest
    assert make_dataset("toy", tmp_path / "c", jets=300, seed=2).digest != first.digest
    assert first.classes == ("qcd", "top")
    assert sum(first.num_rows(split) for split in ("train", "val", "test")) == 300


def test_toy_jets_look_like_jets():
    start = time.process_time()
    jets = make_toy_jets(2_000, np.random.default_rng(1), tracks=True)
    assert time.process_time() - start < 1.0
    p4_N4 = np.column_stack([jets.values[name] for name in ("px", "py", "pz", "energy")]).astype(np.float64)
    np.testing.assert_allclose(p4_N4[:, 3], np.linalg.norm(p4_N4[:, :3], axis=1), rtol=1e-6)
    pt_N = np.hypot(p4_N4[:, 0], p4_N4[:, 1])
    same_jet_N = np.diff(jets.jet) == 0
    assert (np.diff(pt_N)[same_jet_N] <= 1e-4).all()
    assert (np.diff(jets.offsets) >= 3).all()
    mass, label = jets.scalars["jet_mass"], jets.label
    assert 0.86 < roc_auc_score(label, mass) < 0.95
    assert 165 < np.median(mass[label == 1]) < 185
    assert 540 < np.median(jets.scalars["jet_pt"]) < 660
    charged_N = jets.values["charge"] != 0
    kinds = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
    flags_N5 = np.column_stack([jets.values[name] for name in kinds])
    assert (flags_N5.sum(axis=1) == 1).all()
    assert (charged_N == flags_N5[:, [0, 3, 4]].any(axis=1)).all()
    assert (jets.values["d0"][~charged_N] == 0).all()


def test_split_depends_on_the_row_alone():
    jets = make_toy_jets(1_000, np.random.default_rng(1))
    whole = {name: set(part.source_row.tolist()) for name, part in hash_split(jets, seed=3)}
    half = {name: set(part.source_row.tolist()) for name, part in hash_split(jets.take_jets(jets.label == 1), seed=3)}
    assert all(half[name] <= whole[name] for name in whole)
    assert abs(len(whole["train"]) - 800) < 60
    assert len(np.unique(row_hash(np.arange(10_000), seed=1))) == 10_000


def test_charges_and_flags_by_pdg_id():
    ids = np.array([211, -211, 2212, -2212, 11, -11, 13, 22, 130, 2112, 3112, -3112, 3222])
    kinds = flags_of_ids(ids)
    assert kinds["charge"].tolist() == [1, -1, 1, -1, -1, 1, -1, 0, 0, 0, -1, 1, 1]
    assert kinds["is_muon"].tolist() == [i == 6 for i in range(13)]
    assert kinds["is_neutral_hadron"].tolist() == [i in (8, 9) for i in range(13)]


def test_particle_flow_keeps_the_energy_scale_and_drops_what_a_detector_misses():
    rng = np.random.default_rng(1)
    size = 20_000
    pt, eta, phi = rng.uniform(5, 50, size), rng.uniform(-2.4, 2.4, size), rng.uniform(-np.pi, np.pi, size)
    p4 = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
    event = np.repeat(np.arange(size // 10), 10)
    for pdg_id, kept in ((211, "is_charged_hadron"), (22, "is_photon"), (130, "is_neutral_hadron")):
        out_N4, columns, event_N = particle_flow(p4, np.full(size, pdg_id), event, rng)
        assert out_N4[:, 3].sum() == pytest.approx(p4[:, 3].sum(), rel=0.01)
        np.testing.assert_allclose(out_N4[:, 3], np.linalg.norm(out_N4[:, :3], axis=1))
        assert (np.diff(event_N) >= 0).all()
        assert columns[kept].mean() == pytest.approx(0.95 if pdg_id == 211 else 1.0, abs=0.01)
    muons = particle_flow(p4, np.full(size, 13), event, rng)[0]
    assert len(muons) == pytest.approx(0.95 * size, rel=0.01)
    assert len(particle_flow(p4 * 1e-3, np.full(size, 22), event, rng)[0]) == 0


def test_options_of_pythia_are_checked(tmp_path):
    with pytest.raises(
        DataError, match=r"source pythia: process: Input should be 'top-qcd', 'quark-gluon', 'w-qcd' or 'anomaly'"
    ):
        make_dataset("pythia", tmp_path / "x", process="higgs")
    with pytest.raises(DataError, match=r"source pythia: proces: .*; options of pythia are name, jets, seed, process"):
        make_dataset("pythia", tmp_path / "x", proces="w-qcd")
    assert not list(tmp_path.iterdir())


def test_missing_extra_is_one_sentence(tmp_path, monkeypatch):
    find = pythia_source.importlib.util.find_spec
    monkeypatch.setattr(
        pythia_source.importlib.util, "find_spec", lambda name: None if name == "fastjet" else find(name)
    )
    with pytest.raises(DataError, match=r"needs fastjet, not installed: pip install 'jetsweep\[generate\]'"):
        make_dataset("pythia", tmp_path / "x", jets=10)


NOMINAL = ("train", "val", "test")


def check_variations_of_pythia(dataset):
    nominal = [dataset.to_arrow(split) for split in NOMINAL]
    weights = np.concatenate([np.array(table["shower_weights"].to_pylist()) for table in nominal])
    assert weights.shape == (60, 5)
    assert (weights[:, 0] == 1).all()
    assert (weights[:, 1:] > 0).all()
    assert (np.ptp(weights, axis=0)[1:] > 0).all()
    varied = [split for split in dataset.splits if split not in NOMINAL]
    assert len(varied) == 2 * (8 + 1)
    assert all(dataset.to_arrow(split)["shower_weights"].null_count == dataset.num_rows(split) for split in varied)
    assert sum(dataset.num_rows(split) for split in varied if split.endswith("/vincia")) == 8
    settings = dataset.manifest.provenance["settings"]
    assert "PartonShowers:model = 2" in settings["top vincia"]
    assert not any("Vincia" in line for line in settings["top"])
    assert any("isr_up isr:muRfac=2.0" in line for line in settings["qcd"])
    # both jets of a pair of tops count as one event, with one weight
    events = np.concatenate([table["event_number"].to_numpy() for table in nominal])
    rows = np.concatenate([table["source_row"].to_numpy() for table in nominal])
    assert 30 < len(np.unique(events)) < 60
    for event in np.unique(events):
        assert len(set(rows[events == event] % 2)) == 1
        assert (np.ptp(weights[events == event], axis=0) == 0).all()


@pytest.mark.generate
def test_pythia_jets_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    options = {"jets": 60, "seed": 3, "variations": {"alternative_jets": 8}}
    one = make_dataset("pythia", tmp_path / "one", processes=1, **options)
    two = make_dataset("pythia", tmp_path / "two", processes=2, **options)
    assert one.digest == two.digest
    check_variations_of_pythia(one)
    assert "processes" not in json.loads((tmp_path / "one" / "dataset.json").read_text())["options"]
    tables = [one.to_pandas(split) for split in NOMINAL]
    labels = np.concatenate([t["label"].astype(str) for t in tables])
    assert (labels == "top").sum() == 30
    assert (labels == "qcd").sum() == 30
    pt, mass, eta = (np.concatenate([t[n] for t in tables]) for n in ("jet_pt", "jet_mass", "jet_eta"))
    assert ((pt > 549.9) & (pt < 650.1) & (np.abs(eta) < 2.001)).all()
    assert 160 < np.median(mass[labels == "top"]) < 185
    assert np.median(mass[labels == "qcd"]) < 120
    rows = np.concatenate([t["source_row"] for t in tables])
    assert len(np.unique(rows)) == 60


@pytest.mark.generate
@pytest.mark.parametrize(
    ("process", "radius_cut", "classes"),
    [("quark-gluon", (500, 550), ("gluon", "quark")), ("w-qcd", (200, 500), ("qcd", "w"))],
)
def test_the_other_processes(tmp_path, process, radius_cut, classes):
    dataset = make_dataset("pythia", tmp_path / "x", process=process, jets=24, processes=1)
    assert dataset.classes == classes
    pt = np.concatenate([dataset.to_pandas(split)["jet_pt"] for split in dataset.splits])
    assert len(pt) == 24
    assert ((pt > radius_cut[0] - 0.1) & (pt < radius_cut[1] + 0.1)).all()
    assert dataset.has_column("pdg_id", "constituents") == (process == "quark-gluon")
    assert dataset.has_column("weight") == (process == "w-qcd")
