"""Load of the driver's machine: processor, memory, disk, network, GPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable

INTERVAL_S, LATER_INTERVAL_S = 10.0, 60.0
FREQUENT_SAMPLES = 360
"""After so many samples, an hour, the longer interval is enough: a week makes 10,000 samples, not 60,000."""

FIRST_AFTER_S = 1.0

Submit = Callable[[dict[str, float]], None]


class SystemMetrics:
    """Samples in a thread with MLflow's own monitors and hands over the numbers.

    MLflow's ready-made monitor would be a second writer to the store, and gives up at the first request that fails.

    Parameters
    ----------
    submit : callable
        Takes metrics by name (``system/…``); must return at once.
    interval_s, later_interval_s : float
        Between the first `FREQUENT_SAMPLES` samples, and from then on.
    """

    def __init__(
        self, submit: Submit, interval_s: float = INTERVAL_S, later_interval_s: float = LATER_INTERVAL_S
    ) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._submit, self._interval_s, self._later_interval_s = submit, interval_s, later_interval_s
        self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *_gpu_monitors()]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="jetsweep-system-metrics", daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        count, wait_s = 0, FIRST_AFTER_S  # a short sweep gets a sample too
        while not self._stop.wait(wait_s):
            values: dict[str, float] = {}
            for monitor in self._monitors:
                monitor.collect_metrics()
                values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
            self._submit(values)
            count += 1
            wait_s = self._interval_s if count < FREQUENT_SAMPLES else self._later_interval_s

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()


def _gpu_monitors() -> list[object]:
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    try:
        return [GPUMonitor()]
    except Exception:  # no NVIDIA driver: of several kinds, depending on what is missing
        return []
