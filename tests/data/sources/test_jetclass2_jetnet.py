"""JetClass-II and JetNet: the layouts of the published files, with known jets in them."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.data.sources.jetclass2 import _split_of
from jetsweep.errors import DataError

spec = importlib.util.spec_from_file_location("layouts_of_two", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)


def p4_of(dataset, split):
    table = dataset.to_arrow(split).sort_by("source_row").combine_chunks()
    column = table["constituents"].combine_chunks()
    flat = (column.chunk(0) if hasattr(column, "chunk") else column).flatten()
    return np.column_stack([flat.field(name).to_numpy() for name in ("px", "py", "pz", "energy")]), table


def jetclass2_columns(jets, number):
    columns = layouts.jetclass_columns(jets, "QCD")
    columns = {name: x for name, x in columns.items() if not name.startswith("label_")}
    return columns | {"jet_label": number.astype(np.int32)}


@pytest.mark.parametrize("kind", ["parquet", "root"])
def test_jetclass2_comes_back(tmp_path, kind):
    jets = layouts.toy(30)
    number = np.resize([0, 14, 15, 160, 161, 187], 30)
    write = getattr(layouts, f"write_jetclass_{kind}")
    write(tmp_path / f"Res2P_0210.{kind}", jetclass2_columns(jets, number))
    dataset = make_dataset("jetclass2", tmp_path / "out", path=str(tmp_path))
    assert dataset.splits == ("val",)
    p4, table = p4_of(dataset, "val")
    ordered = jets.sorted_by_pt()
    wanted = np.column_stack([ordered.values[n] for n in ("px", "py", "pz", "energy")])
    np.testing.assert_allclose(p4, wanted, rtol=1e-6)
    names = ["two-prong", "two-prong", "three-four-prong", "three-four-prong", "qcd", "qcd"]
    assert table["label"].to_pylist() == names * 5
    np.testing.assert_array_equal(table["jet_label"].to_numpy(), number)
    by_number = make_dataset("jetclass2", tmp_path / "numbers", path=str(tmp_path), labels="numbers", jets=6)
    assert p4_of(by_number, "val")[1]["label"].to_pylist() == [f"label_{i}" for i in number[:6]]


def test_mistakes_of_jetclass2(tmp_path):
    names = {"Res2P_0199": "train", "Res34P_1074": "val", "QCD_0419": "test"}
    assert {name: _split_of(Path(f"{name}.parquet")) for name in names} == names
    with pytest.raises(DataError, match=r"QCD has the files 0 to 419, found 0420"):
        _split_of(Path("QCD_0420.parquet"))
    with pytest.raises(DataError, match=r"expected a name such as Res2P_0000"):
        _split_of(Path("jets.parquet"))
    columns = jetclass2_columns(layouts.toy(4), np.array([0, 1, 2, 188]))
    file = layouts.write_jetclass_parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=r"jet_label holds \[188\], expected 0 to 187"):
        make_dataset("jetclass2", tmp_path / "out", files={"train": [str(file)]})
    del columns["part_px"]
    layouts.write_jetclass_parquet(file, columns)
    with pytest.raises(DataError, match=r"there is no column 'part_px'"):
        make_dataset("jetclass2", tmp_path / "out", files={"train": [str(file)]})
    with pytest.raises(DataError, match=r"give `path` or `files`"):
        make_dataset("jetclass2", tmp_path / "out")


def write_jetnet(path, rows=40, pt=1000.0):
    rng = np.random.default_rng(3)
    particles = np.zeros((rows, 30, 4), np.float32)
    count = rng.integers(1, 31, rows)
    for row, n in zip(particles, count):
        row[:n, :2] = rng.uniform(-0.3, 0.3, (n, 2))
        row[:n, 2] = np.sort(rng.dirichlet(np.ones(n)))[::-1]
        row[:n, 3] = 1
    jets = np.column_stack([np.full(rows, pt), rng.uniform(-1, 1, rows), np.full(rows, 90.0), count]).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["particle_features"], file["jet_features"] = particles, jets
    return particles, jets


def test_jetnet_comes_back(tmp_path):
    particles, jets = write_jetnet(tmp_path / "t.hdf5")
    write_jetnet(tmp_path / "g.hdf5")
    dataset = make_dataset("jetnet", tmp_path / "out", files={"train": [str(tmp_path / "t.hdf5")]})
    p4, table = p4_of(dataset, "train")
    real = particles[..., 3] > 0
    pt = np.hypot(p4[:, 0], p4[:, 1])
    jet = np.repeat(np.arange(40), real.sum(axis=1))
    np.testing.assert_allclose(pt, (particles[..., 2] * jets[:, :1])[real], rtol=1e-5)
    np.testing.assert_allclose(np.arcsinh(p4[:, 2] / pt) - jets[jet, 1], particles[..., 0][real], atol=1e-5)
    np.testing.assert_allclose(np.arctan2(p4[:, 1], p4[:, 0]), particles[..., 1][real], atol=1e-5)
    np.testing.assert_allclose(table["jet_mass"].to_numpy(), 90.0)
    assert set(table["label"].to_pylist()) == {"t"}

    whole = make_dataset("jetnet", tmp_path / "whole", path=str(tmp_path))
    assert set(whole.splits) <= {"train", "val", "test"}
    counts = [whole.class_counts(split) for split in whole.splits]
    assert {c: sum(x[c] for x in counts) for c in whole.classes} == {"g": 40, "q": 0, "t": 40, "w": 0, "z": 0}


def test_mistakes_of_jetnet(tmp_path):
    write_jetnet(tmp_path / "gluons.hdf5")
    write_jetnet(tmp_path / "q.hdf5", pt=1e6)
    with h5py.File(tmp_path / "z.hdf5", "w") as file:
        file["particle_features"], file["jet_features"] = np.zeros((5, 30, 3)), np.zeros((5, 4))
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        file["particles"] = np.zeros((5, 30, 4))
    for name, message in (
        ("gluons", r"expected a name of JetNet, such as g.hdf5"),
        ("q", r"median jet pT is 1e\+06, expected 200 to 3000 GeV; is the unit GeV\?"),
        ("z", r"particle_features \(5, 30, 3\) .* expected \(N, particles, 4\)"),
        ("w", r"there is no column 'particle_features', did you mean 'particles'\?"),
    ):
        with pytest.raises(DataError, match=message):
            make_dataset("jetnet", tmp_path / "out", files={"train": [str(tmp_path / f"{name}.hdf5")]})
