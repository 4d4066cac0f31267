"""`jetsweep run` refuses in one sentence what no trial could train on; nothing is left behind."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from jetsweep.data.writer import DatasetWriter
from jetsweep.sweep import outcome_is_useful, why_no_result

P4 = ("px", "py", "pz", "energy")
BOTH, QCD = [0, 1] * 20, [0] * 40


def dataset(folder, **labels):
    """A dataset of three-constituent jets with the given labels in each split."""
    groups = {"constituents": dict.fromkeys(P4, "GeV")}
    with DatasetWriter(
        folder, source="by-hand", options={}, classes=("qcd", "top"), groups=groups, scalars={}, provenance={}
    ) as sink:
        for split, label in labels.items():
            offsets = pa.array(np.arange(0, 3 * len(label) + 1, 3, dtype=np.int32))
            values = [pa.array(np.full(3 * len(label), x, np.float32)) for x in (3.0, 4.0, 0.0, 5.0)]
            jets = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(values, names=list(P4)))
            name = pa.DictionaryArray.from_arrays(pa.array(label, pa.int32()), pa.array(["qcd", "top"]))
            sink.write(split, pa.table({"constituents": jets, "label": name}))
    return folder


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": BOTH, "val": QCD}, "the split 'val': expected jets of 'top' and of 'qcd', found 40 qcd, 0 top"),
        ({"train": QCD, "val": BOTH}, "the split 'train': expected jets of 'top' and of 'qcd', found 40 qcd, 0 top"),
        ({"train": BOTH, "val": BOTH, "test": QCD}, "the split 'test': expected jets of 'top' and of 'qcd'"),
        ({"train": BOTH, "val": []}, "the split 'val' is empty"),
        ({"train": BOTH}, "expected one of the splits ['train'], found 'val'"),
    ],
)
def test_splits_that_cannot_serve(tmp_path, splits, message):
    data = dataset(tmp_path / "by-hand", **splits)
    command = [sys.executable, "-m", "jetsweep.cli.main", "run", "toy.yaml", "-o", f"data={{path: {data}}}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"jetsweep: {data}: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["by-hand"]


def test_a_sweep_without_a_result_is_no_success():
    trials = tuple(SimpleNamespace(number=i, error=error) for i, error in enumerate([None, "the disk is full", "x"]))
    failed = SimpleNamespace(status="FINISHED", trials=trials, best=None)
    assert not outcome_is_useful(failed)
    assert why_no_result(failed) == "No trial of 3 trained to its end; trial 1: the disk is full"
    assert outcome_is_useful(SimpleNamespace(status="FINISHED", trials=trials, best=trials[0]))
    assert not outcome_is_useful(SimpleNamespace(status="STOPPED", trials=trials, best=trials[0]))
