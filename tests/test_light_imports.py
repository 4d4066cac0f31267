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


@pytest.mark.parametrize("room", FLOORS)
def test_a_floor_needs_only_torch_numpy_pyarrow_h5py_and_pydantic(room):
    blocked = f"import sys; sys.modules.update(dict.fromkeys({NOT_ON_THE_GPU_MACHINE!r}))"
    # every module of the room that is not one of the two that know Ray Train, the numba kernels or a converter
    code = f"""{blocked}
import importlib, pkgutil
package = importlib.import_module("jetsweep.{room}")
for module in pkgutil.iter_modules(package.__path__):
    if module.name not in ("workers", "groups") and not module.name.startswith("_numba"):
        importlib.import_module(f"jetsweep.{room}.{{module.name}}")
print("imported")
"""
    assert run_python(code).strip() == "imported"


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
