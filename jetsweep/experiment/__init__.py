"""The experiment file: one YAML document, any leaf of which may be a distribution.

Names are imported on first use: the schema needs every room's settings and with them torch, and what reads results of a
sweep needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jetsweep.experiment.distributions import Choice, Distribution, Float, Int, Normal
    from jetsweep.experiment.schema import Experiment, Objective, SearchConfig, TrackingConfig
    from jetsweep.experiment.template import ExperimentTemplate, load_experiment, profiles_of

_HOME = {
    "Choice": "distributions",
    "Distribution": "distributions",
    "Experiment": "schema",
    "ExperimentTemplate": "template",
    "Float": "distributions",
    "Int": "distributions",
    "Normal": "distributions",
    "Objective": "schema",
    "SearchConfig": "schema",
    "TrackingConfig": "schema",
    "load_experiment": "template",
    "profiles_of": "template",
}

__all__ = [
    "Choice",
    "Distribution",
    "Experiment",
    "ExperimentTemplate",
    "Float",
    "Int",
    "Normal",
    "Objective",
    "SearchConfig",
    "TrackingConfig",
    "load_experiment",
    "profiles_of",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'jetsweep.experiment' has no attribute {name!r}")
    return getattr(import_module(f"jetsweep.experiment.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
