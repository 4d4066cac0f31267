"""Files read by a Ray Data job: the same dataset as without, mistakes in one sentence, and nothing read twice."""

import contextlib
import importlib.util
from pathlib import Path

import pytest

from jetsweep import conversion
from jetsweep.conversion import convert_on_cluster
from jetsweep.data.make import make_dataset, source_options
from jetsweep.data.sources._base import SOURCES
from jetsweep.data.sources._parts import read_part, write_part
from jetsweep.data.sources.quark_gluon import QuarkGluonSource
from jetsweep.errors import DataError
from jetsweep.testing.atlas import write_atlas_files

spec = importlib.util.spec_from_file_location(
    "conversion_layouts", Path(__file__).parent / "data" / "sources" / "layouts.py"
)
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)

SETS = ("train_nominal", "test_nominal", "esup", "string")


class Shown:
    """Stands for progress: what was shown under which title."""

    def __init__(self):
        self.calls = {}

    def __call__(self, title):
        return contextlib.nullcontext(lambda done, total: self.calls.setdefault(title, []).append((done, total)))


def atlas(folder, **options):
    write_atlas_files(folder, jets=60, sets=SETS, numbers=(0, 1))
    return source_options("atlas-top-tagging", {"path": str(folder), **options})


def quark_gluon(folder):
    folder.mkdir()
    files = [str(layouts.write_quark_gluon(folder / f"{i}.npz", layouts.toy(20 + i, seed=i))) for i in range(3)]
    return source_options("quark-gluon", {"files": {"train": files[:2], "test": files[2:]}})


@pytest.mark.parametrize("kind", ["atlas", "a share of atlas", "quark-gluon"])
def test_slices_read_elsewhere_make_the_same_dataset(tmp_path, monkeypatch, kind):
    """Also where slices of several files are taken in turn, and of files of which a share is read."""
    monkeypatch.setattr(QuarkGluonSource, "slice_rows", 7)
    if kind == "quark-gluon":
        config = quark_gluon(tmp_path / "in")
    else:
        config = atlas(tmp_path / "in", **({"jets": 130} if kind != "atlas" else {}))
    expected = make_dataset(config, tmp_path / "expected")
    maker = SOURCES.get(config.name)(config)
    read = [write_part(tmp_path / str(place), maker.slices(*planned)) for place, planned in enumerate(maker.planned)]
    assert sum(read) == sum(expected.num_rows(split) for split in expected.splits)
    made = make_dataset(config, tmp_path / "made", stored=lambda place: read_part(tmp_path / str(place)))
    assert made.digest == expected.digest
    assert (tmp_path / "made/dataset.json").read_bytes() == (tmp_path / "expected/dataset.json").read_bytes()


def test_what_was_left_out_is_counted_once(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    jets = layouts.toy(20)
    jets.values["pz"][0] = float("nan")
    file = layouts.write_quark_gluon(folder / "a.npz", jets)
    config = source_options("quark-gluon", {"files": {"train": [str(file)]}})
    expected = make_dataset(config, tmp_path / "expected")
    assert sum(expected.manifest.dropped.values()) == 1
    maker = SOURCES.get(config.name)(config)
    assert write_part(tmp_path / "part", maker.slices(*maker.planned[0])) == 20
    made = make_dataset(config, tmp_path / "made", stored=lambda place: read_part(tmp_path / "part"))
    assert made.manifest == expected.manifest


def test_a_part_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield layouts.toy(5)
        raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        write_part(tmp_path / "part", broken())
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_there_stays(tmp_path):
    """A second attempt, where the first one's process died after its last act."""
    assert write_part(tmp_path / "part", [layouts.toy(5)]) == 5
    assert write_part(tmp_path / "part", [layouts.toy(5)]) == 5
    assert [len(jets) for jets in read_part(tmp_path / "part")] == [5]
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_sources_that_read_no_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="source toy: a cluster can only read files, and this source makes its jets"):
        convert_on_cluster(source_options("toy", {"jets": 10}), tmp_path / "made", Shown())


def test_an_existing_folder_is_refused_before_anything_is_read(tmp_path):
    config = atlas(tmp_path / "in")
    (tmp_path / "made").mkdir()
    with pytest.raises(DataError, match="made: expected a folder to make, found one that exists"):
        convert_on_cluster(config, tmp_path / "made", Shown())


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray")  # Ray Data sets its own old options
def test_a_job_makes_the_same_dataset_and_goes_on_after_a_mistake(ray_cluster, tmp_path):
    config, out, shown = atlas(tmp_path / "in"), tmp_path / "made", Shown()
    expected = make_dataset(config, tmp_path / "expected")
    damaged = tmp_path / "in" / "string_001.h5.gz"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:2000])
    with pytest.raises(DataError, match=r"string_001.h5.gz cannot be read as gzip, it is truncated or damaged"):
        convert_on_cluster(config, out, shown)
    assert not out.exists()
    damaged.write_bytes(whole)
    made = convert_on_cluster(config, out, shown)
    assert made.digest == expected.digest
    assert not list(tmp_path.glob(".made*"))
    assert shown.calls["Making made"][-1][0] == 8 * 60


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray")  # Ray Data sets its own old options
def test_only_files_that_were_not_read_are_read(ray_cluster, tmp_path):
    config, shown = atlas(tmp_path / "in"), Shown()
    maker = SOURCES.get(config.name)(config)
    parts = tmp_path / ".made-parts"
    conversion._prepare(parts, maker)
    for place in range(6):
        write_part(parts / conversion._name(place), maker.slices(*maker.planned[place]))
    (parts / ".000006-unfinished").mkdir()
    made = convert_on_cluster(config, tmp_path / "made", shown)
    assert [done for done, _ in shown.calls["Reading 8 files"]] == [60, 120]
    assert made.digest == make_dataset(config, tmp_path / "expected").digest


def test_parts_of_other_options_are_not_taken(tmp_path):
    parts, planned = tmp_path / "parts", atlas(tmp_path / "in")
    conversion._prepare(parts, SOURCES.get(planned.name)(planned))
    (parts / "000000").mkdir()
    conversion._prepare(parts, SOURCES.get(planned.name)(planned))
    assert (parts / "000000").exists()
    other = planned.model_copy(update={"seed": 7})
    conversion._prepare(parts, SOURCES.get(other.name)(other))
    assert not (parts / "000000").exists()
