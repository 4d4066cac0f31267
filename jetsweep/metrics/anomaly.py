"""Figures of merit of anomaly searches: signal efficiency at a fixed background, significance improvement, bands.

The significance improvement characteristic is SIC = εS / √εB, the factor by which a cut multiplies S/√B. Its maximum
lies in the tail, where few background jets are left; so every point here has a minimum background count.
"""

# Shapes: J jets, K points of a curve, R runs or replicas.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics._bootstrap import poisson_copies, spread
from jetsweep.metrics.classification import Array, RocCurve

BACKGROUND_EFFICIENCIES = (1e-2, 1e-3, 1e-4)
"""Where signal efficiencies are quoted."""


def signal_efficiency(roc: RocCurve, background_efficiency: float, min_background: float = 10.0) -> float:
    """Signal efficiency εS of the cut with a background efficiency εB, linear between the cuts around it.

    Parameters
    ----------
    roc : RocCurve
    background_efficiency : float, in (0, 1)
        Where several cuts have the same εB, the loosest counts.
    min_background : float
        Least (effective) number of background jets above the cut.

    Raises
    ------
    MetricError
        If `background_efficiency` is not inside (0, 1), or so few background jets are above the cut.
    """
    if not 0.0 < background_efficiency < 1.0:
        raise MetricError(f"a background efficiency must be inside (0, 1), found {background_efficiency}")
    expected = background_efficiency * roc.num_background
    if expected < min_background * (1 - 1e-9):
        raise MetricError(
            f"a background efficiency of {background_efficiency:g} leaves {expected:g} of {roc.num_background:g} "
            f"background jets above the cut, fewer than the minimum of {min_background:g}; take more background jets"
        )
    low = int(np.searchsorted(roc.background_efficiency, background_efficiency, side="right")) - 1
    x, y = roc.background_efficiency[low : low + 2], roc.signal_efficiency[low : low + 2]
    return float(y[0] + (y[1] - y[0]) * (background_efficiency - x[0]) / (x[1] - x[0]))


@dataclass(frozen=True)
class SicPoint:
    """One cut.

    Parameters
    ----------
    sic : float
        εS / √εB.
    error : float
        Of `sic`, from the binomial error of εB alone.
    signal_efficiency, background_efficiency : float
    background_above : float
        Effective number of background jets above the cut.
    threshold : float
    """

    sic: float
    error: float
    signal_efficiency: float
    background_efficiency: float
    background_above: float
    threshold: float


@dataclass(frozen=True)
class SicCurve:
    """Significance improvement at every cut that leaves enough background jets, from the hardest cut to the loosest.

    Parameters
    ----------
    signal_efficiency, background_efficiency : ndarray, shape (K,)
    background_above : ndarray, shape (K,)
    threshold : ndarray, shape (K,)
    min_background : float
    """

    signal_efficiency: Array
    background_efficiency: Array
    background_above: Array
    threshold: Array
    min_background: float

    @property
    def sic(self) -> Array:
        """εS / √εB, shape (K,)."""
        return np.asarray(self.signal_efficiency / np.sqrt(self.background_efficiency))

    @property
    def relative_error(self) -> Array:
        """Relative binomial error of εB, √((1 - εB) / k) with k background jets above the cut, shape (K,)."""
        return np.asarray(np.sqrt(np.maximum(0.0, 1 - self.background_efficiency) / self.background_above))

    @property
    def maximum(self) -> SicPoint:
        """The cut with the largest SIC."""
        i = int(np.argmax(self.sic))
        sic = float(self.sic[i])
        return SicPoint(
            sic,
            sic * float(self.relative_error[i]) / 2,
            float(self.signal_efficiency[i]),
            float(self.background_efficiency[i]),
            float(self.background_above[i]),
            float(self.threshold[i]),
        )

    def at_signal_efficiency(self, efficiency: Array | float) -> Array:
        """SIC at signal efficiencies (any shape); εB is linear between cuts; NaN where too few background jets are."""
        wanted = np.asarray(efficiency, dtype=np.float64)
        # steps without a signal jet: the hardest cut that reaches the efficiency
        eps_s, first = np.unique(self.signal_efficiency, return_index=True)
        eps_b = np.interp(wanted, eps_s, self.background_efficiency[first])
        return np.where(wanted < eps_s[0], np.nan, wanted / np.sqrt(eps_b))

    def at_background_efficiency(self, efficiency: Array | float) -> Array:
        """SIC at background efficiencies (any shape); εS is linear between cuts; NaN where too few jets are left."""
        wanted = np.asarray(efficiency, dtype=np.float64)
        # steps without a background jet: the loosest cut at the efficiency
        eps_b, first = np.unique(self.background_efficiency[::-1], return_index=True)
        eps_s = np.interp(wanted, eps_b, self.signal_efficiency[::-1][first])
        return np.where(wanted < eps_b[0] * (1 - 1e-9), np.nan, eps_s / np.sqrt(wanted))


def sic_curve(roc: RocCurve, min_background: float = 100.0) -> SicCurve:
    """Significance improvement of every cut.

    Parameters
    ----------
    roc : RocCurve
    min_background : float
        Cuts that leave fewer (effective) background jets are left out: 100 means that εB is known to 10 %.

    Raises
    ------
    MetricError
        If `min_background` is not positive or there are fewer background jets in all.
    """
    if not min_background > 0:
        raise MetricError(f"the minimum background count must be positive, found {min_background:g}")
    # negative weights can leave a sum below 0
    keep_K = (roc.background_above >= min_background * (1 - 1e-9)) & (roc.background_efficiency > 0)
    if not keep_K.any():
        raise MetricError(
            f"there are {roc.num_background:g} background jets, fewer than the minimum count of {min_background:g} "
            "above a cut; take more background jets or lower the minimum"
        )
    return SicCurve(
        roc.signal_efficiency[keep_K],
        roc.background_efficiency[keep_K],
        roc.background_above[keep_K],
        roc.threshold[keep_K],
        min_background,
    )


@dataclass(frozen=True)
class Band:
    """Median and central interval over runs.

    Parameters
    ----------
    median, low, high : ndarray, shape (...)
    level : float
        Share of the runs inside [`low`, `high`].
    num_runs : int
    """

    median: Array
    low: Array
    high: Array
    level: float
    num_runs: int


def run_band(values: Array, level: float = 0.68) -> Band:
    """Median and central interval of many runs (different seeds, folds or signal injections).

    Parameters
    ----------
    values : ndarray, shape (R, ...)
        One number or curve (on a common grid) per run. Where a run is NaN the band is NaN.
    level : float, in (0, 1)

    Raises
    ------
    MetricError
        If there are fewer than two runs, or `level` is not inside (0, 1).
    """
    values = np.asarray(values, dtype=np.float64)
    if not 0.0 < level < 1.0:
        raise MetricError(f"the level of a band must be inside (0, 1), found {level}")
    if values.ndim == 0 or len(values) < 2:
        raise MetricError(f"a band needs two runs or more, found {len(values) if values.ndim else 1}")
    low, median, high = np.quantile(values, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=0)
    return Band(median, low, high, level, len(values))


def sic_band(curves: Sequence[SicCurve], signal_efficiencies: Array, level: float = 0.68) -> Band:
    """Band of SIC curves on a grid of signal efficiencies (K,); NaN where a run has too few background jets."""
    if len({curve.min_background for curve in curves}) > 1:
        found = ", ".join(f"{x:g}" for x in sorted({curve.min_background for curve in curves}))
        raise MetricError(f"SIC curves with different minimum background counts ({found}) make no band")
    return run_band(np.array([curve.at_signal_efficiency(signal_efficiencies) for curve in curves]), level)


@dataclass(frozen=True)
class Measured:
    """A figure of merit with its bootstrap error, NaN where fewer than half of the replicas have the figure."""

    value: float
    error: float


def bootstrap_errors(
    measure: Callable[[Array], Mapping[str, float]],
    event: Array,
    replicas: int = 100,
    seed: int = 1,
) -> dict[str, Measured]:
    """Standard deviations of figures of merit over Poisson bootstrap replicas.

    Parameters
    ----------
    measure : callable
        Takes row numbers, ascending and with repetitions, and returns figures by name.
    event : ndarray, shape (J,), int
        Rows with the same number are resampled together; ``np.arange(J)`` where every jet stands for itself. The
        number of copies depends on seed, replica and event number alone, so figures of several scores of the same
        jets may be compared replica by replica.
    replicas : int
        Two or more.
    seed : int

    Raises
    ------
    MetricError
        If there are fewer than two replicas, or whatever `measure` raises on the jets as they are.
    """
    if replicas < 2:
        raise MetricError(f"a bootstrap needs two replicas or more, found {replicas}")
    rows = np.arange(len(event))
    value = dict(measure(rows))
    drawn_RX = np.full((replicas, len(value)), np.nan)
    for i in range(replicas):
        copies = poisson_copies(event, seed, i + 1).astype(np.int64)
        try:
            found = measure(np.repeat(rows, copies))
        except MetricError:
            continue  # a replica may fall below a minimum count
        drawn_RX[i] = [found[name] for name in value]
    error = spread(drawn_RX)
    return {name: Measured(float(value[name]), float(error[i])) for i, name in enumerate(value)}
