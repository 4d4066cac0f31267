"""Files and datasets that cannot be used: one sentence that says why, exit code 2, nothing half-written.

The sentences of the sources and of the reader one by one are in tests/data; here they come through the command line.
Empty splits and one class only: tests/cli/test_run.py.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jetsweep.data import make_dataset

layouts_file = Path(__file__).parents[1] / "data" / "sources" / "layouts.py"
spec = importlib.util.spec_from_file_location("source_layouts_bad_input", layouts_file)
layouts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)

JETS = 40
SOURCES = {  # file, what it is called, task and classes of an experiment
    "top-tagging": ("a.h5", "HDF5", "signal=top"),
    "quark-gluon": ("a.npz", "npz", "signal=quark"),
    "jetclass": ("a.root", "ROOT", "signal=null"),
    "jetclass in Parquet": ("a.parquet", "Parquet", "signal=null"),
}


def write(name, path, damage=lambda jets: None):
    """A small file of jets in the layout of a source, after `damage` has worked on the jets."""
    jets = layouts.toy(JETS)
    damage(jets)
    if name == "top-tagging":
        return layouts.write_table_format(path, *layouts.top_tagging_blocks(jets))
    if name == "quark-gluon":
        return layouts.write_quark_gluon(path, jets)
    columns = layouts.jetclass_columns(jets, "Tbl")
    return (layouts.write_jetclass_root if path.suffix == ".root" else layouts.write_jetclass_parquet)(path, columns)


@pytest.fixture(params=SOURCES)
def source(request, place):
    """Name of a source, a good file of it, the word for its format, and the override that suits its classes."""
    file, kind, task = SOURCES[request.param]
    return request.param.split()[0], write(request.param, place / file), kind, f"task.{task}"


@pytest.fixture
def refuse_both(refuse, no_ray, place):
    """Refused by `data convert`, and with the same words by `run`, which would make its data from the file."""

    def call(name, file, task):
        sentence = refuse("data", "convert", name, f"train={file}", "--out", "out")
        data = f"data={{source: {{name: {name}, files: {{train: [{file}]}}}}}}"
        assert refuse("run", "toy.yaml", "-o", data, "-o", task) == sentence
        return sentence

    return call


def test_no_file(source, refuse_both):
    name, file, _, task = source
    file.unlink()
    assert refuse_both(name, file, task) == f"{file}: no such file (split train of source {name})"


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_a_file_that_ends_early(source, refuse_both, share):
    name, file, kind, task = source
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    told = f"{file} cannot be read as {kind}, it is truncated or damaged ({file.stat().st_size} bytes; "
    assert refuse_both(name, file, task).startswith(told)


def test_a_file_of_something_else(source, refuse_both):
    name, file, kind, task = source
    file.write_text("jet,pt,mass\n" * 40)
    assert refuse_both(name, file, task).startswith(f"{file} cannot be read as {kind}, it is truncated or damaged")


def test_no_folder(refuse):
    for name in ("top-tagging", "quark-gluon", "jetclass"):
        assert refuse("data", "convert", name, "nowhere").startswith("nowhere: no such folder, expected the ")


def test_wrong_columns(place, refuse):
    jets = layouts.toy(JETS)
    floats, integers = layouts.top_tagging_blocks(jets)
    columns = layouts.jetclass_columns(jets, "Tbl")
    flat = columns | {"part_px": np.ones(JETS, np.float32)}
    del columns["part_d0val"]
    names = [*layouts.FLOATS[:7], "PZ1", *layouts.FLOATS[8:], *layouts.TRUTH]
    np.savez(place / "other.npz", jets=np.zeros(3))
    np.savez(place / "words.npz", X=np.full((3, 2, 4), "a"), y=np.zeros(3))
    np.savez(place / "labels.npz", X=np.zeros((3, 2, 4)), y=np.array([0.0, np.nan, 2.0]))
    layouts.write_jetclass_parquet(place / "flat.parquet", flat)
    layouts.write_jetclass_root(place / "flat.root", flat)
    layouts.write_jetclass_root(place / "few.root", columns)
    layouts.write_fixed_format(place / "few.h5", floats, integers, names)
    is_flat = "part_px holds one value per jet, expected a list of its particles' values"
    for name, file, told in (
        ("top-tagging", "few.h5", "1 of the 806 columns are missing, the first is PZ_1"),
        ("quark-gluon", "other.npz", "expected the arrays X and y, found jets"),
        ("quark-gluon", "words.npz", "X holds <U1, expected numbers"),
        ("quark-gluon", "labels.npz", "y holds [0.0, 2.0, nan], expected 0 and 1"),
        ("jetclass", "few.root", "1 of 33 columns are missing, the first is part_d0val"),
        ("jetclass", "flat.root", is_flat),
        ("jetclass", "flat.parquet", is_flat),
    ):
        assert refuse("data", "convert", name, f"train={file}", "--out", "out") == f"{file}: {told}"


def not_a_number(jets):
    jets.values["energy"][:] = np.nan


def negative(jets):
    for column in ("px", "py", "pz", "energy"):
        jets.values[column] *= -1


def nothing(jets):
    for column, values in jets.values.items():
        jets.values[column] = values[:0]
    jets.offsets = np.zeros_like(jets.offsets)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("quark-gluon", nothing),  # stores no energies, see below
        *((name, damage) for name in SOURCES for damage in (not_a_number, negative, nothing) if name != "quark-gluon"),
    ],
)
def test_no_jet_that_can_be_used(place, refuse, name, damage):
    """Jets with NaN or negative energies and jets without constituents are left out and counted by every source.

    Neither is a jet that a network could learn from: an empty one has no axis, and no pT to divide by. Files hold a few
    of them, so the others are kept (below); a file of nothing else is refused.
    """
    file = write(name, place / SOURCES[name][0], damage)
    sentence = refuse("data", "convert", name.split()[0], f"train={file}", "--out", "out")
    assert sentence.startswith(f"{file}: ")
    if damage is negative:  # the order of the columns is doubted before single jets are
        assert "E >= |p| holds for 0% of the constituents only, expected " in sentence
    else:
        reason = "not_finite" if damage is not_a_number else "no_constituents"
        assert sentence.endswith(f": expected jets, found none that can be used ({JETS} {reason})")


@pytest.mark.parametrize(("pt", "reason"), [(np.nan, "not_finite"), (-1.0, "negative_energy")])
def test_quark_gluon_jets_of_nan_or_negative_pt(place, refuse, pt, reason):
    with np.load(write("quark-gluon", place / "a.npz")) as file:
        stored, label = file["X"], file["y"]
    stored[..., 0] *= pt
    np.savez(place / "b.npz", X=stored, y=label)
    sentence = refuse("data", "convert", "quark-gluon", "train=b.npz", "--out", "out")
    assert sentence == f"b.npz: expected jets, found none that can be used ({JETS} {reason})"


def test_impact_parameters_that_are_nan_are_no_input_either(place, refuse):
    def damage(jets):
        jets.values["d0"][:] = np.nan

    file = write("jetclass", place / "a.root", damage)
    sentence = refuse("data", "convert", "jetclass", f"train={file}", "--out", "out")
    assert sentence.endswith(f"found none that can be used ({JETS} not_finite)")


# datasets


def flip(folder):
    """Change one bit in the middle of a shard: it can still be read."""
    shard = folder / "test/00000.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def cut(folder):
    shard = folder / "test/00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-50])


def edit(**changes):
    def damage(folder):
        file = folder / "dataset.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return damage


def cut_manifest(folder):
    file = folder / "dataset.json"
    file.write_text(file.read_text()[:300])


def other_columns(folder):
    file = folder / "dataset.json"
    file.write_text(file.read_text().replace('"jet_mass"', '"jet_sdmass"'))


DAMAGE = [
    (flip, ": 1 of {} shards are not as made: test/00000.arrow has a wrong sha256"),
    (cut, ": 1 of {} shards are not as made: test/00000.arrow has "),
    (
        lambda folder: (folder / "test/00000.arrow").unlink(),
        ": 1 of {} shards are not as made: test/00000.arrow is ",
    ),
    (lambda folder: (folder / "dataset.json").unlink(), ": expected a dataset folder with dataset.json, found none"),
    (lambda folder: (folder / "dataset.json").write_bytes(b"\xff\x00"), "/dataset.json: the file: Invalid JSON: "),
    (cut_manifest, "/dataset.json: the file: Invalid JSON: EOF while parsing "),
    (edit(splits={}), "/dataset.json: expected at least one split, found none"),
    (edit(schema_version=9), "/dataset.json: expected schema version 1, found 9"),
    (edit(rows=3), "/dataset.json: rows: Extra inputs are not permitted; it is not a manifest of jetsweep"),
    (
        edit(classes=["qcd", "w"]),
        ".arrow: expected labels of the classes ['qcd', 'w'] as in the manifest, found ['qcd'",
    ),
    (other_columns, ".arrow: expected the column 'jet_sdmass' as in the manifest, found constituents, jet_pt, "),
]
NAMES = ["bit", "end", "shard", "manifest", "binary", "half", "splits", "version", "key", "classes", "columns"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_dataset("toy", tmp_path_factory.mktemp("made") / "toy", jets=200).path


@pytest.fixture(scope="module")
def checkpoint(sweeps, tmp_path_factory):
    """A network that has learned nothing yet."""
    from jetsweep.models._jet_model import build_jet_model
    from jetsweep.training.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("model")
    trial = sweeps.draw(sweeps.make_template(folder), 0)[1].trial_spec()
    model = build_jet_model(trial.model, 2, trial.data.max_constituents)
    save_checkpoint(folder / "best", model.state_dict(), {}, trial, ("qcd", "top"))
    return folder / "best"


@pytest.mark.parametrize(("damage", "told"), DAMAGE, ids=NAMES)
def test_a_damaged_dataset_is_refused_by_all_who_read_it(place, refuse, no_ray, made, checkpoint, damage, told):
    data = Path(shutil.copytree(made, place / "data"))
    damage(data)
    for shards, arguments in (
        (3, ("data", "verify", data)),
        (1, ("evaluate", checkpoint, "--data", data, "-o", "out")),
        (3, ("predict", checkpoint, data, "-o", "out.parquet")),
        (3, ("run", "toy.yaml", "-o", f"data={{path: {data}}}")),
    ):
        if arguments[0] == "run" and damage is DAMAGE[9][0]:  # the experiment itself names a class that is gone
            continue
        sentence = refuse(*arguments)
        assert sentence.startswith(str(data))
        assert told.format(shards) in sentence


def test_a_dataset_without_what_the_network_reads(refuse, no_ray, made):
    wants = ("-o", "model={name: pfn, features: full}")
    sentence = refuse("run", "toy.yaml", "-o", f"data={{path: {made}}}", *wants)
    assert sentence == f"{made}: expected column 'charge' among the group 'constituents', found px, py, pz, energy"


# disks


@pytest.mark.parametrize("verb", ["make", "convert"])
def test_a_full_disk(place, refuse, small_disk, verb):
    disk = small_disk(128)
    file = write("top-tagging", place / "a.h5")
    what = ("make", "toy", "--jets", 2000) if verb == "make" else ("convert", "top-tagging", f"train={file}")
    (disk / "ballast").write_bytes(bytes(100 * 1024))
    sentence = refuse("data", *what, "--out", disk / "toy")
    assert sentence == f"{disk}/toy: cannot be written: No space left on device; nothing was kept"
    assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_files_that_cannot_grow(place, refuse, no_ray, small_files):
    with small_files(32):
        sentence = refuse("data", "make", "toy", "--jets", 2000, "--out", "toy")
        assert sentence == "toy: cannot be written: File too large; nothing was kept"
        sentence = refuse("run", "toy.yaml", "--data", place / "data")
    assert sentence.startswith(f"{place}/data/toy-")
    assert sentence.endswith(": cannot be written: File too large; nothing was kept")


def test_folders_that_cannot_be_made(place, refuse, no_ray):
    (place / "file").write_text("")
    sentence = refuse("data", "make", "toy", "--jets", 50, "--out", "file/x/toy")
    assert sentence == "file/x/toy: cannot be written: Not a directory"
    sentence = refuse("run", "toy.yaml", "--data", "file/x")
    assert sentence.startswith(f"{place}/file/x/toy-")
    assert sentence.endswith(": cannot be written: Not a directory")
