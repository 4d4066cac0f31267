"""`jetsweep data …` through typer."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jetsweep.cli.data import app
from jetsweep.data import open_dataset
from jetsweep.errors import DataError, JetsweepError

layouts_file = Path(__file__).parents[1] / "data" / "sources" / "layouts.py"
spec = importlib.util.spec_from_file_location("source_layouts_cli", layouts_file)
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("JETSWEEP_DATA", str(tmp_path / "data"))


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_source():
    output = run("list")
    for name in ("jetclass", "pythia", "quark-gluon", "top-tagging", "toy"):
        assert name in output
    assert "processes" in output


def test_make_inspect_verify_stats(tmp_path):
    out = tmp_path / "toy"
    assert "train" in run("make", "toy", "--jets", 200, "--seed", 3, "--out", out, "-o", "tracks=true")
    dataset = open_dataset(out)
    assert dataset.manifest.options == {"name": "toy", "jets": 200, "seed": 3, "tracks": True, "truth": False}
    shown = run("inspect", out)
    for expected in ("constituents.d0", "mm", "qcd, top", dataset.digest, '"seed": 3', "synthetic"):
        assert expected in shown
    assert "all 3 shards are as made" in run("verify", out)
    table = dataset.to_pandas("train")
    tops = table[table["label"] == "top"]
    statistics = run("stats", out)
    assert f"{tops['jet_mass'].median():.1f}" in statistics
    assert f" {len(tops)} " in statistics


def test_make_without_out_lands_below_the_data_folder(tmp_path):
    run("make", "toy", "--jets", 50)
    (made,) = [p for p in (tmp_path / "data").iterdir() if p.is_dir()]
    assert made.name.startswith("toy-")
    assert open_dataset(made).num_rows("train") > 20


def test_verify_names_what_is_wrong(tmp_path):
    run("make", "toy", "--jets", 200, "--out", tmp_path / "toy")
    train, val, test = (tmp_path / "toy" / split / "00000.arrow" for split in ("train", "val", "test"))
    data = bytearray(train.read_bytes())
    data[len(data) // 2] ^= 1
    train.write_bytes(data)
    val.unlink()
    test.write_bytes(test.read_bytes()[:-5])
    with pytest.raises(
        DataError, match=r"3 of 3 shards are not as made: train/00000\.arrow has a wrong sha256"
    ) as caught:
        run("verify", tmp_path / "toy")
    assert "val/00000.arrow is missing" in str(caught.value)
    assert "test/00000.arrow has" in str(caught.value)


def test_convert_a_folder_or_single_files(tmp_path):
    jets = layouts.toy(30)
    file = layouts.write_quark_gluon(tmp_path / "QG_jets.npz", jets)
    run("convert", "quark-gluon", tmp_path, "--out", tmp_path / "a", "-o", "masses=zero")
    run("convert", "quark-gluon", f"train={file}", f"test={file}", "--out", tmp_path / "b", "--jets", 40)
    assert open_dataset(tmp_path / "a").num_rows("train") == 30
    assert [open_dataset(tmp_path / "b").num_rows(s) for s in ("train", "test")] == [20, 20]


def test_dropped_jets_are_told(tmp_path):
    floats, integers = layouts.top_tagging_blocks(layouts.toy(30))
    floats[2, 0] = np.nan
    file = layouts.write_table_format(tmp_path / "a.h5", floats, integers)
    assert "left out: 1 jets (not_finite)" in run("convert", "top-tagging", f"train={file}", "--out", tmp_path / "out")
    assert "left out: 1 jets (not_finite)" in run("inspect", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "toys"], r"unknown source 'toys'; .* did you mean 'toy'\?"),
        (["make", "toy", "--jets", "0"], r"source toy: jets: Input should be greater than 0"),
        (["make", "toy", "-o", "colour=red"], r"source toy: colour: .*; options of toy are name, jets, seed, tracks"),
        (["make", "toy", "-o", "tracks"], r"-o tracks: expected key=value"),
        (["convert", "quark-gluon", "a.npz", "b.npz"], r"a\.npz: expected one folder, or files as split=FILE"),
        (["inspect", "nowhere"], r"nowhere: expected a dataset folder with dataset\.json, found none"),
        (["verify", "nowhere"], r"nowhere: expected a dataset folder"),
        (["stats", "nowhere"], r"nowhere: expected a dataset folder"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(JetsweepError, match=message):
        run(*arguments)


def test_an_existing_folder_is_not_overwritten(tmp_path):
    run("make", "toy", "--jets", 50, "--out", tmp_path / "toy")
    before = (tmp_path / "toy" / "dataset.json").read_text()
    with pytest.raises(DataError, match=r"expected a folder to make, found one that exists"):
        run("make", "toy", "--jets", 60, "--out", tmp_path / "toy")
    assert (tmp_path / "toy" / "dataset.json").read_text() == before


def test_importing_the_command_is_light():
    heavy = "['torch', 'numpy', 'pyarrow', 'pydantic', 'rich.table']"
    code = f"import sys, jetsweep.cli.data; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
