"""The experiment file: one YAML document, any leaf of which may be a distribution."""

from jetsweep.experiment.distributions import Choice, Distribution, Float, Int, Normal
from jetsweep.experiment.schema import Experiment, Objective, SearchConfig, TrackingConfig
from jetsweep.experiment.template import ExperimentTemplate, load_experiment, profiles_of

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
