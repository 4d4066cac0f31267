"""One process at a time in a trial's folder."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from jetsweep.errors import JetsweepError
from jetsweep.training import ownership, train
from jetsweep.training.ownership import Owner, owned

HOLD = """
import sys
from pathlib import Path
from jetsweep.training.ownership import owned
with owned(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command, pipe = [sys.executable, "-c", HOLD, str(tmp_path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def found(folder):
    return Owner(**json.loads((folder / "owner.json").read_text()))


def leave(folder, owner, age_s=0.0):
    path = folder / "owner.json"
    path.write_text(json.dumps(asdict(owner)))
    stamp = path.stat().st_mtime - age_s
    os.utime(path, (stamp, stamp))


def test_the_file_names_the_owner_and_goes_with_it(tmp_path):
    with owned(tmp_path) as mine:
        assert found(tmp_path).pid == os.getpid()
        mine.require()
    assert not (tmp_path / "owner.json").exists()


def test_a_living_owner_is_named(tmp_path, holder):
    with pytest.raises(JetsweepError, match=rf"process {holder.pid} on .* still trains in this folder after 0.3 s"):
        with owned(tmp_path, wait_s=0.3):
            pass
    assert found(tmp_path).pid == holder.pid


def test_an_owner_that_ends_while_another_waits(tmp_path, holder):
    holder.stdin.close()  # it ends in its own time
    with owned(tmp_path):
        assert found(tmp_path).pid == os.getpid()


def test_a_killed_owner_is_replaced_although_its_parent_has_not_noticed(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    with owned(tmp_path, wait_s=0.0):
        assert found(tmp_path).pid == os.getpid()


def test_the_same_process_cannot_own_it_twice(tmp_path):
    with owned(tmp_path), pytest.raises(JetsweepError, match="still trains"), owned(tmp_path, wait_s=0.0):
        pass
    with owned(tmp_path, wait_s=0.0):
        pass


def test_a_process_number_used_again_is_not_the_owner(tmp_path):
    with owned(tmp_path):
        mine = found(tmp_path)
    leave(tmp_path, replace(mine, started=mine.started - 1))
    with owned(tmp_path, wait_s=0.0):
        pass


def test_an_owner_elsewhere_lives_as_long_as_it_touches_the_file(tmp_path, monkeypatch):
    elsewhere = Owner("gpu17", 1, 1, "another boot", "token")
    leave(tmp_path, elsewhere, age_s=30.0)
    monkeypatch.setattr(ownership, "_claim_patiently", lambda path, me, wait_s: ownership._claim(path, me))
    assert ownership._alive(elsewhere, tmp_path / "owner.json")
    leave(tmp_path, elsewhere, age_s=61.0)
    assert not ownership._alive(elsewhere, tmp_path / "owner.json")
    with owned(tmp_path):
        assert found(tmp_path).pid == os.getpid()
    assert not list(tmp_path.glob("*owner.json.*now*"))


def test_a_damaged_file_is_no_owner(tmp_path):
    (tmp_path / "owner.json").write_text("{")
    with owned(tmp_path, wait_s=0.0):
        assert found(tmp_path).pid == os.getpid()


def test_heartbeats_touch_the_file_and_notice_a_takeover(tmp_path, make_spec, data_root):
    with owned(tmp_path) as mine:
        path = tmp_path / "owner.json"
        os.utime(path, (0, 0))
        mine.touch()
        assert path.stat().st_mtime > 0
        leave(tmp_path, replace(mine.owner, host="gpu17", token="other"))
        mine.touch()
        with pytest.raises(JetsweepError, match="on gpu17 has taken this folder over"):
            mine.require()
    assert found(tmp_path).token == "other"


def test_a_trial_whose_folder_was_taken_over_writes_no_more(tmp_path, make_spec, data_root, monkeypatch):
    monkeypatch.setattr(ownership, "SILENCE_S", -1.0)  # looks at the file every time

    def report(metrics, checkpoint):
        leave(tmp_path, replace(found(tmp_path), host="gpu17", token="other"))
        return False

    with pytest.raises(JetsweepError, match="on gpu17 has taken this folder over"):
        train(make_spec(), tmp_path, data_root, report)
    assert not (tmp_path / "result.json").exists()


def _count_alone(folder, entered):
    with owned(folder):
        entered.put(("in", os.getpid()))
        entered.put(("out", os.getpid()))


def test_many_processes_enter_one_after_the_other(tmp_path, processes):
    entered = processes.SimpleQueue()
    four = [processes.Process(target=_count_alone, args=(tmp_path, entered)) for _ in range(4)]
    for process in four:
        process.start()
    seen = [entered.get() for _ in range(8)]
    for process in four:
        process.join()
    assert [what for what, _ in seen] == ["in", "out"] * 4
    assert all(a == b for (_, a), (_, b) in zip(seen[::2], seen[1::2]))
