"""One driver for a sweep, also after the death of the last one."""

import json
import os
import subprocess
import sys
import time

import pytest

from jetsweep.errors import SweepBusyError
from jetsweep.search.lock import LOCK_FILE, SILENT_S, STOP_FILE, Driver, ask_to_stop, driving, this_process, who_drives


def test_one_driver_at_a_time(tmp_path):
    assert who_drives(tmp_path) is None
    with driving(tmp_path):
        assert who_drives(tmp_path) == this_process()
        with driving(tmp_path):  # the sweep inside the command
            pass
        assert who_drives(tmp_path) == this_process()
        code = "import sys; from jetsweep.search.lock import driving\nwith driving(sys.argv[1]): pass"
        other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
        assert f"SweepBusyError: {tmp_path}: process {os.getpid()} on" in other.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_driver_that_was_killed_runs_nothing(tmp_path):
    code = (
        "import os, signal, sys; from jetsweep.search.lock import driving\n"
        "with driving(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    assert (tmp_path / LOCK_FILE).exists()
    assert who_drives(tmp_path) is None
    with driving(tmp_path):
        assert who_drives(tmp_path) == this_process()


def test_a_number_of_a_process_is_used_again(tmp_path):
    mine = this_process()
    lock = {"host": mine.host, "pid": mine.pid, "started": "another boot 1"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(lock))
    assert who_drives(tmp_path) is None


def test_a_driver_elsewhere_lives_as_long_as_it_is_heard(tmp_path):
    (tmp_path / LOCK_FILE).write_text(json.dumps({"host": "wn3", "pid": 71, "started": "x"}))
    assert who_drives(tmp_path) == Driver("wn3", 71, "x")
    with pytest.raises(SweepBusyError, match="process 71 on wn3 runs this sweep"), driving(tmp_path):
        pass
    then = time.time() - SILENT_S - 1
    os.utime(tmp_path / LOCK_FILE, (then, then))
    assert who_drives(tmp_path) is None


@pytest.mark.parametrize("content", ["", '{"host": "wn3"', "[]", '{"host": "wn3"}'])
def test_half_a_lock_is_none(tmp_path, content):
    (tmp_path / LOCK_FILE).write_text(content)
    assert who_drives(tmp_path) is None


def test_a_wish_to_stop_is_for_the_driver_that_runs(tmp_path):
    ask_to_stop(tmp_path)
    with driving(tmp_path):
        assert not (tmp_path / STOP_FILE).exists()
        ask_to_stop(tmp_path)
        assert (tmp_path / STOP_FILE).exists()
    assert not (tmp_path / STOP_FILE).exists()
