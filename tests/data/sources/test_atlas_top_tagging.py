"""ATLAS open data: the jets come back in GeV with weights and event numbers, and mistakes end in one sentence."""

import gzip
from collections import Counter

import h5py
import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.data.sources.atlas_top_tagging import STORED_HIGH_LEVEL, URL, AtlasTopTaggingSource
from jetsweep.errors import DataError
from jetsweep.physics.high_level import HIGH_LEVEL_NAMES
from jetsweep.testing.atlas import write_atlas_files

NOMINAL = ("train_nominal", "test_nominal")


def make(folder, **options):
    return make_dataset("atlas-top-tagging", folder / "out", path=str(folder / "in"), **options)


def edit(path, **changes):
    """Replace datasets of an unpacked file; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in changes.items():
            before = file[name][:]
            del file[name]
            if value is not None:
                file[name] = value(before)
    return path


@pytest.fixture
def plain(tmp_path):
    """One unpacked training file of 60 jets."""
    return write_atlas_files(tmp_path / "in", jets=60, sets=("train_nominal",), compress=False)[0]


@pytest.fixture
def refused(tmp_path):
    def check(match, **options):
        with pytest.raises(DataError, match=match):
            make(tmp_path, **options)
        assert {path.name for path in tmp_path.iterdir()} <= {"in"}

    return check


def test_jets_come_back_in_gev(tmp_path, monkeypatch):
    monkeypatch.setattr(AtlasTopTaggingSource, "slice_rows", 16)
    write_atlas_files(tmp_path / "in", jets=50, sets=(*NOMINAL, "esup", "dipole"), numbers=(0, 3))
    dataset = make(tmp_path)
    assert {split: dataset.num_rows(split) for split in dataset.splits} == {
        "train": 90, "val": 10, "test": 100, "syst/esup": 100, "syst/dipole": 100,
    }  # fmt: skip
    with gzip.open(tmp_path / "in/test_nominal_003.h5.gz") as packed, h5py.File(packed) as file:
        stored = {name: file[name][:] for name in file}
    table = dataset.to_arrow("test").sort_by("source_row")
    table = table.filter(np.asarray(table["source_file"].cast("string").to_pylist()) == "test_nominal_003.h5.gz")
    flat = table["constituents"].combine_chunks().flatten()
    p4 = {name: flat.field(name).to_numpy().astype(np.float64) for name in ("px", "py", "pz", "energy")}
    real = stored["fjet_clus_pt"] > 0
    pt = np.hypot(p4["px"], p4["py"])
    np.testing.assert_allclose(pt, stored["fjet_clus_pt"][real] / 1e3, rtol=2e-6)
    np.testing.assert_allclose(np.arcsinh(p4["pz"] / pt), stored["fjet_clus_eta"][real], atol=3e-6)
    turn = np.arctan2(p4["py"], p4["px"]) - stored["fjet_clus_phi"][real]
    np.testing.assert_allclose((turn + np.pi) % (2 * np.pi) - np.pi, 0, atol=3e-6)
    np.testing.assert_allclose(p4["energy"], stored["fjet_clus_E"][real] / 1e3, rtol=2e-6)
    assert flat.field("taste").to_numpy().tolist() == stored["fjet_clus_taste"][real].tolist()
    assert [len(x) for x in table["constituents"]] == real.sum(axis=1).tolist()
    labels = np.array(table["label"].to_pylist())
    assert labels.tolist() == np.where(stored["labels"] == 1, "top", "qcd").tolist()
    assert Counter(labels) == {"top": 25, "qcd": 25}
    assert table["event_number"].to_pylist() == stored["EventInfo_mcEventNumber"].tolist()
    np.testing.assert_array_equal(np.stack(table["shower_weights"].to_numpy()), stored["EventInfo_mcEventWeights"])
    np.testing.assert_allclose(table["jet_mass"].to_numpy(), stored["fjet_m"] / 1e3, rtol=1e-6)
    np.testing.assert_array_equal(table["jet_eta"].to_numpy(), stored["fjet_eta"])
    powers = {"Split12": 1, "Split23": 1, "ECF1": 1, "ECF2": 2, "ECF3": 3, "Qw": 1}
    for name, theirs in zip(HIGH_LEVEL_NAMES, STORED_HIGH_LEVEL):
        expected = stored[f"fjet_{theirs}"] / 1e3 ** powers.get(theirs, 0)
        np.testing.assert_allclose(table[name].to_numpy(), expected, rtol=1e-6)
    assert dataset.manifest.scalars["ecf3"] == "GeV^3"


def test_weights_events_and_splits(tmp_path):
    write_atlas_files(tmp_path / "in", jets=90, sets=(*NOMINAL, "esup"), compress=False)
    dataset = make(tmp_path)
    with h5py.File(tmp_path / "in/train_nominal_000.h5") as file:
        weight = dict(zip(file["EventInfo_mcEventNumber"][:].tolist(), file["training_weights"][:].tolist()))
    seen = {}
    for split in ("train", "val"):
        table = dataset.to_arrow(split)
        seen[split] = dict(zip(table["event_number"].to_pylist(), table["weight"].to_pylist()))
    assert seen["train"] | seen["val"] == weight
    assert {n % 10 for n in seen["val"]} == {9}
    assert {n % 10 for n in seen["train"]} == set(range(1, 9))
    for split in ("test", "syst/esup"):
        assert set(dataset.to_arrow(split)["weight"].to_pylist()) == {1.0}
    # the varied set holds the same events and jets with other constituents
    nominal, varied = (dataset.to_arrow(s).sort_by("event_number") for s in ("test", "syst/esup"))
    for name in ("event_number", "jet_pt", "jet_mass"):
        assert nominal[name].to_pylist() == varied[name].to_pylist()
    assert varied["shower_weights"].null_count == 90
    energy = [t["constituents"].combine_chunks().flatten().field("energy").to_numpy() for t in (nominal, varied)]
    np.testing.assert_allclose(energy[1] / energy[0], 1.03, rtol=1e-5)
    batch = next(iter(dataset.loader("train", 16, constituents=("px",), scalars=("tau1_wta",)).batches(0)))
    assert batch.weight.tolist() == dataset.to_arrow("train", 16)["weight"].to_pylist()


def test_chosen_sets_numbers_and_jets(tmp_path):
    write_atlas_files(tmp_path / "in", jets=20, sets=(*NOMINAL, "cer"), numbers=(0, 1), compress=False)
    dataset = make(tmp_path, sets=["test_nominal", "cer"], numbers=[1], jets=20)
    assert {split: dataset.num_rows(split) for split in dataset.splits} == {"test": 10, "syst/cer": 10}
    assert [f["file"] for f in dataset.manifest.provenance["files"]] == ["test_nominal_001.h5", "cer_001.h5"]


def test_missing_files_say_where_to_put_them(tmp_path, refused, plain):
    missing = f"put esdown_000.h5.gz, from {URL}/esdown_000.h5.gz, into {tmp_path}/in"
    refused(missing, sets=["train_nominal", "esdown"])
    refused(f"put train_nominal_004.h5.gz, from {URL}", numbers=[0, 4])
    refused("there is no set 'esupp'; there are train_nominal, test_nominal, esup", sets=["esupp"])
    with pytest.raises(
        DataError, match=r"put train_nominal_000\.h5\.gz, from .* name that folder with the option path"
    ):
        make_dataset("atlas-top-tagging", tmp_path / "out")
    plain.unlink()
    refused("in holds no files of atlas-top-tagging: expected train_nominal_000")


def test_damaged_gzip(tmp_path, refused):
    (path,) = write_atlas_files(tmp_path / "in", jets=20, sets=("esup",))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(r"esup_000\.h5\.gz cannot be read as gzip, it is truncated or damaged")
    path.write_bytes(gzip.compress(b"no HDF5 at all"))
    refused(r"esup_000\.h5\.gz cannot be read as HDF5")


def test_units_are_told_apart(plain, refused):
    names = ("fjet_pt", "fjet_m", "fjet_clus_pt", "fjet_clus_E")
    edit(plain, fjet_clus_pt=lambda x: x / 1e3, fjet_clus_E=lambda x: x / 1e3)
    refused(r"the constituents' pT sum to 0\.00\S+ of the jets' pT, .* both in MeV\?")
    edit(plain, **dict.fromkeys(names[:2], lambda x: x / 1e3))
    refused(r"the median of fjet_pt is \d+\S*, expected 300000 to 4e\+06 MeV; the file seems to be in GeV")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training_weights": lambda x: x * 0}, "training_weights are all zero"),
        ({"training_weights": lambda x: -x}, r"60 of 60 are negative or not finite, the first is -"),
        ({"training_weights": lambda x: x * np.nan}, r"60 of 60 are negative or not finite, the first is nan"),
        ({"training_weights": None}, r"1 of 28 datasets are missing, the first is training_weights; found EventInfo"),
        ({"labels": lambda x: x + 1}, r"labels holds \[1, 2\], expected 0 and 1"),
        (
            {"EventInfo_mcEventNumber": lambda x: x * 10},
            "60 event numbers do not belong to the split 'train', .* no mult",
        ),
        ({"EventInfo_mcEventWeights": lambda x: x[:, :5]}, r"Weights has the shape \(60, 5\), expected \(60, 27\)"),
        ({"fjet_pt": lambda x: x[:50]}, r"fjet_pt has the shape \(50,\), expected \(60,\)"),
        ({"fjet_clus_E": lambda x: x / 2}, r"E >= \|p\| holds for .* of the constituents only, expected fjet_clus_E"),
    ],
    ids=["zero", "negative", "nan", "no weights", "labels", "events", "shower weights", "rows", "energy"],
)
def test_mistakes_in_a_file(plain, refused, changes, told):
    edit(plain, **changes)
    refused(told)


def test_variation_of_training_events_is_refused(tmp_path, refused):
    (path,) = write_atlas_files(tmp_path / "in", jets=20, sets=("esup",), compress=False)
    edit(path, EventInfo_mcEventNumber=lambda x: x + 1)
    refused(r"20 event numbers do not belong to the split 'syst/esup', the first is 1; expected multiples of ten only")
