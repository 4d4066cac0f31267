"""The training loop in plain PyTorch, its checkpoints, and its spread over workers."""

from importlib import import_module
from typing import Any

_HOME = {
    "LoadedModel": "checkpoint",
    "Reporter": "reporter",
    "ResourcesConfig": "config",
    "TrainResult": "run",
    "TrainingConfig": "config",
    "TrialSpec": "config",
    "load_checkpoint": "checkpoint",
    "train": "run",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'jetsweep.training' has no attribute {name!r}")
    return getattr(import_module(f"jetsweep.training.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
