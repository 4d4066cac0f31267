"""Calls of the command line that must be refused, and disks that are full."""

import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest

from jetsweep.cli.main import main

SETTINGS = ("JETSWEEP_DATA", "JETSWEEP_RUNS", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")


def tree(folder):
    """Size of every file below a folder; folders are None."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else None for path in folder.rglob("*")
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder, and no settings in the environment."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refuse(place, monkeypatch, capsys):
    """Call `jetsweep …`, which must end with exit code 2 and one sentence, which is given back, and leave nothing."""

    def call(*arguments):
        before = tree(place)
        monkeypatch.setattr(sys, "argv", ["jetsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr().err.splitlines()
        (sentence,) = [line for line in shown if not line.startswith("Making ")]  # how far it came
        assert end.value.code == 2
        assert tree(place) == before
        assert sentence.startswith("jetsweep: ")
        return sentence.removeprefix("jetsweep: ")

    return call


@pytest.fixture
def no_ray(monkeypatch):
    """Fail where a sweep would start Ray."""

    def fail(address=None):
        raise AssertionError("the sweep was not refused before Ray")

    monkeypatch.setattr("jetsweep.search.cluster.connected", fail)


@pytest.fixture
def small_disk(tmp_path):
    """Make a disk of so many KiB; skips where file systems cannot be mounted."""
    mounted = []

    def make(kib):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("file systems cannot be mounted here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_files():
    """Context in which no file of this process can grow beyond so many KiB: a full disk for everybody."""

    @contextmanager
    def limit(kib):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, before[1]))  # Python ignores the signal
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
