"""Published layouts to Arrow: the same jets come out, and every kind of damage ends in one sentence."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.data.sources import _files
from jetsweep.data.sources.jetclass import JetClassSource
from jetsweep.data.sources.quark_gluon import QuarkGluonSource
from jetsweep.data.sources.top_tagging import TopTaggingSource
from jetsweep.errors import DataError

spec = importlib.util.spec_from_file_location("source_layouts", Path(__file__).with_name("layouts.py"))
layouts = sys.modules["source_layouts"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)


def rows(dataset, split):
    """(p4 of all constituents, offsets, labels, source rows) in the order of the source file."""
    table = dataset.to_arrow(split).sort_by("source_row").combine_chunks()
    column = table["constituents"].combine_chunks()
    column = column.chunk(0) if hasattr(column, "chunk") else column
    flat = column.flatten()
    p4 = np.column_stack([flat.field(name).to_numpy() for name in ("px", "py", "pz", "energy")])
    lengths = np.array([len(x) for x in column])
    return p4, lengths, table["label"].to_pylist(), table["source_row"].to_pylist()


def assert_same_jets(dataset, split, jets, atol=2e-3):
    p4, lengths, labels, numbers = rows(dataset, split)
    np.testing.assert_allclose(p4, np.column_stack([jets.values[n] for n in ("px", "py", "pz", "energy")]), atol=atol)
    np.testing.assert_array_equal(lengths, np.diff(jets.offsets))
    assert labels == [dataset.classes[i] for i in jets.label]
    assert numbers == list(range(len(jets)))


WRITERS = ["write_table_format", "write_fixed_format", "write_pandas_table", "write_pandas_fixed"]


@pytest.mark.parametrize("write", WRITERS)
def test_top_tagging_comes_back(tmp_path, write, monkeypatch):
    monkeypatch.setattr(TopTaggingSource, "slice_rows", 16)
    jets = layouts.toy()
    for split in ("train", "val", "test"):
        getattr(layouts, write)(tmp_path / f"{split}.h5", *layouts.top_tagging_blocks(jets))
    dataset = make_dataset("top-tagging", tmp_path / "out", path=str(tmp_path))
    assert dataset.splits == ("train", "val", "test")
    assert_same_jets(dataset, "test", jets, atol=1e-3)
    again = make_dataset("top-tagging", tmp_path / "again", path=str(tmp_path))
    assert [s.sha256 for s in again.manifest.splits["train"]] == [s.sha256 for s in dataset.manifest.splits["train"]]
    assert again.digest == dataset.digest


def test_jets_takes_a_share_of_every_file(tmp_path):
    jets = layouts.toy(40)
    for split in ("train", "test"):
        layouts.write_table_format(tmp_path / f"{split}.h5", *layouts.top_tagging_blocks(jets))
    seen = []
    dataset = make_dataset(
        "top-tagging", tmp_path / "out", lambda done, total: seen.append((done, total)), path=str(tmp_path), jets=30
    )
    assert [dataset.num_rows(s) for s in ("train", "test")] == [15, 15]
    assert seen[-1] == (30, 30)


def test_quark_gluon_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(QuarkGluonSource, "slice_rows", 16)
    jets = layouts.toy()
    file = layouts.write_quark_gluon(tmp_path / "a.npz", jets)
    dataset = make_dataset("quark-gluon", tmp_path / "out", files={"train": [str(file)]}, masses="zero")
    assert_same_jets(dataset, "train", jets)
    assert dataset.has_column("pdg_id", "constituents")
    massive = make_dataset("quark-gluon", tmp_path / "massive", files={"train": [str(file)]})
    p4 = rows(massive, "train")[0].astype(np.float64)
    mass2 = p4[:, 3] ** 2 - (p4[:, :3] ** 2).sum(axis=1)
    soft = p4[:, 3] < 5
    charged = massive.to_arrow("train").sort_by("source_row")["constituents"].combine_chunks().flatten().field("charge")
    expected = np.where(charged.to_numpy() != 0, 0.13957**2, 0.0)
    np.testing.assert_allclose(mass2[soft], expected[soft], atol=2e-4)


def test_quark_gluon_names_and_splits_are_the_published_ones():
    def published(**options):
        return QuarkGluonSource(QuarkGluonSource.options(**options)).published()

    files = published()
    assert [f.name for f in files[:2]] == ["QG_jets.npz", "QG_jets_1.npz"]
    assert [f.split for f in files] == ["train"] * 16 + ["val"] * 2 + ["test"] * 2
    assert files[0].md5 == "f5d052f10a79c6e8b9382637aca0ef52"
    assert published(generator="herwig", flavours="udscb")[19].name == "QG_jets_herwig_withbc_19.npz"
    assert published(flavours="udscb")[0].name == "QG_jets_withbc_0.npz"
    assert published(generator="herwig")[0].name == "QG_jets_herwig_0.npz"


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_jetclass_comes_back(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(JetClassSource, "slice_rows", 16)
    jets = layouts.toy(40)
    for folder, number, seed in (("train_100M", 0, 1), ("test_20M", 100, 2)):
        for stem, label in (("TTBar", "Tbqq"), ("ZJetsToNuNu", "QCD")):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
            columns = layouts.jetclass_columns(jets if label == "Tbqq" else layouts.toy(24, seed + 5), label)
            write = getattr(layouts, f"write_jetclass_{kind}")
            write(tmp_path / "in" / folder / f"{stem}_{number:03d}.{kind}", columns)
    dataset = make_dataset("jetclass", tmp_path / "out", path=str(tmp_path / "in"))
    assert {split: dataset.num_rows(split) for split in dataset.splits} == {"train": 64, "test": 64}
    table = dataset.to_arrow("train").sort_by("source_row")
    tops = table.filter(table["label"].cast("string").to_numpy(zero_copy_only=False) == "Tbqq")
    flat = tops["constituents"].combine_chunks().flatten()
    for name in ("px", "energy", "d0", "dz_err"):
        np.testing.assert_array_equal(flat.field(name).to_numpy(), jets.values[name])
    for name in ("is_photon", "charge"):
        np.testing.assert_array_equal(flat.field(name).to_numpy(zero_copy_only=False), jets.values[name])
    np.testing.assert_allclose(tops["jet_mass"].to_numpy(), jets.scalars["jet_mass"], rtol=2e-2)


def make(source, tmp_path, file, **options):
    return make_dataset(source, tmp_path / "out", files={"train": [str(file)]}, **options)


def assert_nothing_left(tmp_path):
    assert not (tmp_path / "out").exists()
    assert not [p for p in tmp_path.iterdir() if p.is_dir() and p.name.startswith(".")]


@pytest.mark.parametrize("source", ["top-tagging", "quark-gluon", "jetclass"])
def test_missing_file_and_folder(tmp_path, source):
    with pytest.raises(DataError, match=r"nowhere\.x: no such file \(split train of source"):
        make(source, tmp_path, tmp_path / "nowhere.x")
    with pytest.raises(DataError, match=r"nofolder: no such folder, expected"):
        make_dataset(source, tmp_path / "out", path=str(tmp_path / "nofolder"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no"):
        make_dataset(source, tmp_path / "out", path=str(tmp_path / "empty"))
    assert_nothing_left(tmp_path)


def test_path_and_files_together_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"give `path` or `files`, not both"):
        make_dataset("top-tagging", tmp_path / "out", path=".", files={"train": ["a.h5"]})


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files(tmp_path, share):
    jets = layouts.toy()
    whole = {
        "top-tagging": (layouts.write_table_format(tmp_path / "a.h5", *layouts.top_tagging_blocks(jets)), "HDF5"),
        "quark-gluon": (layouts.write_quark_gluon(tmp_path / "a.npz", jets), "npz"),
        "jetclass": (layouts.write_jetclass_root(tmp_path / "a.root", layouts.jetclass_columns(jets, "Tbl")), "ROOT"),
    }
    parquet = layouts.write_jetclass_parquet(tmp_path / "a.parquet", layouts.jetclass_columns(jets, "Tbl"))
    for source, file, kind in [*((s, *x) for s, x in whole.items()), ("jetclass", parquet, "Parquet")]:
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))])
        with pytest.raises(DataError, match=rf"{file.name} cannot be read as {kind}, it is truncated or damaged"):
            make(source, tmp_path, file)
        assert_nothing_left(tmp_path)


def test_damage_inside_an_npz(tmp_path):
    file = layouts.write_quark_gluon(tmp_path / "a.npz", layouts.toy())
    data = bytearray(file.read_bytes())
    data[2_000:2_400] = bytes(400)
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz cannot be read as npz"):
        make("quark-gluon", tmp_path, file)
    assert_nothing_left(tmp_path)


def test_wrong_columns(tmp_path):
    jets = layouts.toy()
    floats, integers = layouts.top_tagging_blocks(jets)
    names = [*layouts.FLOATS, *layouts.TRUTH]
    names[4] = "E1"
    with pytest.raises(DataError, match=r"1 of the 806 columns are missing, the first is E_1$"):
        make("top-tagging", tmp_path, layouts.write_fixed_format(tmp_path / "f.h5", floats, integers, names))
    with layouts.h5py.File(tmp_path / "other.h5", "w") as file:
        file["jets"] = floats
    with pytest.raises(DataError, match=r"expected a pandas table under the key 'table' .* found \['jets'\]"):
        make("top-tagging", tmp_path, tmp_path / "other.h5")
    with layouts.h5py.File(tmp_path / "few.h5", "w") as file:
        file["table/table"] = np.zeros(3, [("index", "i8"), ("values_block_0", "f4", (20,))])
    with pytest.raises(DataError, match=r"blocks of \{'values_block_0': 20\} columns, expected 804 floats"):
        make("top-tagging", tmp_path, tmp_path / "few.h5")
    with pytest.raises(DataError, match=r"X has the shape \(40, 3\), expected \(jets, constituents, 4\)"):
        make("quark-gluon", tmp_path, layouts.write_quark_gluon(tmp_path / "q.npz", jets, X=np.zeros((40, 3))))
    np.savez(tmp_path / "k.npz", jets=np.zeros(3))
    with pytest.raises(DataError, match=r"expected the arrays X and y, found jets"):
        make("quark-gluon", tmp_path, tmp_path / "k.npz")
    columns = layouts.jetclass_columns(jets, "Tbl")
    del columns["part_d0val"]
    for write, name in ((layouts.write_jetclass_root, "j.root"), (layouts.write_jetclass_parquet, "j.parquet")):
        with pytest.raises(DataError, match=r"1 of 33 columns are missing, the first is part_d0val"):
            make("jetclass", tmp_path, write(tmp_path / name, columns))
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("write", ["write_table_format", "write_fixed_format"])
def test_energy_last_is_told_apart_from_energy_first(tmp_path, write):
    blocks = layouts.top_tagging_blocks(layouts.toy(), order=("px", "py", "pz", "energy"))
    file = getattr(layouts, write)(tmp_path / "a.h5", *blocks)
    with pytest.raises(
        DataError, match=r"E >= \|p\| holds for .* expected columns E, PX, PY, PZ in this order; the energy seems"
    ):
        make("top-tagging", tmp_path, file)
    assert_nothing_left(tmp_path)


def test_no_order_fits(tmp_path):
    floats, integers = layouts.top_tagging_blocks(layouts.toy())
    floats[:, :800] = np.where(floats[:, :800] != 0, 5.0, 0.0)
    with pytest.raises(DataError, match=r"no order of columns fits"):
        make("top-tagging", tmp_path, layouts.write_table_format(tmp_path / "a.h5", floats, integers))


def test_jets_that_cannot_be_used_are_counted(tmp_path):
    floats, integers = layouts.top_tagging_blocks(layouts.toy(40))
    floats[3, 1] = np.nan
    floats[5, 4] = np.inf
    floats[7, 8] = -floats[7, 8]
    floats[[9, 11, 13], :800] = 0
    dataset = make("top-tagging", tmp_path, layouts.write_table_format(tmp_path / "a.h5", floats, integers))
    assert dataset.manifest.dropped == {"not_finite": 2, "negative_energy": 1, "no_constituents": 3}
    assert sorted(rows(dataset, "train")[3]) == [i for i in range(40) if i not in (3, 5, 7, 9, 11, 13)]


def test_padding_in_the_middle_and_wrong_order_of_constituents_do_not_matter(tmp_path):
    jets = layouts.toy()
    floats, integers = layouts.top_tagging_blocks(jets)
    shuffled = floats[:, :800].reshape(-1, 200, 4)[:, np.random.default_rng(1).permutation(200)].reshape(-1, 800)
    file = layouts.write_table_format(tmp_path / "a.h5", np.column_stack([shuffled, floats[:, 800:]]), integers)
    assert_same_jets(make("top-tagging", tmp_path, file), "train", jets, atol=1e-3)


def test_only_unusable_jets(tmp_path):
    floats, integers = layouts.top_tagging_blocks(layouts.toy(10))
    floats[:] = 0
    with pytest.raises(DataError, match=r"a\.h5: expected jets, found none that can be used \(10 no_constituents\)"):
        make("top-tagging", tmp_path, layouts.write_table_format(tmp_path / "a.h5", floats, integers))
    assert_nothing_left(tmp_path)


def test_object_arrays_are_refused(tmp_path):
    jets = layouts.toy()
    file = layouts.write_quark_gluon(tmp_path / "a.npz", jets, X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"X is an object array, which is never unpickled"):
        make("quark-gluon", tmp_path, file)
    file = layouts.write_quark_gluon(tmp_path / "b.npz", jets, y=np.array([None] * 40))
    with pytest.raises(DataError, match=r"y is an object array"):
        make("quark-gluon", tmp_path, file)
    assert_nothing_left(tmp_path)


def test_wrong_unit_and_wrong_labels(tmp_path):
    floats, integers = layouts.top_tagging_blocks(layouts.toy())
    with pytest.raises(DataError, match=r"median jet pT is .*, expected 300 to 1000 GeV; is the unit GeV\?"):
        make("top-tagging", tmp_path, layouts.write_table_format(tmp_path / "a.h5", floats * 1000, integers))
    with pytest.raises(DataError, match=r"is_signal_new holds \[7\], expected 0 and 1"):
        make("top-tagging", tmp_path, layouts.write_table_format(tmp_path / "b.h5", floats, integers * 0 + 7))
    columns = layouts.jetclass_columns(layouts.toy(), "Tbl")
    columns["label_QCD"][:3] = 1
    with pytest.raises(DataError, match=r"3 jets do not have exactly one of the ten labels set"):
        make("jetclass", tmp_path, layouts.write_jetclass_parquet(tmp_path / "a.parquet", columns))
    assert_nothing_left(tmp_path)


def test_root_file_without_the_tree(tmp_path):
    import uproot

    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"x": np.arange(3)}
    with pytest.raises(DataError, match=r"expected a TTree called 'tree', found Events"):
        make("jetclass", tmp_path, tmp_path / "a.root")


def test_order_check_wants_energy_last():
    p4 = np.random.default_rng(1).normal(size=(50, 3))
    p4_N4 = np.column_stack([p4, np.linalg.norm(p4, axis=1)])
    _files.check_energy(p4_N4, Path("x"), "any")
    with pytest.raises(DataError, match="energy seems to stand where px is expected"):
        _files.check_energy(p4_N4[:, [3, 0, 1, 2]], Path("x"), "any")


def test_jetclass_tar_is_unpacked_once(tmp_path):
    import tarfile

    folder = tmp_path / "in"
    folder.mkdir()
    root = layouts.write_jetclass_root(tmp_path / "HToBB_120.root", layouts.jetclass_columns(layouts.toy(8), "Hbb"))
    with tarfile.open(folder / "JetClass_Pythia_val_5M.tar", "w") as tar:
        tar.add(root, "val_5M/HToBB_120.root")
    for out in ("one", "two"):
        dataset = make_dataset("jetclass", tmp_path / out, path=str(folder))
        assert dataset.num_rows("val") == 8
    tar_file = folder / "JetClass_Pythia_test_20M.tar"
    tar_file.write_bytes((folder / "JetClass_Pythia_val_5M.tar").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"test_20M\.tar cannot be read as tar, it is truncated or damaged"):
        make_dataset("jetclass", tmp_path / "three", path=str(folder))
