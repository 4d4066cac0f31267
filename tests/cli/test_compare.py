"""`jetsweep compare` through typer."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from jetsweep.cli.compare import app
from jetsweep.errors import JetsweepError, TrackingError


def compare(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "120", "MLFLOW_TRACKING_URI": None})
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_sweep_by_path_by_name_and_by_default(toy_sweep, tmp_path):
    sweep_dir, _ = toy_sweep
    shown = compare(sweep_dir, "--out", tmp_path / "a")
    assert "★ efn" in shown
    assert "pruned" in shown
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        f"compare.{kind}" for kind in ("csv", "json", "html", "tex", "md")
    }
    by_name = compare("toy", "--runs", sweep_dir.parent, "--out", tmp_path / "a")
    assert by_name == shown == compare("--runs", sweep_dir.parent, "--out", tmp_path / "a")


def test_only_the_best(toy_sweep, tmp_path):
    shown = compare(toy_sweep[0], "--best", "--out", tmp_path)
    assert "pruned" not in shown
    assert len((tmp_path / "compare-best.csv").read_text().splitlines()) == 3


def test_runs_and_filters(toy_sweep, tmp_path):
    sweep_dir, kept = toy_sweep
    place = ("--runs", sweep_dir.parent, "--out", tmp_path)
    assert "failed" in compare("--run", kept["run_id"], *place)
    assert "efn" not in compare("--filter", "tags.`jetsweep.model` = 'pfn'", *place)
    assert "★ pfn" in compare("--filter", "tags.`jetsweep.model` = 'pfn'", "--tracking-uri", kept["uri"], *place)


def test_mistakes(toy_sweep, tmp_path):
    with pytest.raises(TrackingError, match=r"nothing: expected the folder of a sweep with trials, found none"):
        compare("nothing", "--runs", tmp_path)
    with pytest.raises(TrackingError, match="expected sweeps with trials, found none"):
        compare("--runs", tmp_path)
    with pytest.raises(TrackingError, match=r"expected either sweeps or --run and --filter, found both \(a\)"):
        compare("a", "--run", "b", "--runs", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="the comparison cannot be written: Not a directory"):
        compare(toy_sweep[0], "--out", tmp_path / "file" / "below")


def test_a_table_of_results_imports_nothing_heavy(toy_sweep, tmp_path):
    code = (
        "import sys\n"
        "from jetsweep.cli.compare import app\n"
        "app(standalone_mode=False)\n"
        "heavy = ('torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'plotly')\n"
        "print('HEAVY', [m for m in heavy if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(toy_sweep[0]), "--out", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "★ efn" in shown
    assert "HEAVY []" in shown
