"""Figures of merit of the field, plain functions on arrays."""

from jetsweep.metrics._bootstrap import (
    Sample,
)
from jetsweep.metrics._cuts import (
    cut_threshold,
    effective_number,
)
from jetsweep.metrics.anomaly import (
    Band,
    Measured,
    SicCurve,
    SicPoint,
    bootstrap_errors,
    run_band,
    sic_band,
    sic_curve,
    signal_efficiency,
)
from jetsweep.metrics.classification import (
    RocCurve,
    accuracy,
    auc,
    background_rejection,
    one_vs_one_auc,
    roc_curve,
)
from jetsweep.metrics.conditional_cdf import (
    ConditionalCdf,
    cross_fitted,
)
from jetsweep.metrics.correlation import (
    distance_correlation,
)
from jetsweep.metrics.dark_machines import DarkMachinesScore, read_dark_machines
from jetsweep.metrics.mass_sculpting import (
    Floor,
    MassJsd,
    SculptedCut,
    Sculpting,
    TradeOff,
    jensen_shannon,
    rejection_and_sculpting,
    sculpting,
)
from jetsweep.metrics.signals import (
    SignalMatrix,
    mean_signal,
    rank_average,
    signal_matrix,
    soft_minimum,
    worst_signal,
)
from jetsweep.metrics.systematics import (
    ATLAS_TOP_TAGGING,
    Scheme,
    Systematics,
    measure,
)

__all__ = [
    "ATLAS_TOP_TAGGING",
    "Band",
    "ConditionalCdf",
    "DarkMachinesScore",
    "Floor",
    "MassJsd",
    "Measured",
    "RocCurve",
    "Sample",
    "Scheme",
    "SculptedCut",
    "Sculpting",
    "SicCurve",
    "SicPoint",
    "SignalMatrix",
    "Systematics",
    "TradeOff",
    "accuracy",
    "auc",
    "background_rejection",
    "bootstrap_errors",
    "cross_fitted",
    "cut_threshold",
    "distance_correlation",
    "effective_number",
    "jensen_shannon",
    "mean_signal",
    "measure",
    "one_vs_one_auc",
    "rank_average",
    "read_dark_machines",
    "rejection_and_sculpting",
    "roc_curve",
    "run_band",
    "sculpting",
    "sic_band",
    "sic_curve",
    "signal_efficiency",
    "signal_matrix",
    "soft_minimum",
    "worst_signal",
]
