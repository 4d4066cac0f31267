"""`jetsweep evaluate --systematics` on synthetic files in the layout of the ATLAS open data, and on varied toy jets."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from jetsweep.cli.evaluate import app
from jetsweep.data import make_dataset, open_dataset
from jetsweep.errors import DataError, JetsweepError
from jetsweep.testing.atlas import write_atlas_files

DETECTOR = ("esup", "esdown", "cer", "cpos", "teg", "tej", "tfl", "tfj", "bias")
MODELS = ("ttbar_pythia", "ttbar_herwig", "cluster", "string", "angular", "dipole")
GROUPS = {"cluster", "track", "signal_model", "background_model", "scale", "total"}


def made(folder, sets, jets=500, **options):
    write_atlas_files(folder / "in", jets=jets, sets=("test_nominal", *sets), compress=False, **options)
    make_dataset("atlas-top-tagging", folder / "data", path=str(folder / "in"))
    return folder / "data"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return made(tmp_path_factory.mktemp("atlas"), (*DETECTOR, *MODELS))


def evaluate(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def run(toy_sweep, data, out):
    trial = toy_sweep[0] / "trials/00000"
    shown = evaluate(trial, "--data", data, "--out", out, "--device", "cpu", "--systematics", "--replicas", 10)
    return shown, json.loads((out / "systematics.json").read_text())


def test_table_json_csv_and_figures(toy_sweep, whole, tmp_path):
    shown, written = run(toy_sweep, whole, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    inclusive = written["bins"][0]
    assert inclusive["pt"] == "inclusive"
    assert inclusive["rejection"] == pytest.approx(metrics["test/rejection_at_0.5"], rel=1e-9)
    assert inclusive.keys() >= GROUPS
    assert all(inclusive[name] > 0 for name in GROUPS)
    parts = [inclusive[name] for name in GROUPS - {"total"}]
    assert written["resilience"] == inclusive["total"] == pytest.approx(np.linalg.norm(parts))
    assert written["left_out"] == {}
    assert written["shared_events"] == dict.fromkeys(DETECTOR, 1.0)
    assert written["dataset_digest"] == open_dataset(whole).digest
    pt = open_dataset(whole).to_arrow("test")["jet_pt"].to_numpy()
    assert [row["jets"] for row in written["bins"][1:]] == np.histogram(pt, np.linspace(350, 3150, 15))[0].tolist()
    with (tmp_path / "systematics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pt"] for row in rows] == [row["pt"] for row in written["bins"]]
    assert float(rows[0]["total"]) == inclusive["total"]
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"systematics-{n}.{s}" for n in ("rejection", "uncertainty") for s in ("png", "pdf")} <= names
    assert "signal model" in shown
    assert f"{inclusive['rejection']:.4g}" in shown
    assert "Not in the total" not in shown


def test_a_shift_of_the_energies_is_seen_and_an_unvaried_copy_is_not(toy_sweep, tmp_path):
    cluster = {}
    for name, scale in (("copy", 1.0), ("shifted", 1.01)):
        scales = {"esup": scale, "esdown": 1.0, "cer": 1.0, "cpos": 1.0}
        data = made(tmp_path / name, tuple(scales), jets=2000, scales=scales)
        shown, written = run(toy_sweep, data, tmp_path / name / "out")
        cluster[name] = [row[key] or 0 for row in written["bins"] for key in ("cluster", "cluster_error")]
        assert written["bins"][0]["cluster"] is not None
    assert not any(cluster["copy"])
    assert any(cluster["shifted"])
    assert written["left_out"].keys() == {"track", "signal_model", "background_model"}
    assert "Not in the total: track (no samples teg, tej, tfl, tfj, bias)" in shown


def test_variations_that_the_source_made(toy_sweep, tmp_path):
    data = tmp_path / "data"
    made = make_dataset("toy", data, jets=6000, tracks=True, variations={"neutral_scale": 0.3, "charged_resolution": 0})
    shown, written = run(toy_sweep, data, tmp_path / "out")
    assert written["scheme"] == "variations of toy jets"
    assert "(variations of toy jets)" in shown
    inclusive = written["bins"][0]
    groups = ("energy_scale", "resolution", "efficiency")
    assert all(inclusive[name] > 0 for name in groups)
    assert written["resilience"] == pytest.approx(np.linalg.norm([inclusive[name] for name in groups]))
    assert [row["pt"] for row in written["bins"][1:]] == ["550-575", "575-600", "600-625", "625-650"]
    assert written["left_out"] == {}
    paired = [name.removeprefix("syst/") for name in made.splits if name.startswith("syst/")]
    assert written["shared_events"] == dict.fromkeys(paired, 1.0)
    assert "charged_resolution" not in paired


def test_a_manifest_that_states_no_scheme(toy_sweep, tmp_path):
    make_dataset("toy", tmp_path / "data", jets=100, tracks=True, variations=True)
    file = tmp_path / "data" / "dataset.json"
    content = json.loads(file.read_text())
    content["provenance"]["systematics"]["groups"][0]["kind"] = "guessed"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"provenance.systematics.groups.0.kind: Input should be 'experimental' or"):
        run(toy_sweep, tmp_path / "data", tmp_path / "out")


def test_a_figure_of_several_taggers(toy_sweep, tmp_path):
    from jetsweep.cli.compare import app as compare

    def call(*folders):
        options = [x for folder in folders for x in ("--systematics", str(folder))]
        result = CliRunner().invoke(compare, [str(toy_sweep[0]), "--out", str(tmp_path / "out"), *options])
        if isinstance(result.exception, JetsweepError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    row = {"rejection": 50.0, "rejection_error": 2.0, "total": 0.3, "total_error": 0.05}
    about = {"scheme": "a", "signal_efficiency": 0.5, "dataset_digest": "0"}
    variants = {
        "pfn": {"model": "pfn", "bins": [row], **about},
        "efn": {"model": "efn", "bins": [row | {"rejection": 20.0, "total": 0.2}], **about},
        "other": {"model": "efn", "bins": [row], **about, "dataset_digest": "1"},
        "nothing": {"model": "efn", "bins": [row | {"total": None}], **about},
        "empty": {},
    }
    for name, content in variants.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "systematics.json").write_text(json.dumps(content))
    assert "systematics-comparison.{png,pdf}" in call(tmp_path / "pfn", tmp_path / "efn").replace("\n", "")
    assert {path.suffix for path in (tmp_path / "out").glob("systematics-comparison.*")} == {".png", ".pdf"}
    with pytest.raises(JetsweepError, match="expected the dataset_digest '0' as in the others, found '1'"):
        call(tmp_path / "pfn", tmp_path / "other")
    with pytest.raises(JetsweepError, match="could not be measured; take more jets"):
        call(tmp_path / "nothing")
    with pytest.raises(JetsweepError, match="expected a result of evaluate --systematics"):
        call(tmp_path / "empty")


def test_mistakes(toy_sweep, whole, tmp_path):
    with pytest.raises(DataError, match="'cluster': the sample 'esdown' is missing, expected all of esup, esdown, cer"):
        run(toy_sweep, made(tmp_path / "part", ("esup", "cer"), jets=100), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    toy = next((toy_sweep[0].parents[1] / "data").glob("toy-*/"))
    with pytest.raises(DataError, match="systematic uncertainties need the column 'event_number'"):
        run(toy_sweep, toy, tmp_path / "out")
    folder = tmp_path / "strange"
    write_atlas_files(folder / "in", jets=100, sets=("test_nominal",), compress=False)
    write_atlas_files(folder / "in", jets=100, sets=("esup", "esdown", "cer", "cpos"), numbers=(7,), compress=False)
    make_dataset("atlas-top-tagging", folder / "data", path=str(folder / "in"))
    with pytest.raises(DataError, match="the varied sample 'esup' and the nominal one have no event number in common"):
        run(toy_sweep, folder / "data", tmp_path / "out")
