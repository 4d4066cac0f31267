"""Cheng's test sets and the layouts of VAE-Jet, with known jets in them."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

from jetsweep.data import make_dataset
from jetsweep.errors import DataError

spec = importlib.util.spec_from_file_location("layouts_of_anomalies", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)
P4 = ("px", "py", "pz", "energy")
FLAT = ("energy", "px", "py", "pz")


def flat_rows(jets, extra=None):
    columns = [jets.values[name] for name in FLAT] + ([] if extra is None else [extra])
    flat = np.column_stack(columns)
    return [flat[low:high].ravel() for low, high in zip(jets.offsets[:-1], jets.offsets[1:])]


def write_events(path, events, top="objects", obs=True):
    """`events` is a list of lists of rows, a row per jet."""
    with h5py.File(path, "w") as file:
        shape = (len(events), len(events[0]))
        data = file.create_dataset(f"{top}/jets/constituents", shape, h5py.vlen_dtype(np.float32))
        for i, event in enumerate(events):
            for j, row in enumerate(event):
                data[i, j] = row
        if obs:
            file[f"{top}/jets/obs"] = np.arange(np.prod(shape) * 9, dtype=np.float32).reshape(*shape, 9)
    return path


def write_cheng(path, size=20):
    jets = layouts.toy(2 * size)
    rows = flat_rows(jets, np.arange(jets.offsets[-1]) % 7)
    write_events(path, [rows[2 * i : 2 * i + 2] for i in range(size)])
    return jets


def constituents(dataset, split="test"):
    table = dataset.to_arrow(split).sort_by("source_row").combine_chunks()
    column = table["constituents"].combine_chunks()
    flat = (column.chunk(0) if hasattr(column, "chunk") else column).flatten()
    return flat, table


def p4_of(flat):
    return np.column_stack([flat.field(name).to_numpy() for name in P4])


def wanted_p4(jets, keep):
    ordered = jets.take_jets(keep).sorted_by_pt()
    return np.column_stack([ordered.values[name] for name in P4])


@pytest.mark.parametrize("jet", [1, 2])
def test_cheng_comes_back(tmp_path, jet):
    file = tmp_path / "W_m59_100k_01.h5"
    jets = write_cheng(file)
    dataset = make_dataset("cheng", tmp_path / "out", files={"test": [str(file)]}, jet=jet)
    flat, table = constituents(dataset)
    keep = np.arange(40) % 2 == jet - 1
    np.testing.assert_allclose(p4_of(flat), wanted_p4(jets, keep), rtol=1e-6)
    assert set(table["label"].to_pylist()) == {"w-59"}
    obs = np.arange(360).reshape(20, 2, 9)
    np.testing.assert_array_equal(table["tau1"].to_numpy(), obs[:, jet - 1, 4])
    np.testing.assert_array_equal(table["tau5"].to_numpy(), obs[:, jet - 1, 8])
    # the fifth number stays with its constituent
    by_energy = dict(zip(jets.values["energy"].tolist(), (np.arange(jets.offsets[-1]) % 7).tolist()))
    assert flat.field("extra").to_pylist() == [by_energy[e] for e in flat.field("energy").to_pylist()]


def test_classes_and_splits_of_a_folder_and_the_window(tmp_path):
    for name in ("qcd_dijet.h5", "pt1200_top_100k_01.h5", "top_100k_01.h5"):
        write_cheng(tmp_path / name)
    dataset = make_dataset("cheng", tmp_path / "out", path=str(tmp_path), pt=1200)
    tables = [dataset.to_pandas(split) for split in dataset.splits]
    assert sum(len(t) for t in tables) == 40
    assert set().union(*(t["label"] for t in tables)) == {"qcd", "top-174"}
    assert set().union(*(t["source_file"] for t in tables)) == {"qcd_dijet.h5", "pt1200_top_100k_01.h5"}
    cut = make_dataset("cheng", tmp_path / "cut", path=str(tmp_path), pt=1200, pt_window=(550, 600))
    kept = np.concatenate([cut.to_pandas(split)["jet_pt"] for split in cut.splits])
    everything = np.concatenate([t["jet_pt"] for t in tables])
    assert sorted(kept) == sorted(everything[(everything > 550) & (everything <= 600)])
    assert 0 < len(kept) < 40
    assert cut.manifest.dropped == {"outside_pt_window": 40 - len(kept)}
    rows = {(f, r): pt for t in tables for f, r, pt in zip(t["source_file"], t["source_row"], t["jet_pt"])}
    for t in (cut.to_pandas(split) for split in cut.splits):
        assert [rows[key] for key in zip(t["source_file"], t["source_row"])] == t["jet_pt"].tolist()


def test_mistakes_of_cheng(tmp_path):
    def make(file, **options):
        return make_dataset("cheng", tmp_path / "out", files={"test": [str(file)]}, **options)

    write_cheng(tmp_path / "signal.h5")
    with pytest.raises(DataError, match=r"expected a published name, such as W_m59"):
        make(tmp_path / "signal.h5")
    file = tmp_path / "qcd_dijet.h5"
    jets = write_cheng(file)
    with pytest.raises(DataError, match=r"jet 3 was asked for, the events have 2 jets"):
        make(file, jet=3)
    write_events(file, [[row] for row in flat_rows(jets)])
    with pytest.raises(DataError, match=r"expected a multiple of 5"):
        make(file)
    write_events(file, [[row] for row in flat_rows(jets, np.zeros(jets.offsets[-1]))], obs=False)
    with pytest.raises(DataError, match=r"expected objects/jets/obs of shape \(40, jets, 9\), found none"):
        make(file)
    with h5py.File(file, "w") as damaged:
        damaged["table"] = np.zeros(3)
    with pytest.raises(DataError, match=r"expected objects/jets/constituents, found table"):
        make(file)
    file.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"cannot be read as HDF5"):
        make(file)


def write_vae(path, layout, jets):
    rows = flat_rows(jets)
    if layout == "objs":
        return write_events(path, [[row, rows[0]] for row in flat_rows(jets, np.ones(jets.offsets[-1]))], "objs", False)
    with h5py.File(path, "w") as file:
        if layout == "constituents":
            data = file.create_dataset(layout, len(rows), h5py.vlen_dtype(np.float32))
            for i, row in enumerate(rows):
                data[i] = row
        else:
            file[layout] = layouts.padded(jets, FLAT, 200).reshape(len(jets), -1).astype(np.float32)
        if layout == "jet1":
            file["labels"] = jets.label[:, None]
            file["table"] = np.zeros((3, 8))  # jet1 comes later in the order
    return path


@pytest.mark.parametrize("layout", ["table", "constituents", "jet1", "objs"])
def test_vae_jet_comes_back(tmp_path, layout):
    jets = layouts.toy(30)
    file = write_vae(tmp_path / "a.h5", layout, jets)
    dataset = make_dataset("vae-jet", tmp_path / "out", files={"test": [str(file)]}, signal="top")
    flat, table = constituents(dataset)
    np.testing.assert_allclose(p4_of(flat), wanted_p4(jets, np.ones(30, bool)), rtol=1e-6)
    labels = ["top" if x else "qcd" for x in jets.label] if layout == "jet1" else ["qcd"] * 30
    assert table["label"].to_pylist() == labels
    # an 80-column cut is the reader's business: rows are whole
    assert np.diff(jets.offsets).max() > 20


def test_mistakes_of_vae_jet(tmp_path):
    def make(**datasets):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name, x in datasets.items():
                file[name] = x
        return make_dataset("vae-jet", tmp_path / "out", files={"test": [str(tmp_path / "a.h5")]})

    rows = layouts.padded(layouts.toy(5), FLAT, 200).reshape(5, -1)
    with pytest.raises(DataError, match=r"found jets"):
        make(jets=rows)
    with pytest.raises(DataError, match=r"expected \(jets, 4 \* constituents\)"):
        make(table=rows[:, :799])
    with pytest.raises(DataError, match=r"there are 4 labels for 5 jets"):
        make(jet1=rows, labels=np.zeros(4))
    with pytest.raises(DataError, match=r"labels holds \[2\.0\], expected 0 and 1"):
        make(jet1=rows, labels=np.full(5, 2.0))
    with pytest.raises(DataError, match=r"E >= \|p\| holds for .* expected the numbers E, px, py, pz"):
        make(table=rows.reshape(5, 200, 4)[..., ::-1].reshape(5, -1))
    with pytest.raises(DataError, match=r"files of VAE-Jet are not published"):
        make_dataset("vae-jet", tmp_path / "out")
    with pytest.raises(DataError, match=r"must have different names, found 'qcd' twice"):
        make_dataset("vae-jet", tmp_path / "out", files={"test": ["a.h5"]}, signal="qcd")
