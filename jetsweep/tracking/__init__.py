"""MLflow runs, comparison tables and plots; MLflow itself is imported when a sweep is tracked."""

from jetsweep.tracking.compare import Comparison, compare_sweeps
from jetsweep.tracking.tracker import Tracker, start_tracking

__all__ = ["Comparison", "Tracker", "compare_sweeps", "start_tracking"]
