"""The command line as a whole: quick help, exit codes, the automatic profile."""

import pkgutil
import subprocess
import sys

import pytest
from rich.console import Console

from jetsweep import cli
from jetsweep.cli import run
from jetsweep.cli.main import available_verbs
from jetsweep.errors import ExperimentError


def jetsweep(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "jetsweep.cli.main", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_help_lists_the_verbs_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['jetsweep', '--help']\n"
        "from jetsweep.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = ['torch', 'numpy', 'ray', 'mlflow', 'optuna', 'pydantic', 'pandas', 'pyarrow', 'matplotlib']\n"
        "print('HEAVY', [m for m in heavy if m in sys.modules])\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in shown
    verbs = available_verbs()
    assert {"run", "plan", "schema", "data"} <= set(verbs)
    for verb in verbs:
        assert f" {verb} " in shown


def test_every_module_of_the_command_line_is_a_verb():
    modules = {module.name for module in pkgutil.iter_modules(cli.__path__) if not module.name.startswith("_")}
    assert modules == {*available_verbs(), "main"}


@pytest.mark.parametrize("verb", available_verbs())
def test_every_verb_has_help(verb):
    shown = jetsweep(verb, "--help")
    assert shown.returncode == 0
    assert f"{verb} [OPTIONS]" in shown.stdout, shown.stderr


def test_version():
    from jetsweep import __version__

    assert jetsweep("--version").stdout == f"jetsweep {__version__}\n"


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: toy.yaml\ntraining:\n  epoch: 3\n")
    ended = jetsweep("run", "a.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("jetsweep: a.yaml:3: training.epoch: expected one of the keys")
    assert line.endswith("did you mean 'epochs'?")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_an_unknown_verb_is_exit_code_2():
    ended = jetsweep("plot")
    assert ended.returncode == 2
    assert "No such command 'plot'" in ended.stderr


FILE = "extends: toy.yaml\nprofiles: {laptop: {training: {epochs: 1}}}\n"


@pytest.mark.parametrize(
    ("gpu", "asked", "overrides", "epochs", "shown"),
    [
        (False, None, [], 1, "no GPU found: profile laptop"),
        (False, None, ["training.epochs=2"], 2, "no GPU found: profile laptop"),
        (False, "full", [], 3, ""),
        (True, None, [], 3, ""),
        (True, "laptop", [], 1, "profile laptop"),
    ],
)
def test_the_laptop_profile_is_chosen_without_a_gpu(tmp_path, monkeypatch, gpu, asked, overrides, epochs, shown):
    monkeypatch.setattr(run, "has_gpu", lambda: gpu)
    (tmp_path / "a.yaml").write_text(FILE)
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    template = run.load_for_this_machine(str(tmp_path / "a.yaml"), overrides, asked, console)
    console.file.close()
    assert template.example.training.epochs == epochs
    text = console.export_text()
    assert text.startswith(shown)
    if not shown:
        assert text == ""
    elif asked is None:
        assert "--profile full" in text
    if shown:
        assert "training.epochs: 3 → 1" in text


def test_a_file_without_profiles_stands_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "has_gpu", lambda: False)
    (tmp_path / "a.yaml").write_text("extends: toy.yaml\n")
    console = Console(quiet=True)
    assert run.load_for_this_machine(str(tmp_path / "a.yaml"), [], None, console).profile is None
    with pytest.raises(ExperimentError, match=r"expected one of the profiles full, found 'laptop'"):
        run.load_for_this_machine(str(tmp_path / "a.yaml"), [], "laptop", console)


def test_hidden_gpus_are_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run.has_gpu() is False


def test_a_gpu_counts_only_where_torch_can_use_it(monkeypatch):
    import pynvml

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.setattr(run, "version", lambda package: "2.13.0")
    assert run.has_gpu() is True
    monkeypatch.setattr(run, "version", lambda package: "2.13.0+cpu")
    assert run.has_gpu() is False


def test_no_driver_is_no_gpu(monkeypatch):
    import pynvml

    def fail():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    monkeypatch.setattr(run, "version", lambda package: "2.13.0")
    assert run.has_gpu() is False
