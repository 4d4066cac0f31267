"""Prediction files in ROOT: rows come back as written, and a failure leaves nothing."""

import builtins
import json

import numpy as np
import pyarrow as pa
import pytest
import uproot

from jetsweep.errors import DataError
from jetsweep.training.predict import _RootFile


def table(rows, first=0):
    number = np.arange(first, first + rows)
    return pa.table(
        {
            "split": pa.array(["train" if i % 2 else "validation" for i in number]),
            "row": pa.array(number),
            "jet_pt": pa.array(number.astype(np.float32) / 3),
            "score_top": pa.array(number / 7.0),
        }
    )


def test_rows_come_back(tmp_path):
    with _RootFile(tmp_path / "a.root", {"model": "part", "classes": '["qcd", "top"]'}) as file:
        file.write(table(5))
        file.write(table(1, first=5))
    assert [path.name for path in tmp_path.iterdir()] == ["a.root"]
    with uproot.open(tmp_path / "a.root") as stored:
        arrays = stored["jets"].arrays(library="np")
        about = json.loads(stored["jetsweep"])
    whole = table(6)
    for name in ("row", "jet_pt", "score_top"):
        np.testing.assert_array_equal(arrays[name], whole[name].to_numpy())
        assert arrays[name].dtype == whole[name].to_numpy().dtype
    assert arrays["split"].tolist() == whole["split"].to_pylist()
    assert about == {"model": "part", "classes": '["qcd", "top"]'}


def test_a_failure_leaves_the_old_file(tmp_path):
    (tmp_path / "a.root").write_text("before")

    def fill_and_fail():
        with _RootFile(tmp_path / "a.root", {}) as file:
            file.write(table(5))
            raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        fill_and_fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.root"]
    assert (tmp_path / "a.root").read_text() == "before"


def test_without_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **named):
        if name == "uproot":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"a.root: ROOT files need uproot: pip install 'jetsweep\[root\]'"):
        _RootFile(tmp_path / "a.root", {})
