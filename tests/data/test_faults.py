"""Damaged datasets and full disks: one sentence that names the shard, and nothing half-written."""

import errno
import shutil

import pytest

from jetsweep.data import open_dataset
from jetsweep.errors import DataError


@pytest.fixture
def copy(dataset, tmp_path):
    return shutil.copytree(dataset.path, tmp_path / "copy")


def _read(folder):
    return list(open_dataset(folder).loader("train", 64, prefetch=0).batches(0))


def test_a_missing_shard_is_named(copy):
    (copy / "train/00001.arrow").unlink()
    with pytest.raises(DataError, match=r"train/00001\.arrow"):
        _read(copy)


def test_a_truncated_shard_is_named(copy):
    shard = copy / "train/00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train/00001\.arrow"):
        _read(copy)


def test_a_shard_with_other_rows_is_named(copy):
    shutil.copy(copy / "train/00002.arrow", copy / "train/00001.arrow")
    with pytest.raises(DataError, match=r"train/00001\.arrow: expected 50 rows .* found 20"):
        _read(copy)


def test_an_unknown_split_suggests_the_nearest(dataset):
    with pytest.raises(DataError, match="'train'"):
        dataset.loader("trian", 8)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, by_hand):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    table, writer = by_hand
    monkeypatch.setattr("jetsweep.data.writer.os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        with writer(tmp_path / "out") as sink:
            sink.write("train", table(60))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_leaves_nothing(tmp_path, by_hand):
    table, writer = by_hand

    def fail():
        with writer(tmp_path / "out") as sink:
            sink.write("train", table(60))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_no_jets_at_all_is_an_error(tmp_path, by_hand):
    _, writer = by_hand
    with pytest.raises(DataError, match="gave none"):
        with writer(tmp_path / "out") as sink:
            sink.drop("no constituents", 3)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(dataset, by_hand):
    _, writer = by_hand
    with pytest.raises(DataError, match="exists"):
        with writer(dataset.path):
            raise AssertionError("entered")
