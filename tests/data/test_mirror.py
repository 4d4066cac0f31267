"""Datasets in an object store (S3, served by moto): fetched once per machine, checked, mapped like local ones."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.fs
import pytest
from moto.server import ThreadedMotoServer
from rich.console import Console

from jetsweep import make_dataset
from jetsweep.data import mirror, open_dataset
from jetsweep.data.config import DataConfig, prepare
from jetsweep.data.verify import check_shards
from jetsweep.errors import DataError
from jetsweep.experiment import load_experiment
from jetsweep.sweep import run

TOY = Path(__file__).parents[2] / "search_spaces" / "toy.yaml"


@pytest.fixture(scope="module")
def server():
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    yield "{}:{}".format(*served.get_host_and_port())
    served.stop()


@pytest.fixture
def bucket(server, dataset, tmp_path, monkeypatch):
    """A bucket that holds the dataset by hand: its file system, and the URI of the dataset."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("JETSWEEP_CACHE", str(tmp_path / "cache"))
    options = f"endpoint_override={server}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    name = tmp_path.name.replace("_", "-").lower()
    filesystem, _ = pyarrow.fs.FileSystem.from_uri(f"s3://{name}?{options}")
    filesystem.create_dir(name)
    pyarrow.fs.copy_files(dataset.path, f"{name}/jets", destination_filesystem=filesystem)
    return filesystem, f"s3://{name}/jets?{options}"


def _put(bucket, file, content):
    filesystem, uri = bucket
    with filesystem.open_output_stream(f"{uri.removeprefix('s3://').split('?')[0]}/{file}") as stream:
        stream.write(content)


def _fetched(remote):
    return sorted(path.name for path in remote.local_folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_the_same_batches_as_from_the_folder(bucket, dataset):
    remote = open_dataset(bucket[1])
    assert _fetched(remote) == []
    for here, there in zip(*(d.loader("train", 30, shuffle=True).batches(0) for d in (dataset, remote)), strict=True):
        assert np.array_equal(here.groups["constituents"].values, there.groups["constituents"].values)
        assert np.array_equal(here.targets["label"], there.targets["label"])
    assert _fetched(remote) == ["00000.arrow", "00001.arrow", "00002.arrow"], "only the split that was read"


def test_a_second_reader_asks_for_no_shard(bucket, monkeypatch):
    open_dataset(bucket[1]).reader("train")
    monkeypatch.setattr(mirror, "_fetch", lambda *_: pytest.fail("fetched again"))
    assert open_dataset(bucket[1]).reader("train").num_rows == 120


def test_who_waits_for_another_fetches_nothing(bucket, monkeypatch):
    fetch, fetched = mirror._fetch, []
    monkeypatch.setattr(mirror, "_fetch", lambda *job: (fetched.append(job[2].file), fetch(*job)))
    with ThreadPoolExecutor(4) as threads:
        readers = list(threads.map(lambda uri: open_dataset(uri).reader("train"), [bucket[1]] * 4))
    assert [reader.num_rows for reader in readers] == [120] * 4
    assert sorted(fetched) == [f"train/{i:05}.arrow" for i in range(3)]


def test_progress_counts_jets(bucket, tmp_path):
    shown = []
    prepare(DataConfig(path=bucket[1]), tmp_path, lambda done, total: shown.append((done, total)))
    assert [total for _, total in shown] == [150] * 4
    assert shown[-1] == (150, 150)
    assert shown == sorted(shown)


def test_a_broken_fetch_goes_on_where_it_was(bucket, dataset):
    remote = open_dataset(bucket[1])
    shard = dataset.local_folder / "train/00001.arrow"
    _put(bucket, "train/00001.arrow", shard.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"train/00001\.arrow: shard damaged \(wrong sha256\)"):
        remote.reader("train")
    assert "00001.arrow" not in _fetched(remote)
    assert not [name for name in _fetched(remote) if name.endswith(".part")]
    with pytest.raises(DataError, match="1 of 4 shards are not as made"):
        check_shards(open_dataset(bucket[1]), at_origin=True)
    _put(bucket, "train/00001.arrow", shard.read_bytes())
    assert remote.reader("train").num_rows == 120
    assert check_shards(remote, at_origin=True) == check_shards(remote) == 4


def test_a_shard_that_was_cut_here_is_fetched_again(bucket):
    remote = open_dataset(bucket[1])
    remote.fetch(["train"])
    shard = remote.local_folder / "train/00002.arrow"
    shard.write_bytes(shard.read_bytes()[:100])
    assert remote.reader("train").num_rows == 120


@pytest.mark.parametrize("file", ["../outside.arrow", "/outside.arrow", "train/../../outside.arrow", ""])
def test_a_manifest_cannot_name_files_outside(bucket, dataset, file):
    manifest = json.loads((dataset.local_folder / "dataset.json").read_text())
    manifest["splits"]["train"][0]["file"] = file
    _put(bucket, "dataset.json", json.dumps(manifest).encode())
    with pytest.raises(DataError, match=r"splits\.train\.0\.file: .*expected a path below the dataset folder"):
        open_dataset(bucket[1])


def test_a_missing_shard_is_named(bucket):
    filesystem, uri = bucket
    filesystem.delete_file(f"{uri.removeprefix('s3://').split('?')[0]}/val/00000.arrow")
    with pytest.raises(DataError, match=r"val/00000\.arrow: shard missing; the manifest lists it with 30 rows"):
        open_dataset(uri).reader("val")


def test_a_cache_that_cannot_be_written_is_named(bucket, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JETSWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="shards cannot be kept here: Not a directory; JETSWEEP_CACHE names another"):
        open_dataset(bucket[1]).reader("val")


def test_what_is_derived_is_kept_beside_the_mirror(bucket, dataset):
    remote = open_dataset(bucket[1])
    values = [next(d.loader("val", 30, scalars=("d2",)).batches(0)).scalars["d2"] for d in (dataset, remote)]
    assert np.array_equal(*values, equal_nan=True)
    assert len(list((remote.local_folder / "derived" / "high_level").glob("*.npy"))) == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nowhere://jets/here", "nowhere://jets/here: cannot be opened: Unrecognized filesystem type"),
        ("s3://", "s3://: expected a folder behind the name of the file system, found none"),
        ("s3://me:secret@jets/here", "^s3://…: expected credentials in the environment, found a password in the URI$"),
    ],
)
def test_a_uri_that_leads_nowhere_is_named(uri, message):
    with pytest.raises(DataError, match=message):
        open_dataset(uri)


def test_a_bucket_without_a_dataset_is_named(bucket):
    uri = bucket[1].replace("/jets?", "/none?")
    with pytest.raises(DataError, match=r"expected a dataset folder with dataset\.json, found none"):
        open_dataset(uri)


@pytest.mark.parametrize("place", ["s3://bucket/jets", "gs://bucket/jets", "hdfs:///jets"])
def test_what_is_made_is_made_on_this_machine(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = place.replace(":///", "://")
    with pytest.raises(DataError, match=f"dataset: expected a folder on this machine, found {uri}; make it here"):
        make_dataset("toy", place, jets=10)
    with pytest.raises(DataError, match=f"--data: expected a folder on this machine, found {uri}"):
        run(load_experiment(TOY), runs_root=tmp_path / "runs", data_root=Path(place), console=Console())
    with pytest.raises(DataError, match=f"--runs: expected a folder on this machine, found {uri}"):
        run(load_experiment(TOY), runs_root=Path(place), data_root=tmp_path, console=Console())
    assert list(tmp_path.iterdir()) == []
