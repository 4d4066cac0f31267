"""Figures of merit of the field, plain functions on arrays."""

from jetsweep.metrics.classification import (
    RocCurve,
    accuracy,
    auc,
    background_rejection,
    one_vs_one_auc,
    roc_curve,
)

__all__ = ["RocCurve", "accuracy", "auc", "background_rejection", "one_vs_one_auc", "roc_curve"]
