"""MLflow runs, comparison tables and plots; MLflow itself is imported when a sweep is tracked."""

from jetsweep.tracking.compare import Comparison, best_checkpoint, compare_runs, compare_sweeps
from jetsweep.tracking.sync import Synced, sync_sweep
from jetsweep.tracking.tracker import Tracker, check_tracking, start_tracking

__all__ = [
    "Comparison",
    "Synced",
    "Tracker",
    "best_checkpoint",
    "check_tracking",
    "compare_runs",
    "compare_sweeps",
    "start_tracking",
    "sync_sweep",
]
