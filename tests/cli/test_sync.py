"""`jetsweep sync` through typer."""

import shutil

import pytest
from typer.testing import CliRunner

from jetsweep.cli.sync import app
from jetsweep.errors import JetsweepError, TrackingError
from jetsweep.tracking import compare_runs


def sync(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"MLFLOW_TRACKING_URI": None})
    if isinstance(result.exception, JetsweepError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def runs(toy_sweep, tmp_path):
    """A folder with one sweep, that tests may change."""
    shutil.copytree(toy_sweep[0], tmp_path / "runs" / "toy")
    return tmp_path / "runs"


def test_into_another_store_once_and_again(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = f"sqlite:///{tmp_path}/central.db"
    assert sync("toy", "--runs", runs, "--tracking-uri", "sqlite:///central.db") == (
        f"toy: 4 runs, 5 epochs delivered → {where}\n"
    )
    assert sync("--runs", runs, "--tracking-uri", where) == f"toy: 4 runs, 0 epochs delivered → {where}\n"
    records = compare_runs(where, (), "tags.`jetsweep.sweep` = 'toy' and tags.`jetsweep.kind` = 'trial'").records
    assert sorted((r.number, r.status) for r in records) == [
        (0, "complete"),
        (1, "complete"),
        (2, "pruned"),
        (3, "failed"),
    ]


def test_a_sweep_stays_where_it_was_tracked(runs, toy_sweep):
    assert sync(runs / "toy") == f"toy: 4 runs, 0 epochs delivered → {toy_sweep[1]['uri']}\n"


def test_what_is_no_sweep_is_refused(runs, tmp_path):
    with pytest.raises(TrackingError, match=r"nothing: expected the folder of a sweep, found no mlflow.json"):
        sync("nothing", "--runs", runs)
    with pytest.raises(TrackingError, match=r"expected sweeps, found none; is --runs right\?"):
        sync("--runs", tmp_path / "elsewhere")


def test_one_that_cannot_be_delivered_does_not_hold_up_the_others(runs, toy_sweep):
    shutil.copytree(runs / "toy", runs / "broken")
    (runs / "broken" / "lineage.json").unlink()
    shown = sync("--runs", runs, code=2)
    assert "broken/lineage.json: expected a result of jetsweep, found no such file" in shown
    assert f"toy: 4 runs, 0 epochs delivered → {toy_sweep[1]['uri']}" in shown
