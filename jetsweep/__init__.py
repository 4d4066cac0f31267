"""jetsweep: hyper-parameter sweeps for jet-physics machine learning."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "list_models": "jetsweep.models",
    "create_model": "jetsweep.models",
    "load_experiment": "jetsweep.experiment",
    "open_dataset": "jetsweep.data",
    "make_dataset": "jetsweep.data",
    "load_checkpoint": "jetsweep.training",
    "metrics": "jetsweep.metrics",
    "losses": "jetsweep.losses",
    "physics": "jetsweep.physics",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import jetsweep`` and ``jetsweep --help`` stay quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'jetsweep' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return module if _HOME[name] == f"jetsweep.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
