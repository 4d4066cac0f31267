"""What may be imported where: the floors run with torch, numpy, pyarrow, h5py and pydantic alone."""

import subprocess
import sys

import pytest

FLOORS = ["physics", "data", "models", "losses", "metrics", "tasks", "training"]
NOT_ON_THE_GPU_MACHINE = [
    "ray", "mlflow", "optuna", "numba", "scipy", "pandas", "matplotlib", "mplhep", "sklearn", "awkward", "uproot",
    "rich", "typer", "ruamel", "pooch", "psutil", "pytorch_optimizer", "fastjet", "pythia8mc",
]  # fmt: skip


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_floor_needs_only_torch_numpy_pyarrow_h5py_and_pydantic():
    """Each in a fork of one process, since importing torch takes seconds: no floor finds another's modules loaded."""
    # every module of the room that is not one of the two that know Ray Train, the numba kernels or a converter
    code = f"""
import sys
sys.modules.update(dict.fromkeys({NOT_ON_THE_GPU_MACHINE!r}))
import importlib, os, pkgutil, traceback
import h5py, numpy, pyarrow, pydantic, torch
def import_all(room):
    package = importlib.import_module("jetsweep." + room)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in ("workers", "groups") and not module.name.startswith("_numba"):
            importlib.import_module("jetsweep." + room + "." + module.name)
assert not any(name.startswith("jetsweep") for name in sys.modules)
for room in {FLOORS!r}:
    child = os.fork()
    if child == 0:
        try:
            import_all(room)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, room + " cannot be imported"
    print(room)
"""
    assert run_python(code).split() == FLOORS


def test_help_imports_nothing_heavy():
    heavy = ["torch", "ray", "mlflow", "optuna", "numpy", "pyarrow", "pandas", "matplotlib"]
    code = f"""
import sys
from typer.testing import CliRunner
from jetsweep.cli.main import app
result = CliRunner().invoke(app, ["--help"])
assert result.exit_code == 0 and "run" in result.output, result.output
print([name for name in {heavy!r} if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"


def test_public_names_resolve():
    import jetsweep

    assert {"create_model", "load_experiment", "open_dataset", "make_dataset", "load_checkpoint"} <= set(dir(jetsweep))
    for name in jetsweep.__all__:
        assert getattr(jetsweep, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = jetsweep.nonsense
