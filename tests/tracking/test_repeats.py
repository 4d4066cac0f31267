"""The table of repeated configurations, read from folders as trials leave them."""

# ruff: noqa: E501 (a table)

import csv
import io
import json
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jetsweep.cli.compare import app
from jetsweep.errors import TrackingError
from jetsweep.search.repeats import Repeat, write_repeat
from jetsweep.tracking.compare import compare_sweeps
from jetsweep.tracking.repeats import read_repeats

SPEC = {
    "seed": 7,
    "task": {"name": "tagging"},
    "model": {"name": "pfn"},
    "training": {"monitor": {"metric": "val/auc", "mode": "max"}},
}
SEARCH = {"objectives": [{"metric": "val/auc", "mode": "max"}], "constraints": ["parameters < 100"]}


def write_run(folder, auc, because="budget", rejection=100.0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(SPEC))
    (folder / "outcome.json").write_text(json.dumps({"stopped_because": because, "search": SEARCH}))
    result = {
        "best": {"val/auc": auc},
        "test": {"test/auc": auc, "test/accuracy": 0.9, "test/rejection_at_0.5": rejection},
        "parameters": 50,
        "seconds": 3.0,
        "timing": {"inference_us_per_jet": 20.0},
    }
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "tops"
    write_run(folder / "trials" / "00000", 0.97)
    aucs = [0.9612, 0.9655, 0.9631, 0.9648, 0.9702]
    for i, auc in enumerate(aucs):
        run = folder / "repeats" / f"{i + 10:05d}"
        write_repeat(run, Repeat(4, i, 100 + i, None))
        write_run(run, auc, rejection=math.inf if i == 4 else 100.0 + i)
    for i in range(2):
        run = folder / "repeats" / f"{i + 15:05d}"
        write_repeat(run, Repeat(2, i, 100 + i, None))
        write_run(run, 0.95 + i, "budget" if i == 0 else "diverged")
    return folder


def test_rows(sweep):
    table = read_repeats(sweep)
    assert table.rows() == [
        ["pfn", "4", "50", "5 of 5", "median (interval)", "0.9000 (0.9000–0.9000)", "0.9648 (0.9612–0.9702)", "—", "102.0 (100.0–∞)", "—", "20.00 (20.00–20.00)", "—"],
        ["", "", "", "", "mean ± std", "0.9000 ± 0", "0.9650 ± 0.0034", "—", "—", "—", "20.0000 ± 0", "—"],
        ["pfn", "2", "50", "1 of 2", "median (interval)", "0.9000 (0.9000–0.9000)", "0.9500 (0.9500–0.9500)", "—", "100.0 (100.0–100.0)", "—", "20.00 (20.00–20.00)", "—"],
        ["", "", "", "", "mean ± std", "0.9000 ± —", "0.9500 ± —", "—", "100.0000 ± —", "—", "20.0000 ± —", "—"],
    ]  # fmt: skip
    assert "holds it with 0% or 67%" in table.note


def test_a_trial_counts_where_all_were_repeated(sweep):
    table = read_repeats(sweep)
    assert table.chosen
    assert "is not among them" in table.note
    (sweep / "trials" / "00000").rename(sweep / "trials" / "00004")  # now only the fourth was there to choose from
    table = read_repeats(sweep)
    assert not table.chosen
    assert [len(repeated.complete) for repeated in table.configurations] == [6, 1]
    assert table.configurations[0].seeds[0] == 7
    assert "the sweep's own run is among them" in table.note


def test_files(sweep):
    paths = read_repeats(sweep).write(sweep)
    assert [path.name for path in paths] == ["repeats.csv", "repeats.json", "repeats.md"]
    rows = {(row["trial"], row["metric"]): row for row in csv.DictReader(io.StringIO(paths[0].read_text()))}
    assert float(rows["4", "test/auc"]["median"]) == 0.9648
    assert float(rows["4", "val/auc"]["coverage"]) == pytest.approx(4 / 6)
    assert rows["2", "test/auc"]["runs"] == "1"
    first = json.loads(paths[1].read_text())[0]
    assert [run["seed"] for run in first["runs"]] == [100, 101, 102, 103, 104]
    assert first["metrics"]["test/rejection_at_0.5"]["mean"] is None
    assert first["metrics"]["test/auc"]["values"] == [0.9612, 0.9655, 0.9631, 0.9648, 0.9702]
    assert paths[2].read_text().startswith("| model | trial | parameters | runs |  | accuracy | AUC |")


def test_printed_whole_on_a_narrow_terminal(sweep):
    console = Console(file=io.StringIO(), width=40)
    read_repeats(sweep).print(console)
    printed = console.file.getvalue()
    assert "0.9648 (0.9612–0.9702)" in printed
    assert "…" not in printed


def test_repetitions_are_no_trials(sweep):
    assert [record.number for record in compare_sweeps([sweep]).records] == [0]


def test_none_and_damage(sweep, tmp_path):
    assert read_repeats(tmp_path) is None
    (sweep / "repeats" / "00010" / "repeat.json").write_text("{}")
    with pytest.raises(
        TrackingError, match=r"00010/repeat\.json: expected what a run repeats, the key 'origin' is not"
    ):
        read_repeats(sweep)


def test_compare_prints_and_writes_them(sweep, tmp_path):
    done = CliRunner().invoke(app, [str(sweep), "--out", str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "Repeats" in done.output
    assert "0.9648 (0.9612–0.9702)" in done.output
    assert {path.suffix for path in (tmp_path / "out").glob("repeats.*")} == {".csv", ".json", ".md"}
