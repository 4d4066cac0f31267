"""A full disk is waited for, and a stop is heard meanwhile."""

import contextlib
import errno
import json
import logging
import os
import subprocess

import pytest
import torch

from jetsweep.errors import JetsweepError
from jetsweep.training import disk, train
from jetsweep.training.checkpoint import read_state, read_weights
from jetsweep.training.disk import DiskFull, PatientDisk, disk_wait_s
from jetsweep.training.history import History, read_history


class Disk:
    """Lets writing fail for lack of room while `full`."""

    def __init__(self, monkeypatch):
        self.full, self.refused, self.freed_after, self.fsync = False, 0, None, os.fsync
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, descriptor):
        if self.refused == self.freed_after:
            self.full = False
        if self.full:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(descriptor)


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr(disk, "_RETRY_S", 0.0)
    monkeypatch.setattr(disk, "_LISTEN_S", 0.0)
    return Disk(monkeypatch)


def same_weights(one, two):
    a, b = (read_weights(folder / "checkpoints" / "last")[0] for folder in (one, two))
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize("settings", [{}, {"checkpoint_every_steps": 2}])
def test_training_goes_on_when_there_is_room_again(make_spec, data_root, tmp_path, flaky, caplog, settings):
    spec = make_spec(**settings)
    train(spec, tmp_path / "whole", data_root)

    def report(metrics, checkpoint):
        flaky.full = metrics["epoch"] == 1
        return False

    flaky.freed_after = 3
    with caplog.at_level(logging.WARNING, "jetsweep"):
        result = train(spec, tmp_path / "waited", data_root, report)
    assert (result.stopped_because, flaky.refused) == ("budget", 3)
    assert ["waiting up to 600 s" in r.message or "has room again" in r.message for r in caplog.records] == [True, True]
    assert same_weights(tmp_path / "whole", tmp_path / "waited")
    assert [row["epoch"] for row in read_history(tmp_path / "waited" / "history.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize("settings", [{}, {"checkpoint_every_steps": 2}])
def test_a_stop_while_waiting_keeps_what_is_there(make_spec, data_root, tmp_path, flaky, settings):
    spec, rows = make_spec(**settings), []
    train(spec, tmp_path / "whole", data_root)

    def report(metrics, checkpoint):
        rows.append(metrics["epoch"])
        flaky.full = True
        return False

    result = train(spec, tmp_path / "parts", data_root, report, stop_requested=lambda: flaky.refused > 2)
    assert (result.stopped_because, result.epoch, rows) == ("asked", 1, [1])
    assert read_state(tmp_path / "parts" / "checkpoints" / "last")["progress"]["step"] == 5
    flaky.full = False
    assert train(spec, tmp_path / "parts", data_root, lambda m, c: rows.append(m["epoch"]) or False).epoch == 3
    assert rows == [1, 2, 3]
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_stop_at_the_last_write_leaves_the_result_to_the_next_attempt(make_spec, data_root, tmp_path, flaky):
    def report(metrics, checkpoint):
        flaky.full = metrics["epoch"] == 3
        return False

    result = train(make_spec(), tmp_path, data_root, report, stop_requested=lambda: flaky.refused > 0)
    assert (result.stopped_because, result.epoch, result.test) == ("asked", 3, {})
    assert not (tmp_path / "result.json").exists()
    flaky.full = False
    assert train(make_spec(), tmp_path, data_root).test
    assert json.loads((tmp_path / "result.json").read_text())["stopped_because"] == "budget"


def test_the_trial_fails_after_the_time_is_over(make_spec, data_root, tmp_path, flaky, monkeypatch):
    monkeypatch.setenv("JETSWEEP_DISK_WAIT_S", "0.05")
    train(make_spec(epochs=1), tmp_path, data_root)
    before = read_state(tmp_path / "checkpoints" / "last")["progress"]["step"]
    flaky.full = True
    with pytest.raises(DiskFull, match="No space left on device"):
        train(make_spec(), tmp_path, data_root)
    assert read_state(tmp_path / "checkpoints" / "last")["progress"]["step"] == before


def test_other_errors_are_not_waited_for():
    tries = []

    def write():
        tries.append(1)
        raise disk.write_error("x: cannot be written: Read-only file system", OSError(errno.EROFS, "Read-only"))

    with pytest.raises(JetsweepError, match="Read-only"):
        PatientDisk().write(write)
    assert len(tries) == 1


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_the_variable_must_be_seconds(monkeypatch, text):
    monkeypatch.setenv("JETSWEEP_DISK_WAIT_S", text)
    with pytest.raises(JetsweepError, match=f"JETSWEEP_DISK_WAIT_S: expected seconds .*, found '{text}'"):
        disk_wait_s()


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(path).f_bavail == 0


def test_a_file_system_that_is_really_full(make_spec, data_root, tmp_path, tiny_disk, monkeypatch):
    monkeypatch.setattr(disk, "_RETRY_S", 0.0)
    monkeypatch.setattr(disk, "_LISTEN_S", 0.0)
    spec = make_spec({"name": "pfn", "phi_sizes": [32, 32], "f_sizes": [32]})
    train(spec, tmp_path / "whole", data_root)
    ballast, asked = tiny_disk / "ballast", []

    def report(metrics, checkpoint):
        if metrics["epoch"] == 1:
            fill(ballast)
        return False

    def stop_requested():
        asked.append(ballast.exists())
        if asked.count(True) > 40:
            ballast.unlink(missing_ok=True)
        return False

    result = train(spec, tiny_disk / "trial", data_root, report, stop_requested=stop_requested)
    assert result.stopped_because == "budget"
    assert asked.count(True) > 40
    assert same_weights(tmp_path / "whole", tiny_disk / "trial")
    assert [row["epoch"] for row in read_history(tiny_disk / "trial" / "history.jsonl")] == [1, 2, 3]


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tiny_disk):
    history = History(tiny_disk / "history.jsonl", 0)
    history.append({"epoch": 1, "stopped_because": ""})
    size = history.path.stat().st_size
    with pytest.raises(DiskFull):
        history.append({"epoch": 2, "stopped_because": "", "text": "x" * 2**21})
    assert history.path.stat().st_size == size
    history.append({"epoch": 2, "stopped_because": ""})
    assert [row["epoch"] for row in read_history(history.path)] == [1, 2]
