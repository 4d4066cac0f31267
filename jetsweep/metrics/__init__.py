"""Figures of merit of the field, plain functions on arrays."""

from jetsweep.metrics._bootstrap import Sample
from jetsweep.metrics.classification import (
    RocCurve,
    accuracy,
    auc,
    background_rejection,
    one_vs_one_auc,
    roc_curve,
)
from jetsweep.metrics.systematics import ATLAS_TOP_TAGGING, Scheme, Systematics, measure

__all__ = [
    "ATLAS_TOP_TAGGING",
    "RocCurve",
    "Sample",
    "Scheme",
    "Systematics",
    "accuracy",
    "auc",
    "background_rejection",
    "measure",
    "one_vs_one_auc",
    "roc_curve",
]
