"""`jetsweep predict` through typer, and the files it writes."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from typer.testing import CliRunner

from jetsweep.cli.predict import app
from jetsweep.data import make_dataset, open_dataset
from jetsweep.data.sources.toy import make_toy_jets
from jetsweep.errors import DataError, JetsweepError
from jetsweep.training import predict as predict_module
from jetsweep.training.checkpoint import load_checkpoint
from jetsweep.training.predict import predict_to_file


@pytest.fixture
def data(toy_sweep):
    return next((toy_sweep[0].parents[1] / "data").glob("toy-*/"))


def predict(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def read(path):
    """Columns of a prediction file as numpy arrays, and its metadata."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            rows = file["jets"][:]
            columns = {name: rows[name] for name in rows.dtype.names}
            about = dict(file.attrs)
        return {name: x.astype(str) if x.dtype == object else x for name, x in columns.items()}, about
    if path.suffix == ".root":
        with uproot.open(path) as file:
            columns, about = file["jets"].arrays(library="np"), json.loads(file["jetsweep"])
        about = {f"jetsweep.{name}": text for name, text in about.items()}
        return {name: x.astype(str) if x.dtype == object else x for name, x in columns.items()}, about
    table = pq.read_table(path)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    return {name: table.column(name).to_numpy() for name in table.column_names}, about


@pytest.mark.parametrize("kind", ["parquet", "h5", "root"])
def test_round_trip(toy_sweep, data, tmp_path, kind):
    trial, out = toy_sweep[0] / "trials/00001", tmp_path / f"scores.{kind}"
    shown = predict(trial, data, "-o", out, "--batch-size", 70, "--device", "cpu")
    dataset = open_dataset(data)
    columns, about = read(out)
    total = sum(dataset.num_rows(split) for split in dataset.splits)
    assert shown.strip().endswith(f"{total} jets")
    assert list(tmp_path.iterdir()) == [out]
    assert about["jetsweep.dataset_digest"] == dataset.digest
    assert about["jetsweep.classes"] == '["qcd", "top"]'
    for split in dataset.splits:
        of_split = {name: x[columns["split"] == split] for name, x in columns.items()}
        np.testing.assert_array_equal(of_split["row"], np.arange(dataset.num_rows(split)))
        stored = dataset.to_pandas(split)
        np.testing.assert_array_equal(of_split["label"], stored["label"].astype(str))
        assert set(dataset.manifest.scalars) <= columns.keys()
        for name in dataset.manifest.scalars:
            np.testing.assert_array_equal(of_split[name], stored[name])
            assert of_split[name].dtype == stored[name].dtype
        np.testing.assert_allclose(of_split["score_qcd"] + of_split["score_top"], 1.0, rtol=1e-12)
        if split in ("val", "test"):
            with np.load(trial / f"evaluation/{split}.npz") as arrays:
                np.testing.assert_allclose(of_split["score_top"], arrays["probability"][:, 1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["parquet", "h5", "root"])
def test_scores_find_the_rows_of_converted_files(toy_sweep, tmp_path, kind):
    jets = make_toy_jets(60, np.random.default_rng(5))
    columns = {n: np.split(jets.values[n], jets.offsets[1:-1]) for n in ("px", "py", "pz", "energy")}
    flat = {"flavour": jets.label.astype(np.int64), "number": np.arange(60)}
    pq.write_table(
        pa.table({**{n: [list(v) for v in x] for n, x in columns.items()}, **flat}), tmp_path / "mine.parquet"
    )
    label = {"column": "flavour", "classes": {"qcd": 0, "top": 1}}
    options = {"constituents": {n: n for n in columns}, "jet": {"number": "number"}, "label": label}
    make_dataset("parquet", tmp_path / "data", path=str(tmp_path / "mine.parquet"), **options)
    predict(toy_sweep[0], tmp_path / "data", "-o", tmp_path / f"scores.{kind}", "--device", "cpu")
    scores, _ = read(tmp_path / f"scores.{kind}")
    assert set(scores["source_file"]) == {"mine.parquet"}
    assert sorted(scores["source_row"]) == list(range(60))
    np.testing.assert_array_equal(scores["number"], scores["source_row"])
    np.testing.assert_array_equal(scores["label"] == "top", jets.label[scores["source_row"]] == 1)


def test_one_split_of_a_sweeps_best_model(toy_sweep, data, tmp_path):
    predict(toy_sweep[0], data, "--split", "test", "-o", tmp_path / "a.parquet")
    columns, _ = read(tmp_path / "a.parquet")
    assert set(columns["split"]) == {"test"}


@pytest.mark.parametrize("kind", ["parquet", "h5"])
def test_a_failure_leaves_the_old_file_and_nothing_else(toy_sweep, data, tmp_path, kind, monkeypatch):
    out = tmp_path / f"scores.{kind}"
    out.write_text("before")
    whole = predict_module.predict_batches

    def fails(*arguments, **named):
        batches = whole(*arguments, **named)
        yield next(batches)
        batches.close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predict_module, "predict_batches", fails)
    loaded = load_checkpoint(toy_sweep[0] / "trials/00000")
    with pytest.raises(DataError, match=f"scores.{kind}: cannot be written: No space left on device"):
        predict_to_file(loaded, open_dataset(data), out, batch_size=50)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "before"


def test_mistakes(toy_sweep, data, tmp_path):
    with pytest.raises(DataError, match=r"a.txt: expected a name that ends in .parquet, .h5 or .root, found '.txt'"):
        predict(toy_sweep[0], data, "-o", tmp_path / "a.txt")
    with pytest.raises(DataError, match="expected a dataset folder"):
        predict(toy_sweep[0], tmp_path, "-o", tmp_path / "a.h5")
    with pytest.raises(DataError, match="expected one of the splits"):
        predict(toy_sweep[0], data, "-o", tmp_path / "a.h5", "--split", "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        predict(toy_sweep[0], data, "-o", tmp_path / "file" / "a.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
