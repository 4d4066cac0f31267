"""MLflow runs, comparison tables and plots; MLflow itself is imported when a sweep is tracked.

Names are imported on first use: a table of results needs neither torch nor what draws figures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jetsweep.tracking.compare import Comparison, best_checkpoint, compare_runs, compare_sweeps
    from jetsweep.tracking.sync import Synced, sync_sweep
    from jetsweep.tracking.tracker import Tracker, check_tracking, start_tracking

_HOME = {
    "Comparison": "compare",
    "Synced": "sync",
    "Tracker": "tracker",
    "best_checkpoint": "compare",
    "check_tracking": "tracker",
    "compare_runs": "compare",
    "compare_sweeps": "compare",
    "start_tracking": "tracker",
    "sync_sweep": "sync",
}

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


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'jetsweep.tracking' has no attribute {name!r}")
    return getattr(import_module(f"jetsweep.tracking.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
