"""Small tables with known content, made by hand: no source is needed to test the data plane."""

import numpy as np
import pyarrow as pa
import pytest

from jetsweep.data import Dataset, open_dataset
from jetsweep.data.writer import DatasetWriter

P4 = ("px", "py", "pz", "energy")


def table(rows: int, first: int = 0, classes: tuple[str, ...] = ("qcd", "top")) -> pa.Table:
    """Jet i has i % 7 + 1 constituents; their px is i, their py counts them."""
    number = np.arange(first, first + rows)
    length = number % 7 + 1
    offsets = np.concatenate([[0], np.cumsum(length)])
    px = np.repeat(number, length).astype(np.float32)
    py = np.concatenate([np.arange(n) for n in length] or [np.zeros(0)]).astype(np.float32)
    struct = pa.StructArray.from_arrays([pa.array(x) for x in (px, py, px + 1, px + py + 9)], names=list(P4))
    label = pa.DictionaryArray.from_arrays(pa.array((number % len(classes)).astype(np.int32)), pa.array(classes))
    return pa.table(
        {
            "constituents": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), struct),
            "jet_pt": pa.array(number.astype(np.float32)),
            "label": label,
        }
    )


def writer(out, **options) -> DatasetWriter:
    settings = {
        "source": "by-hand",
        "options": {},
        "classes": ("qcd", "top"),
        "groups": {"constituents": dict.fromkeys(P4, "GeV")},
        "scalars": {"jet_pt": "GeV"},
        "provenance": {},
        "shard_rows": 50,
        "shuffle": False,
    }
    return DatasetWriter(out, **{**settings, **options})


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Dataset:
    """120 training rows in three shards, 30 for validation."""
    out = tmp_path_factory.mktemp("data") / "by-hand"
    with writer(out) as sink:
        for first in range(0, 120, 17):
            sink.write("train", table(min(17, 120 - first), first))
        sink.write("val", table(30))
    return open_dataset(out)


@pytest.fixture(scope="session")
def by_hand():
    """The makers of tables and of writers."""
    return table, writer
