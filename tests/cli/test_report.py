"""`jetsweep report`: one page that loads nothing, of a sweep that ended and of one where nothing is complete."""

import csv
import json
import re
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from jetsweep.cli.report import app
from jetsweep.cli.sync import app as sync
from jetsweep.tracking.client import open_client
from jetsweep.tracking.record import read_record
from jetsweep.tracking.sweep_report import write_sweep_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def sweep(toy_sweep, tmp_path):
    """A copy that was never tracked, so that nothing is logged into the shared store."""
    folder = tmp_path / "runs" / "toy"
    shutil.copytree(toy_sweep[0], folder)
    (folder / "mlflow.json").unlink()
    return folder


def test_the_page_of_a_sweep_that_ended(sweep):
    with (sweep / "experiment.yaml").open("a") as file:
        file.write("# <script>alert(1)</script>\n")
    done = CliRunner().invoke(app, ["toy", "--runs", str(sweep.parent)])
    assert done.exit_code == 0, done.output
    assert done.output == f"Written: {sweep}/report/report.html\nNot logged: the sweep was never tracked\n"
    text = (sweep / "report" / "report.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r"https?://|src=.(?!data:)", text)
    assert "4 of 4 trials began (2 complete, 1 pruned, 1 failed)" in text
    assert text.count("<img ") == len(list((sweep / "report").glob("*.png"))) == 3
    with (sweep / "report" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete", "complete", "pruned", "failed"]
    assert not [path for path in sweep.iterdir() if path.name.startswith("report.")]


def test_nothing_is_complete_yet(sweep):
    shutil.rmtree(sweep / "trials" / "00000")
    shutil.rmtree(sweep / "trials" / "00001")
    text = write_sweep_report(sweep).read_text()
    assert text.count("No trial is complete yet, so there is nothing to show here.") == 4
    shutil.rmtree(sweep / "trials")
    assert "No trial has begun yet." in write_sweep_report(sweep).read_text()


def test_a_name_that_does_not_exist(refuse, place):
    assert refuse("report", "tops", "--runs", place) == (
        f"{place}: expected the name of a sweep there or the folder of one, found 'tops'"
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_every_image_and_has_nothing_to_say(sweep, tmp_path):
    text = write_sweep_report(sweep).read_text()
    probe = "<script>onload=()=>{document.title=[...document.images].map(i=>i.naturalWidth).join()}</script></body>"
    probed = text.replace("style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'")
    (tmp_path / "probe.html").write_text(probed.replace("</body>", probe))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *words, "--enable-logging=stderr", "--virtual-time-budget=5000", (tmp_path / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    widths = re.search("<title>(.*)</title>", done.stdout)[1].split(",")
    assert len(widths) == 3
    assert all(int(width) > 300 for width in widths)
    assert "CONSOLE" not in done.stderr


def test_of_several_objectives_the_front_is_shown(sweep):
    wanted = [{"metric": "val/auc", "mode": "max"}, {"metric": "val/loss", "mode": "min"}]
    outcomes = [path for n in (0, 1) if (path := sweep / "trials" / f"{n:05d}" / "outcome.json").exists()]
    for path in (sweep / "experiment.json", *outcomes):
        tree = json.loads(path.read_text())
        tree["search"]["objectives"] = wanted
        path.write_text(json.dumps(tree))
    text = write_sweep_report(sweep).read_text()
    assert "Sought: val/auc as large as possible and val/loss as small as possible." in text
    assert ">Pareto front</h2>" in text
    with (sweep / "report" / "pareto-front.csv").open() as file:
        rows = [(float(row["val/auc"]), float(row["val/loss"]), bool(row["front"])) for row in csv.DictReader(file)]
    assert len(rows) == 2
    for auc, loss, on_front in rows:
        beaten = any(a >= auc and x <= loss and (a, x) != (auc, loss) for a, x, _ in rows)
        assert on_front is not beaten


def test_it_is_logged_to_the_run_of_the_sweep(sweep, toy_sweep, tmp_path):
    shutil.copy(toy_sweep[0] / "mlflow.json", sweep)
    uri = f"sqlite:///{tmp_path}/central.db"
    words = ["toy", "--runs", str(sweep.parent), "--tracking-uri", uri]
    said = CliRunner().invoke(app, words).output
    assert said.endswith(f"Not logged: {uri} has no run of this sweep; jetsweep sync toy delivers all of it\n")
    assert CliRunner().invoke(sync, words).exit_code == 0
    (sweep / "report" / "report.html").unlink()
    assert CliRunner().invoke(app, words).output.endswith(f"Logged to the sweep's run: {uri}\n")
    run_id = read_record(sweep).place(uri)["run_id"]
    logged = {file.path for file in open_client(uri).list_artifacts(run_id, "report")}
    assert logged == {f"report/{path.name}" for path in (sweep / "report").iterdir()}
