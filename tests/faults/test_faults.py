"""Each fault once, with real processes; `make faults` runs the whole matrix."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

WORKERS = {"worker": 2, "controller": 2, "node": 2}
"""A trial of one worker is its own process, which starts in a few seconds."""


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("jetsweep_fault_matrix", Path(__file__).parent / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "fault", ["worker", "controller", "trial", "driver", "ctrl-c", "sigterm", "disk", "server", "node"]
)
def test_a_sweep_that_is_hurt_ends_as_if_it_had_not_been(matrix, tmp_path, fault):
    workers = WORKERS.get(fault, 1)
    hurt, wrong = matrix.run_hurt(
        tmp_path / fault, fault, 0, 4 if workers == 1 else 2, workers, away_s=10.0, full_s=8.0
    )
    assert wrong == [], (tmp_path / fault / "log.txt").read_text()
    if fault in ("driver", "ctrl-c", "sigterm"):
        assert hurt.resumed >= 1
    if fault == "ctrl-c":
        log = (tmp_path / fault / "log.txt").read_text()
        assert f"Go on with: jetsweep resume hurt --runs {hurt.runs}" in log.replace("\n", "")
