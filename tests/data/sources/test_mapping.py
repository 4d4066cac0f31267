"""Files of any layout through a mapping: the same jets from every kind, one sentence for each mistake."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jetsweep.data import make_dataset
from jetsweep.data.sources._expressions import ColumnExpression
from jetsweep.errors import DataError

spec = importlib.util.spec_from_file_location("mapping_layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)

P4 = {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_e"}
LABEL = {"column": "flavour", "classes": {"qcd": 0, "top": [5, 6]}}


def columns_of(jets):
    """Flat and ragged columns with names of a user's own."""
    names = {"part_px": "px", "part_py": "py", "part_pz": "pz", "part_e": "energy", "part_q": "charge"}
    ragged = {ours: jets.values[name] for ours, name in names.items()}
    pt = np.hypot(ragged["part_px"], ragged["part_py"])
    ragged |= {
        "part_pt": pt, "part_eta": np.arcsinh(ragged["part_pz"] / pt),
        "part_phi": np.arctan2(ragged["part_py"], ragged["part_px"]),
    }  # fmt: skip
    flat = {
        "flavour": np.where(jets.label == 1, 5 + np.arange(len(jets)) % 2, 0),
        "is_top": jets.label.astype(np.int32),
        "is_qcd": 1 - jets.label.astype(np.int32),
        "w": np.linspace(0.5, 2, len(jets)),
        "fj_pt": jets.scalars["jet_pt"] + 1,
    }
    return ragged, flat


def write(path, jets, change=lambda ragged, flat: None):
    """A file whose suffix says of what kind."""
    ragged, flat = columns_of(jets)
    change(ragged, flat)
    lists = {name: np.split(x, jets.offsets[1:-1]) for name, x in ragged.items()}
    if path.suffix == ".parquet":
        pq.write_table(pa.table({n: pa.array([list(v) for v in x]) for n, x in lists.items()} | flat), path)
    elif path.suffix == ".root":
        layouts.write_jetclass_root(path, lists | flat)
    else:
        with h5py.File(path, "w") as file:
            for name, x in lists.items():
                padded = np.zeros((len(x), max(map(len, x))))
                for row, values in zip(padded, x):
                    row[: len(values)] = values
                file[name] = padded
            for name, x in flat.items():
                file[name] = x
    return path


def p4_of(dataset, split="train"):
    """Four-vectors (N, 4) and the table, in the order of the file."""
    table = dataset.to_arrow(split).sort_by("source_row").combine_chunks()
    column = table["constituents"].combine_chunks()
    flat = (column.chunk(0) if hasattr(column, "chunk") else column).flatten()
    return np.column_stack([flat.field(name).to_numpy() for name in ("px", "py", "pz", "energy")]), table


def expected(jets):
    jets = jets.sorted_by_pt()
    return np.column_stack([jets.values[name] for name in ("px", "py", "pz", "energy")])


@pytest.mark.parametrize("kind", ["h5", "parquet", "root"])
def test_every_kind_of_file_gives_the_same_jets(tmp_path, kind):
    jets = layouts.toy(30)
    file = write(tmp_path / f"mine.{kind}", jets)
    name = {"h5": "hdf5"}.get(kind, kind)
    dataset = make_dataset(
        name, tmp_path / "out", files={"train": [str(file)]}, constituents={**P4, "charge": "part_q"},
        jet={"jet_pt": "fj_pt"}, label=LABEL, weight="w",
    )  # fmt: skip
    p4, table = p4_of(dataset)
    np.testing.assert_allclose(p4, expected(jets), rtol=1e-6)
    assert table["label"].to_pylist() == [("qcd", "top")[i] for i in jets.label]
    np.testing.assert_allclose(table["weight"].to_numpy(), np.linspace(0.5, 2, 30), rtol=1e-6)
    np.testing.assert_allclose(table["jet_pt"].to_numpy(), jets.scalars["jet_pt"] + 1, rtol=1e-6)
    np.testing.assert_allclose(table["jet_mass"].to_numpy(), jets.scalars["jet_mass"], rtol=1e-3)
    assert dataset.classes == ("qcd", "top")
    assert dataset.has_column("charge", "constituents")
    assert dataset.has_column("weight")


def test_cylindrical_coordinates_in_mev(tmp_path):
    def in_mev(ragged, flat):
        ragged["part_pt"] = ragged["part_pt"] * 1e3
        ragged["part_e"] = ragged["part_e"] * 1e3

    jets = layouts.toy(20)
    file = write(tmp_path / "a.parquet", jets, in_mev)
    mapping = {"pt": "part_pt", "eta": "part_eta", "phi": "part_phi"}
    options = {"files": {"train": [str(file)]}, "label": LABEL}
    for name, more in (("massless", {}), ("energy", {"energy": "part_e"})):
        dataset = make_dataset(
            "parquet", tmp_path / name, constituents=mapping | more, units="MeV", **options
        )  # toy particles are massless
        np.testing.assert_allclose(p4_of(dataset)[0], expected(jets), rtol=1e-4, atol=1e-3)
    with pytest.raises(DataError, match=r"expected 3 to 10000 GeV; with units: GeV; are the momenta in MeV\? then"):
        make_dataset("parquet", tmp_path / "x", constituents=mapping, **options)
    right = write(tmp_path / "b.parquet", jets)
    with pytest.raises(DataError, match=r"with units: MeV; are the momenta in GeV\? then write units: GeV"):
        make_dataset(
            "parquet", tmp_path / "x", constituents=P4, units="MeV", label=LABEL, files={"train": [str(right)]}
        )


def test_rapidity_is_not_pseudorapidity(tmp_path):
    mass = pa.array([[0.139], [0.139]])
    table = {
        "pt": pa.array([[50.0], [60.0]]),
        "y": pa.array([[1.0], [-0.5]]),
        "phi": pa.array([[0.1], [3.0]]),
        "m": mass,
    }
    pq.write_table(pa.table(table | {"l": [0, 1]}), tmp_path / "a.parquet")
    dataset = make_dataset(
        "parquet", tmp_path / "out", files={"train": [str(tmp_path / "a.parquet")]},
        constituents={"pt": "pt", "rapidity": "y", "phi": "phi", "mass": "m"},
        label={"column": "l", "classes": {"a": 0, "b": 1}},
    )  # fmt: skip
    p4 = p4_of(dataset)[0].astype(np.float64)
    np.testing.assert_allclose(np.arctanh(p4[:, 2] / p4[:, 3]), [1.0, -0.5], rtol=1e-6)
    np.testing.assert_allclose(p4[:, 3], np.hypot([50, 60], 0.139) * np.cosh([1.0, -0.5]), rtol=1e-6)


def test_compounds_places_and_valid_flags_of_hdf5(tmp_path):
    jets = layouts.toy(12)
    slots = int(np.diff(jets.offsets).max()) + 2
    x_BPF = layouts.padded(jets, ("px", "py", "pz", "energy"), slots)
    tracks = np.zeros((12, slots), [("valid", "?"), ("pid", "i4")])
    tracks["valid"] = np.arange(slots) < np.diff(jets.offsets)[:, None]
    tracks["pid"] = 211
    x_BPF[~tracks["valid"]] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/PFCands"], file["tracks"] = x_BPF, tracks
        file["jets"] = np.array(list(zip(jets.label, jets.scalars["jet_pt"])), [("label", "i4"), ("pt", "f4")])
    dataset = make_dataset(
        "hdf5", tmp_path / "out", files={"train": [str(tmp_path / "a.h5")]}, valid="tracks:valid",
        constituents={**{n: f"deep/PFCands:{i}" for i, n in enumerate(P4)}, "pdg_id": "tracks:pid"},
        jet={"jet_pt": "jets:pt"}, label={"column": "jets:label", "classes": {"qcd": 0, "top": 1}},
    )  # fmt: skip
    np.testing.assert_allclose(p4_of(dataset)[0], expected(jets), rtol=1e-6)
    assert dataset.has_column("is_charged_hadron", "constituents")  # of the ids


def test_selection_split_and_labels(tmp_path):
    jets = layouts.toy(200)
    file = write(tmp_path / "tt_1.parquet", jets)
    options = {"constituents": P4, "path": str(file)}
    dataset = make_dataset(
        "parquet", tmp_path / "a", select="fj_pt > 600 and abs(jet_eta) < 1.5 and num_constituents >= 2",
        label={"columns": {"qcd": "is_qcd", "top": "is_top == 1"}}, split={"train": 0.5, "test": 0.5}, **options,
    )  # fmt: skip
    keep = (jets.scalars["jet_pt"] + 1 > 600) & (np.abs(jets.scalars["jet_eta"]) < 1.5)
    rows = np.concatenate([dataset.to_pandas(s)["source_row"] for s in ("train", "test")])
    np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(keep))
    assert dataset.manifest.dropped == {"not_selected": int((~keep).sum())}
    assert min(dataset.num_rows("train"), dataset.num_rows("test")) > keep.sum() * 0.25

    by_name = make_dataset(
        "parquet", tmp_path / "b", label={"files": {"qcd": ["qcd_*"], "top": ["tt_*"]}}, split={"train": 1.0}, **options
    )
    assert by_name.class_counts("train") == {"qcd": 0, "top": 200}
    half = make_dataset(
        "parquet", tmp_path / "c", split={"train": 1.0}, **options,
        label={"column": "flavour", "classes": {"qcd": 0, "top": 5}, "others": "drop"},
    )  # fmt: skip
    assert half.manifest.dropped == {"no_class": int(((jets.label == 1) & (np.arange(200) % 2 == 1)).sum())}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constituents": {**P4, "px": "part_pxx"}}, r"there is no column 'part_pxx', did you mean 'part_px'\?"),
        ({"label": {"column": "flavour", "classes": {"qcd": 0, "top": 5}}},
         r"\d+ jets have flavour = 6, which is not in the map \(0, 5\); label.others: drop leaves them out"),
        ({"label": {"column": "flavour"}}, r"`column` and `classes` belong together"),
        ({"label": {}}, r"give one of `column`, `columns` and `files`, found none"),
        ({"label": {"column": "flavour", "classes": {"a": [1, 2], "b": 2}}}, r"the value 2 belongs to two classes"),
        ({"label": {"columns": {"a": "is_qcd", "b": "w > 0"}}}, r"jets belong to several classes"),
        ({"label": {"files": {"a": ["b_*"]}}}, r"fits the patterns of one class in label.files, found none"),
        ({"constituents": {"px": "part_px"}}, r"expected px, py, pz, energy; or pt, phi, .* found px"),
        ({"constituents": {**P4, "pt": "part_pt"}}, r"give px, py, pz, energy or pt, eta, phi, not both"),
        ({"constituents": {**P4, "px": "w"}}, r"w holds one value per jet, expected a list"),
        ({"constituents": {**P4, "px": "part_e", "energy": "part_px"}},
         r"E >= \|p\| holds for .* the energy seems to stand where px is expected"),
        ({"select": "__import__('os')"}, r"the call of __import__ at column 1 is not supported"),
        ({"select": "fj_pt >"}, r"'fj_pt >' is not an expression of columns"),
        ({"select": "fj_ptt > 3"}, r"there is no column 'fj_ptt', did you mean 'fj_pt'"),
        ({"weight": "log(is_top)"}, r"the weight log\(is_top\) is NaN or infinite"),
        ({"split": {"train": 0.5}}, r"expected positive shares that add up to 1"),
        ({"path": None}, r"give `path` or `files`"),
        ({"path": "nowhere"}, r"nowhere: no such file or folder with files that ends in \.parquet or \.pq"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, changes, message):
    file = write(tmp_path / "mine.parquet", layouts.toy(30))
    options = {"path": str(file), "constituents": P4, "label": LABEL} | changes
    with pytest.raises(DataError, match=message):
        make_dataset("parquet", tmp_path / "out", **options)
    assert [x.name for x in tmp_path.iterdir()] == ["mine.parquet"]


def test_trees_that_are_not_there(tmp_path):
    import uproot

    options = {"constituents": P4, "label": LABEL}
    with uproot.recreate(tmp_path / "two.root") as file:
        for name in ("one", "two"):
            file.mktree(name, {"x": "f4"})
    for tree, message in (
        (None, r"expected one TTree, or the option `tree`, found one, two"),
        ("three", r"expected a TTree called 'three', found one, two"),
        ("one", r"there is no column 'part_px'"),
    ):
        with pytest.raises(DataError, match=message):
            make_dataset("root", tmp_path / "out", path=str(tmp_path / "two.root"), tree=tree, **options)
    (tmp_path / "cut.root").write_bytes((tmp_path / "two.root").read_bytes()[:150])
    with pytest.raises(DataError, match=r"cut.root cannot be read as ROOT, it is truncated or damaged"):
        make_dataset("root", tmp_path / "out", path=str(tmp_path / "cut.root"), **options)


def test_expressions():
    columns = {"a": np.array([1.0, 2.0, 3.0]), "b.c": np.array([0, 1, 1])}
    for text, value in (
        ("a > 1 and b.c == 1", [False, True, True]),
        ("(a > 1) & ~(a == 3)", [False, True, False]),
        ("1 < a <= 2 or not b.c", [True, True, False]),
        ("np.abs(-a) ** 2 / 2 - a % 2", [-0.5, 2.0, 3.5]),
    ):
        expression = ColumnExpression(text)
        np.testing.assert_array_equal(expression(columns.__getitem__), value)
    assert ColumnExpression("a + b.c * a").names == ("a", "b.c")
    for text in ("[1, 2]", "a[0]", "(lambda: 1)()", "a if a else a", "a in b", "f'{a}'", "().__class__", "sqrt(a, a)"):
        with pytest.raises(DataError):
            ColumnExpression(text)
