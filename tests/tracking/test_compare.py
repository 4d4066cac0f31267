"""The comparison table: what is best, how numbers read, and every format it is written in."""

import csv
import io
import json
import math
import re
import shutil
import subprocess

import pytest
from rich.console import Console

from jetsweep.errors import TrackingError
from jetsweep.tracking import best_checkpoint, compare_runs, compare_sweeps
from jetsweep.tracking._formats import tex_escape
from jetsweep.tracking.compare import WIDTH, ordered, with_uncertainty
from jetsweep.tracking.results import TrialRecord, read_trial


def record(number, model, status="complete", auc=0.98, sweep="tops", **given):
    metrics = {"val/auc": auc}
    if status == "complete":
        metrics |= {"test/accuracy": 0.93, "test/auc": auc - 0.001}
        for efficiency, value, error in ((0.3, 1234.5, 187.2), (0.5, 386.12, 22.4), (0.8, 36.4, 0.61)):
            metrics |= {
                f"test/rejection_at_{efficiency:g}": value,
                f"test/rejection_at_{efficiency:g}_error": error,
            }
    values = {"parameters": 2_143_486, "seconds": 3725.0, "inference_us": 1234.0, "inference_batch": 1000}
    values["single_jet_us"] = 12_340.0
    values |= {"device": "cpu, 2 threads", "selection": auc, "metrics": metrics, "params": {"lr": 0.001}, **given}
    return TrialRecord(sweep, number, status, model, **values)


RECORDS = [
    record(0, "pfn", auc=0.97, parameters=82_000, seconds=125.0, inference_us=8.25, single_jet_us=412.3),
    record(1, "part", auc=0.985),
    record(2, "part", "pruned", auc=0.999),
    record(3, "part", auc=0.981),
    record(4, "efn", "failed", selection=-math.inf, metrics={}, parameters=0, seconds=math.nan, inference_us=math.nan),
]

GOLDEN = """\
Comparison

 model   trial  parameters  accuracy       AUC   1/εB @ 0.3  1/εB @ 0.5  1/εB @ 0.8  training  inference  one jet
 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 ★ part      1   2,143,486    0.9300    0.9840  1,230 ± 190    386 ± 22  36.4 ± 0.6    62 min   1,234 µs  12.3 ms
   part      3   2,143,486    0.9300    0.9800  1,230 ± 190    386 ± 22  36.4 ± 0.6    62 min   1,234 µs  12.3 ms
 ★ pfn       0      82,000    0.9300    0.9690  1,230 ± 190    386 ± 22  36.4 ± 0.6   2.1 min     8.2 µs   412 µs
   part      2   2,143,486    pruned  (0.9990)                                         62 min
   efn       4           —    failed                                                        —

Test split; ★ best of its model by its sweep's first objective; in brackets: validation AUC of a trial that did not end;
1/εB at signal efficiency εS with binomial uncertainty; inference time per jet, and of one jet alone (cpu, 2 threads,
batches of 1,000).
"""


def printed(comparison, width=WIDTH):
    console = Console(file=io.StringIO(), width=width)
    comparison.print(console)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def test_the_table_in_a_terminal():
    shown = printed(ordered(RECORDS))
    assert shown == GOLDEN


@pytest.mark.parametrize("width", [40, WIDTH, 200])
def test_no_cell_is_cut_and_the_table_fits_its_width(width):
    widest = [
        record(i, "particlenet", sweep=f"a-rather-long-name-of-a-sweep-{i}", parameters=12_143_486, seconds=719_999.0)
        for i in (7, 12)
    ]
    for name in list(widest[0].metrics):
        if "rejection" in name:
            widest[0].metrics[name] = 11.2 if name.endswith("error") else 1012.3
    shown = printed(ordered(widest), width)
    assert max(len(line) for line in shown.splitlines()) <= max(WIDTH, width)
    assert "…" not in shown
    assert "B:7  12,143,486" in shown
    assert "200.0 h" in shown
    assert shown.count("1,012 ± 11") == 3
    assert "A: a-rather-long-name-of-a-sweep-12; B: a-rather-long-name-of-a-sweep-7;" in shown.replace("\n", " ")


def test_a_pruned_trial_is_never_best():
    comparison = ordered(RECORDS)
    assert {model: r.number for model, r in comparison.best.items()} == {"part": 1, "pfn": 0}
    assert comparison.winner == RECORDS[1]
    assert [r.number for r in comparison.best_only().records] == [1, 0]
    assert ordered(RECORDS[2:3]).winner is None


def test_a_loss_is_best_when_it_is_small():
    losses = [record(0, "pfn", selection=-0.3), record(1, "pfn", selection=-0.2)]
    assert ordered(losses).winner.number == 1


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (386.12, 22.4, "386 ± 22"),
        (1234.5, 187.2, "1,230 ± 190"),
        (36.4, 0.61, "36.4 ± 0.6"),
        (36.4, 0.354, "36.40 ± 0.35"),
        (36.4, 0.355, "36.4 ± 0.4"),
        (0.827, 0.119, "0.83 ± 0.12"),
        (0.827, 0.367, "0.8 ± 0.4"),
        (827.3, 119.0, "830 ± 120"),
        (827.3, 951.0, "800 ± 1,000"),
        (14.674, 0.964, "14.7 ± 1.0"),
        (500.0, math.inf, "> 500"),
        (1.0, 0.0, "1.0"),
        (math.nan, math.nan, "—"),
    ],
)
def test_numbers_show_what_their_uncertainty_supports(value, error, text):
    assert with_uncertainty(value, error) == text


@pytest.fixture
def written(tmp_path):
    records = [*RECORDS, record(5, "we|ird_<b>&50%~^\\{#$}", auc=0.5, metrics={"test/rejection_at_0.3": 40.0,
                "test/rejection_at_0.3_error": math.inf})]  # fmt: skip
    paths = ordered(records).write(tmp_path / "out")
    assert [path.name for path in paths] == [f"compare.{kind}" for kind in ("csv", "json", "html", "tex", "md")]
    return {path.suffix[1:]: path.read_text() for path in paths}


def test_csv_and_json_hold_every_number(written):
    rows = list(csv.DictReader(io.StringIO(written["csv"])))
    assert len(rows) == 6
    assert rows[0] | {"trial": "1", "test/auc": "0.984", "param:lr": "0.001", "status": "complete"} == rows[0]
    assert float(rows[0]["test/rejection_at_0.3_error"]) == 187.2

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    content = json.loads(written["json"], parse_constant=refuse)
    assert [(r["number"], r["best"]) for r in content] == [
        (1, True), (3, False), (0, True), (5, True), (2, False), (4, False)
    ]  # fmt: skip
    assert content[0]["metrics"]["test/auc"] == 0.984
    assert content[5]["seconds"] is None


def test_markdown_has_one_cell_for_every_column(written):
    lines = written["md"].splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 8
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(table[0].split(" | ")) + 1}
    assert "| ★ part | 1 | 2,143,486 | 0.9300 | 0.9840 | 1,230 ± 190 |" in written["md"]


def test_html_escapes(written):
    assert "we|ird_&lt;b&gt;&amp;50%" in written["html"]
    assert written["html"].count("<tr") == 7
    assert written["html"].count('<tr class="best">') == 3


def test_tex_escapes():
    assert tex_escape("> 40_a% ★ — 3 µs") == r"$>$ 40\_a\% $\star$ -- 3 $\mu$s"
    assert tex_escape("\\{}") == r"\textbackslash{}\{\}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_tex_compiles(written, tmp_path):
    document = (
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{booktabs}\n"
        "\\begin{document}\n\\scriptsize\n" + written["tex"] + "\\end{document}\n"
    )
    (tmp_path / "a.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_folder_and_mlflow_tell_the_same(toy_sweep):
    sweep_dir, kept = toy_sweep
    comparison = compare_sweeps([sweep_dir])
    assert [(r.number, r.status) for r in comparison.records if r.status != "complete"] == [
        (2, "pruned"),
        (3, "failed"),
    ]
    assert comparison.records[0].params["model"] == comparison.records[0].model
    from_mlflow = compare_runs(kept["uri"], [kept["run_id"]])
    assert printed(from_mlflow) == printed(comparison)
    some = compare_runs(kept["uri"], filter="tags.`jetsweep.model` = 'pfn' and attributes.status = 'FINISHED'")
    assert [(r.model, r.number) for r in some.records] == [("pfn", 0)]
    both = compare_runs(kept["uri"], [kept["run_id"]], "tags.`jetsweep.model` = 'pfn'")
    assert len(both.records) == 4


def test_runs_that_are_not_there(toy_sweep):
    uri = toy_sweep[1]["uri"]
    with pytest.raises(TrackingError, match="run 0123: cannot be read: "):
        compare_runs(uri, ["0123"])
    with pytest.raises(TrackingError, match=r"filter metrics\.x > 3: expected runs of jetsweep, none matches"):
        compare_runs(uri, filter="metrics.x > 3")
    with pytest.raises(TrackingError, match="filter nonsense: MLflow refuses it: "):
        compare_runs(uri, filter="nonsense")


def test_a_run_that_jetsweep_did_not_make(tmp_path):
    from jetsweep.tracking.client import open_client

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = open_client(uri).create_run("0")
    with pytest.raises(TrackingError, match="expected a sweep or trial of jetsweep, found another run"):
        compare_runs(uri, [run.info.run_id])


def test_a_folder_that_is_no_sweep(tmp_path):
    with pytest.raises(TrackingError, match="expected the folder of a sweep with trials, found none"):
        compare_sweeps([tmp_path])
    (tmp_path / "trials" / "00000").mkdir(parents=True)
    with pytest.raises(TrackingError, match="expected trials, found none that began"):
        compare_sweeps([tmp_path])


def test_trials_that_run_still_and_damaged_results(tmp_path, toy_sweep):
    folder = tmp_path / "sweep" / "trials" / "00007"
    shutil.copytree(toy_sweep[0] / "trials/00000", folder)
    (folder / "outcome.json").unlink()
    assert read_trial(folder).status == "complete"  # a trial by `train` alone, without a sweep
    (folder / "result.json").rename(folder / "kept")
    assert read_trial(folder).status == "unfinished"
    assert read_trial(folder).number == 7
    (folder / "result.json").write_text('{"stopped_because": "bud')
    with pytest.raises(TrackingError, match=r"result.json: expected JSON, it cannot be read"):
        read_trial(folder)
    (folder / "result.json").write_text('{"stopped_because": "budget", "best": {}}')
    with pytest.raises(TrackingError, match="the key 'parameters' is not there"):
        read_trial(folder)


def test_the_best_checkpoint_of_a_sweep(toy_sweep, tmp_path):
    sweep_dir, _ = toy_sweep
    number = compare_sweeps([sweep_dir]).winner.number
    assert best_checkpoint(sweep_dir) == sweep_dir / f"trials/0000{number}/checkpoints/best"
    assert best_checkpoint(tmp_path) == tmp_path
    shutil.copytree(sweep_dir / "trials/00003", tmp_path / "trials/00003")
    with pytest.raises(TrackingError, match="expected a sweep with a complete trial, found none"):
        best_checkpoint(tmp_path)


@pytest.mark.parametrize("monitor", [{"metric": "epoch", "mode": "max"}, {"metric": "val/auc", "mode": "max"}])
def test_trials_are_judged_by_the_first_objective_whatever_chose_their_epoch(tmp_path, monitor):
    objectives = [{"metric": "val/jsd", "mode": "min"}, {"metric": "val/auc", "mode": "max"}]
    for number, jsd in enumerate((0.5, 0.1, 0.3)):
        folder = tmp_path / "sweep" / "trials" / f"{number:05d}"
        folder.mkdir(parents=True)
        experiment = {"task": {"name": "anomaly"}, "model": {"name": "vae"}, "training": {"monitor": monitor}}
        best = {"epoch": 15, "val/jsd": jsd, "val/auc": 0.6 + jsd}
        result = {"best": best, "test": {}, "parameters": 10, "seconds": 1.0, "stopped_because": "budget"}
        outcome = {"status": "COMPLETE", "stopped_because": "budget", "search": {"objectives": objectives}}
        for name, content in (("experiment", experiment), ("result", result), ("outcome", outcome)):
            (folder / f"{name}.json").write_text(json.dumps(content))
    comparison = compare_sweeps([tmp_path / "sweep"])
    assert [record.number for record in comparison.records] == [1, 2, 0]
    assert (comparison.winner.number, comparison.winner.selected_by) == (1, "val/jsd")


def test_models_are_told_apart_where_they_differ():
    pfns = [record(i, "pfn", variant={"features": x}) for i, x in enumerate(("kin", "kinpidplus", "kin"))]
    parts = [record(3 + i, "part", variant={"features": "kin", "version": i + 1}) for i in range(2)]
    alone = record(5, "lundnet", variant={"features": "lund3"})
    comparison = ordered([*pfns, *parts, alone])
    names = {r.number: r.model for r in comparison.records}
    assert names == {
        0: "pfn kin",
        1: "pfn kinpidplus",
        2: "pfn kin",
        3: "part version=1",
        4: "part version=2",
        5: "lundnet",
    }
    assert len(comparison.best) == 5
    assert [r.model for r in comparison.best_only().records] == [r.model for r in comparison.best.values()]


FRONT = [
    record(0, "pfn", auc=0.97, losses=(-0.97, 0.2)),
    record(1, "part", auc=0.985, losses=(-0.985, 0.3)),
    record(2, "part", auc=0.98, losses=(-0.98, 0.31)),
    record(3, "part", "pruned", auc=0.999),
    record(4, "part", auc=0.99, losses=(-0.99, 0.1), violated=("parameters < 1e6",)),
]


def test_members_of_the_front_are_marked_and_what_a_constraint_rules_out_is_not_best():
    comparison = ordered(FRONT)
    marks = {r.number: mark for r, mark in zip(comparison.records, comparison.marks)}
    assert marks == {1: "◆", 2: "", 0: "◆", 4: "✗", 3: ""}
    assert [r.number for r in comparison.records] == [1, 2, 0, 4, 3]
    assert comparison.winner.number == 1
    assert "◆ on the front of its sweep's objectives; ✗ outside a constraint; " in comparison.note
    cells = comparison.rows()
    assert cells[0][0] == "◆ part"
    assert cells[3][0] == "✗ part"
    assert cells[3][4] == "0.9890"


def test_every_format_knows_the_front(tmp_path):
    csv_path, json_path, _, tex_path, _ = ordered(FRONT).write(tmp_path)
    marks = {int(row["trial"]): row["mark"] for row in csv.DictReader(io.StringIO(csv_path.read_text()))}
    assert marks == {0: "front", 1: "front", 2: "", 3: "", 4: "violates"}
    rows = {row["number"]: row for row in json.loads(json_path.read_text())}
    assert [number for number, row in rows.items() if row["front"]] == [1, 0]
    assert rows[4]["violated"] == ["parameters < 1e6"]
    assert r"$\diamond$ part" in tex_path.read_text()


def test_fronts_of_two_sweeps_are_apart():
    two = ordered([*FRONT, record(0, "efn", auc=0.9, sweep="more", losses=(-0.9, 0.5))])
    assert {(r.sweep, r.number) for r in two.front} == {("tops", 0), ("tops", 1), ("more", 0)}


def test_a_trial_knows_its_objectives_and_violations_from_its_folder(toy_sweep, tmp_path):
    folder, _ = toy_sweep
    copy = shutil.copytree(folder / "trials" / "00000", tmp_path / "trials" / "00000")
    read = read_trial(copy)
    assert read.losses == (-read.metrics["val/auc"],)
    assert read.violated == ()
    outcome = json.loads((copy / "outcome.json").read_text())
    outcome["search"]["constraints"] = ["parameters < 10", "val/auc > 0"]
    (copy / "outcome.json").write_text(json.dumps(outcome))
    assert read_trial(copy).violated == ("parameters < 10",)
    assert not read_trial(copy).counts


def test_columns_are_those_of_the_task():
    metrics = {
        "test/worst_signal_auc": 0.7,
        "test/mass_jsd_at_0.1": 0.0312,
        "test/auc": 0.9,
        "val/worst_signal_auc": 0.71,
    }
    vae = TrialRecord("sweep", 0, "complete", "vae", metrics=metrics, task="anomaly")
    early = TrialRecord("sweep", 1, "pruned", "vae", metrics=metrics, task="anomaly")
    table = ordered([vae, early])
    assert table.columns[3:9] == ("worst AUC", "worst SIC", "reported AUC", "reported SIC", "JSD @ 0.1", "dCorr")
    assert table.rows()[0][3:9] == ["0.7000", "—", "—", "—", "0.0312", "—"]
    assert table.rows()[1][3:5] == ["(0.7100)", "pruned"]
    assert "JSD of the background's mass" in table.note
    assert "1/εB" not in table.note
    both = ordered([vae, TrialRecord("sweep", 2, "complete", "pfn", metrics=metrics)])
    assert both.columns[3:5] == ("worst AUC", "worst SIC")
    assert both.columns[9:11] == ("accuracy", "AUC")
