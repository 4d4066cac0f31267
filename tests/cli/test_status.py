"""`jetsweep status`, `stop`, `resume` and `run --resume/--fresh` as far as they go without Ray."""

import json
import subprocess
import sys

import pytest

from jetsweep.cli.main import main
from jetsweep.experiment import load_experiment
from jetsweep.search.lock import driving
from jetsweep.search.searcher import StudySearcher
from jetsweep.search.study import open_study
from jetsweep.training.history import History

EXPERIMENT = """
name: tops
task: {name: tagging, signal: top}
data: {source: {name: toy, jets: 600, seed: 1}, max_constituents: 16}
model: {name: pfn, phi_sizes: [16, 16], f_sizes: [16]}
training: {epochs: 4, batch_size: 96, optimizer: {name: adamw, lr: {log: [1e-3, 1e-2]}}}
search: {trials: 3, sampler: random, scheduler: none}
resources: {gpus_per_worker: 0}
"""


@pytest.fixture
def runs(tmp_path):
    """A sweep of three trials whose driver died: one complete, one failed, one after two of four epochs."""
    (tmp_path / "tops.yaml").write_text(EXPERIMENT)
    template = load_experiment(tmp_path / "tops.yaml")
    folder = tmp_path / "runs" / "tops"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(template.to_json())
    (folder / "experiment.yaml").write_text(template.to_yaml())
    searcher = StudySearcher(open_study(folder, template.search), template, folder, folder, 3, 1)
    for name in "abc":
        searcher.suggest(name)
        trial = searcher.trials[name]
        trial.folder.mkdir(parents=True)
        (trial.folder / "experiment.json").write_text(trial.experiment.trial_spec().model_dump_json())
    searcher.on_trial_complete("a", {"epoch": 4, "best": '{"val/auc": 0.91}', "final": True, "ended": "budget"})
    searcher.on_trial_complete("b", {"epoch": 1, "final": True, "ended": "error", "error": "no such luck"})
    history = History(searcher.trials["c"].folder / "history.jsonl", 0)
    for epoch in (1, 2):
        history.append({"epoch": epoch, "val/auc": 0.8, "stopped_because": ""})
    return tmp_path / "runs"


def call(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["jetsweep", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        main()
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return exit_.value.code or 0, output.out, output.err


def test_a_sweep_whose_driver_died(runs, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "status", "tops", "--runs", runs)
    assert code == 0
    assert out.startswith(
        "tops: its driver died; 2 of 3 trials ended (1 complete, 1 failed); 1 to go on; "
        "best: trial 0, val/auc = 0.91; go on with: jetsweep resume tops\n"
    )
    assert "2      2/4" in out


def test_a_sweep_that_runs_and_is_stopped(runs, monkeypatch, capsys):
    code = (
        "import pathlib, sys, time; from jetsweep.search.lock import STOP_FILE, driving\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with driving(folder):\n"
        "    print('runs', flush=True)\n"
        "    while not (folder / STOP_FILE).exists(): time.sleep(0.05)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, runs / "tops"], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "runs\n"
    _, out, _ = call(monkeypatch, capsys, "status", "--runs", runs)
    assert out.startswith(f"tops: run by process {driver.pid} on ")
    assert "1 running" in out
    assert call(monkeypatch, capsys, "stop", "tops", "--runs", runs)[:2] == (
        0,
        "tops has ended; go on with: jetsweep resume tops\n",
    )
    driver.communicate()
    assert driver.returncode == 0


def test_a_sweep_that_somebody_runs_is_left_alone(runs, tmp_path, monkeypatch, capsys):
    with driving(runs / "tops"):
        code, out, err = call(monkeypatch, capsys, "run", tmp_path / "tops.yaml", "--runs", runs)
        assert (code, "run by process" in out) == (2, True)
        assert err.endswith("/tops: this sweep is not finished; give --resume or --fresh\n")


def test_an_unfinished_sweep_is_not_passed_over(runs, tmp_path, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "run", tmp_path / "tops.yaml", "--runs", runs)
    assert (code, out.startswith("tops: its driver died; 2 of 3")) == (2, True)
    assert err == f"jetsweep: {runs}/tops: this sweep is not finished; give --resume or --fresh\n"
    words = ["run", tmp_path / "tops.yaml", "--runs", runs, "--resume", "-o", "training.epochs=5"]
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 2
    assert "training.epochs (4 → 5)" in err
    assert "jetsweep resume tops" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "tpos"], "found 'tpos', did you mean 'tops'?"),
        (["resume", "nothing-like-it"], "found 'nothing-like-it'"),
        (["stop", "tops"], "nobody runs this one"),
        (["run", "FILE", "--resume", "-o", "name=other"], "--resume expects a sweep called 'other', found none"),
    ],
)
def test_mistakes(runs, tmp_path, monkeypatch, capsys, words, said):
    words = [str(tmp_path / "tops.yaml") if word == "FILE" else word for word in words]
    code, _, err = call(monkeypatch, capsys, *words, "--runs", runs)
    assert (code, said in err, len(err.splitlines())) == (2, True, 1)


def test_a_damaged_journal(runs, monkeypatch, capsys):
    (runs / "tops" / "study.log").write_text("nonsense\nnonsense\n")
    code, _, err = call(monkeypatch, capsys, "status", "tops", "--runs", runs)
    assert (code, "study.log: expected an Optuna journal" in err) == (2, True)
    assert json.loads((runs / "tops" / "experiment.json").read_text())["name"] == "tops"
