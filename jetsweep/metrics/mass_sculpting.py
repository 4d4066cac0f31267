"""How a cut on a score changes the background's mass spectrum: Jensen-Shannon divergence and distance correlation."""

# Shapes: J jets, N bins, E cuts, R random cuts.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics._cuts import checked_weights, cut_threshold
from jetsweep.metrics.classification import Array, background_rejection, roc_curve

CUT_EFFICIENCIES = (0.5, 0.1, 0.05, 0.01, 0.001)
"""Background efficiencies of the mass histograms after cuts."""


def jensen_shannon(p: Array, q: Array, base: float = 2.0, root: bool = False) -> float:
    """Jensen-Shannon divergence H((P + Q) / 2) - H(P) / 2 - H(Q) / 2 of two histograms (Lin 1991).

    Parameters
    ----------
    p, q : ndarray, shape (N,)
        Contents of the same bins, not negative; each is divided by its sum. Bins empty in both add nothing.
    base : float
        Of the logarithm: 2 gives bits, the divergence is then in [0, 1]; e gives nats, at most ln 2.
    root : bool
        Return the square root, the Jensen-Shannon *distance*.

    Raises
    ------
    MetricError
        If the shapes differ, a content is negative or not finite, or all bins of a histogram are empty.
    """
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if p.shape != q.shape or p.ndim != 1:
        raise MetricError(f"a Jensen-Shannon divergence needs the same bins, found shapes {p.shape} and {q.shape}")
    if not base > 1.0:
        raise MetricError(f"the base of the logarithm must be above 1, found {base:g}")
    for name, x in (("first", p), ("second", q)):
        if not np.isfinite(x).all() or (x < 0).any():
            raise MetricError(f"the {name} histogram has bins that are negative or not finite")
        if not x.any():
            raise MetricError(f"all {len(x)} bins of the {name} histogram are empty")
    return float(_divergence(p / p.sum(), q / q.sum(), base, root))


def _divergence(p: Array, q: Array, base: float, root: bool) -> Array:
    """Of normalised histograms along the last axis; rounding never makes it negative."""
    middle = (p + q) / 2
    # sum of p ln(p / m) rather than of entropies: small divergences keep their digits
    halves = [x * np.log(np.divide(x, middle, out=np.ones_like(middle), where=x > 0)) for x in (p, q)]
    value = np.maximum((halves[0] + halves[1]).sum(axis=-1) / 2 / np.log(base), 0.0)
    return np.asarray(np.sqrt(value) if root else value)


@dataclass(frozen=True)
class MassJsd:
    """A Jensen-Shannon measure of mass sculpting with all its conventions.

    Parameters
    ----------
    bins : int
        Of equal width.
    low, high : float, GeV
        Jets outside [low, high] are left out of both histograms, which are then normalised.
    base : {"2", "e"}
        Of the logarithm.
    root : bool
        The distance (square root) instead of the divergence.
    reference : {"all", "failed"}
        The spectrum to compare jets that pass the cut with: of all jets, or of those that fail.
    """

    bins: int = 100
    low: float = 0.0
    high: float = 500.0
    base: Literal["2", "e"] = "2"
    root: bool = False
    reference: Literal["all", "failed"] = "all"

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise MetricError(f"a mass histogram needs at least one bin, found {self.bins}")
        if not self.low < self.high:
            raise MetricError(f"a mass range must ascend, found {self.low:g} to {self.high:g} GeV")

    @property
    def name(self) -> str:
        """Every convention, e.g. ``mass_jsd_base2_pass-all_100bins_0-500``; ``jsdistance`` with the root."""
        kind = "jsdistance" if self.root else "jsd"
        return f"mass_{kind}_base{self.base}_pass-{self.reference}_{self.bins}bins_{self.low:g}-{self.high:g}"

    @property
    def edges(self) -> Array:
        """Bin edges, shape (N + 1,), GeV."""
        return np.linspace(self.low, self.high, self.bins + 1)

    def histogram(self, mass: Array, weight: Array | None = None) -> Array:
        """Sum of weights in every bin, shape (N,)."""
        return np.histogram(mass, self.edges, weights=weight)[0].astype(np.float64)

    def of_cut(self, mass: Array, passes: Array, weight: Array | None = None) -> float:
        """Value for the background jets of mass (J,) that pass a cut, a mask (J,).

        Weights (J,) may be of any sign; a bin where they add up to less than 0 is empty.

        Raises
        ------
        MetricError
            If a mass is not finite, or no jet of one of the two spectra is in the range.
        """
        mass, passes = np.asarray(mass, dtype=np.float64), np.asarray(passes, dtype=bool)
        _check_masses(mass)
        after = self._spectrum(mass, passes, weight, "that pass the cut")
        others = np.ones(len(mass), bool) if self.reference == "all" else ~passes
        before = self._spectrum(mass, others, weight, "before the cut" if self.reference == "all" else "that fail it")
        return float(_divergence(before, after, self._log_base, self.root))

    def floor(
        self, mass: Array, num_passing: int, repeats: int = 100, seed: int = 1, weight: Array | None = None
    ) -> Floor:
        """Statistical floor: value for random cuts that let as many jets pass.

        Parameters
        ----------
        mass : ndarray, shape (J,), GeV
        num_passing : int
        repeats : int
        seed : int
        weight : ndarray, shape (J,), optional
            Of any sign. A jet passes with its whole weight, so the floor is that of jets, not of their copies.
        """
        mass = np.asarray(mass, dtype=np.float64)
        _check_masses(mass)
        if not 0 < num_passing <= len(mass) or (self.reference == "failed" and num_passing == len(mass)):
            raise MetricError(f"a random cut cannot let {num_passing} of {len(mass)} jets pass")
        if not self.histogram(mass).any():
            raise MetricError(
                f"no mass of {len(mass)} jets is in {self.low:g} to {self.high:g} GeV: all bins are empty"
            )
        weight = None if weight is None else checked_weights(weight, len(mass))
        if weight is None or np.ptp(weight) == 0:
            drawn_RN, others_RN = self._random_counts(mass, num_passing, repeats, seed)
        else:
            drawn_RN, others_RN = self._random_contents(mass, num_passing, repeats, seed, weight)
        used_R = (drawn_RN.sum(axis=1) > 0) & (others_RN.sum(axis=1) > 0)
        if not used_R.any():
            raise MetricError(f"random cuts of {num_passing} jets leave all bins empty")
        after, before = (x[used_R] / x[used_R].sum(axis=1, keepdims=True) for x in (drawn_RN, others_RN))
        values_R = _divergence(before, after, self._log_base, self.root)
        low, median, high = np.quantile(values_R, [0.16, 0.5, 0.84])
        return Floor(float(values_R.mean()), float(median), float(low), float(high), num_passing)

    def _random_counts(self, mass: Array, num_passing: int, repeats: int, seed: int) -> tuple[Array, Array]:
        """Jets per bin that pass random cuts, and those that they are compared with, both of shape (R, N)."""
        counts = self.histogram(mass).astype(np.int64)
        # a random subset is a draw from the bins without replacement; the last bin holds the jets outside the range
        rng = np.random.default_rng(seed)
        colours = np.append(counts, len(mass) - counts.sum())
        drawn_RN = rng.multivariate_hypergeometric(colours, num_passing, size=repeats)[:, :-1].astype(np.float64)
        return drawn_RN, np.broadcast_to(counts, drawn_RN.shape) if self.reference == "all" else counts - drawn_RN

    def _random_contents(
        self, mass: Array, num_passing: int, repeats: int, seed: int, weight: Array
    ) -> tuple[Array, Array]:
        """The same of weighted jets, drawn one by one: no law of their sums is known."""
        rng, all_N = np.random.default_rng(seed), self.histogram(mass, weight)
        rows_RX = (rng.choice(len(mass), num_passing, replace=False, shuffle=False) for _ in range(repeats))
        drawn_RN = np.array([self.histogram(mass[rows_X], weight[rows_X]) for rows_X in rows_RX])
        others_RN = np.broadcast_to(all_N, drawn_RN.shape) if self.reference == "all" else all_N - drawn_RN
        return np.maximum(drawn_RN, 0.0), np.maximum(others_RN, 0.0)

    @property
    def _log_base(self) -> float:
        return 2.0 if self.base == "2" else float(np.e)

    def _spectrum(self, mass: Array, keep: Array, weight: Array | None, which: str) -> Array:
        contents = np.maximum(self.histogram(mass[keep], None if weight is None else np.asarray(weight)[keep]), 0.0)
        total = contents.sum()
        if not total > 0:
            raise MetricError(
                f"all {self.bins} bins of the mass histogram of jets {which} are empty: none of {int(keep.sum())} jets "
                f"is in {self.low:g} to {self.high:g} GeV"
            )
        return np.asarray(contents / total)


@dataclass(frozen=True)
class Floor:
    """Values of random cuts of equal size: mean, median, and the central 68 % from `low` to `high`."""

    mean: float
    median: float
    low: float
    high: float
    num_passing: int


@dataclass(frozen=True)
class SculptedCut:
    """Mass spectrum after one cut.

    Parameters
    ----------
    asked_efficiency, efficiency : float
        Background efficiency asked for, and reached (larger where scores are tied).
    num_passing : int
        Background jets that pass, whatever their weights.
    threshold : float
    jsd : float
        Value of the measure.
    floor : Floor
    histogram : ndarray, shape (N,)
        Background jets (the sum of their weights) per bin after the cut.
    squared : ndarray, shape (N,)
        Sum of squared weights per bin, the square of the statistical error of `histogram`.
    """

    asked_efficiency: float
    efficiency: float
    num_passing: int
    threshold: float
    jsd: float
    floor: Floor
    histogram: Array
    squared: Array


@dataclass(frozen=True)
class Sculpting:
    """Mass spectra of the background before (`histogram`, (N,)) and after cuts, under the conventions of `measure`."""

    measure: MassJsd
    histogram: Array
    cuts: tuple[SculptedCut, ...]

    def rows(self) -> list[dict[str, float]]:
        """One row per cut, for tables."""
        return [
            {
                "background_efficiency": cut.efficiency,
                "threshold": cut.threshold,
                "jets": float(cut.num_passing),
                self.measure.name: cut.jsd,
                "floor": cut.floor.median,
                "floor_low": cut.floor.low,
                "floor_high": cut.floor.high,
            }
            for cut in self.cuts
        ]


def sculpting(
    score: Array,
    mass: Array,
    measure: MassJsd | None = None,
    efficiencies: tuple[float, ...] = CUT_EFFICIENCIES,
    min_jets: int = 10,
    seed: int = 1,
    weight: Array | None = None,
) -> Sculpting:
    """Mass spectra and Jensen-Shannon values of background jets after cuts at background efficiencies.

    Parameters
    ----------
    score : ndarray, shape (J,)
        Of background jets.
    mass : ndarray, shape (J,), GeV
    measure : MassJsd, optional
    efficiencies : tuple of float
    min_jets : int
        Least (effective) number of jets that pass a cut.
    seed : int
        Of the random cuts.
    weight : ndarray, shape (J,), optional
        Of any sign.

    Raises
    ------
    MetricError
        See `cut_threshold` and `MassJsd.of_cut`.
    """
    measure = measure or MassJsd()
    score, mass = np.asarray(score, dtype=np.float64), np.asarray(mass, dtype=np.float64)
    weight = None if weight is None else checked_weights(weight, len(score))
    w = np.ones(len(score)) if weight is None else weight
    cuts = []
    for asked in efficiencies:
        threshold = cut_threshold(score, asked, min_jets, weight)
        passes = score >= threshold
        value = measure.of_cut(mass, passes, weight)
        reached = float(w[passes].sum() / w.sum())
        floor = measure.floor(mass, _jets_at(reached, len(mass)), seed=seed, weight=weight)
        contents, squared = (measure.histogram(mass[passes], x[passes]) for x in (w, w**2))
        cuts.append(SculptedCut(asked, reached, int(passes.sum()), threshold, value, floor, contents, squared))
    return Sculpting(measure, measure.histogram(mass, w), tuple(cuts))


@dataclass(frozen=True)
class TradeOff:
    """Background rejection against the inverse Jensen-Shannon value at one signal efficiency.

    Parameters
    ----------
    signal_efficiency : float
    rejection, rejection_error : float
        1/εB with its binomial error.
    inverse_jsd : float
        1/JSD, infinite if the spectra are equal.
    inverse_floor : float
        1/JSD of random cuts of equal size (their median): larger values of `inverse_jsd` mean nothing.
    """

    signal_efficiency: float
    rejection: float
    rejection_error: float
    inverse_jsd: float
    inverse_floor: float


def rejection_and_sculpting(
    score: Array,
    is_signal: Array,
    mass: Array,
    measure: MassJsd | None = None,
    signal_efficiency: float = 0.5,
    min_jets: int = 10,
    seed: int = 1,
    weight: Array | None = None,
) -> TradeOff:
    """One point of the figure 1/JSD against R50 (arXiv:2001.05310).

    Parameters
    ----------
    score, mass : ndarray, shape (J,)
    is_signal : ndarray, shape (J,), bool
    measure : MassJsd, optional
    signal_efficiency : float, in (0, 1)
    min_jets : int
        Least (effective) number of background jets that pass.
    seed : int
        Of the random cuts.
    weight : ndarray, shape (J,), optional
        Of any sign.
    """
    measure = measure or MassJsd()
    is_signal, mass = np.asarray(is_signal, dtype=bool), np.asarray(mass, dtype=np.float64)
    rejection, error, above = background_rejection(roc_curve(score, is_signal, weight), signal_efficiency)
    if above < min_jets:
        raise MetricError(
            f"a signal efficiency of {signal_efficiency:g} leaves {above:g} of {int((~is_signal).sum())} background "
            f"jets above the cut, fewer than the minimum of {min_jets}; take more background jets"
        )
    background = np.asarray(score, dtype=np.float64)[~is_signal]
    w = None if weight is None else checked_weights(np.asarray(weight)[~is_signal], len(background))
    passes = background >= cut_threshold(background, 1 / rejection, 1, w)
    value = measure.of_cut(mass[~is_signal], passes, w)
    reached = float(passes.mean() if w is None else w[passes].sum() / w.sum())
    floor = measure.floor(mass[~is_signal], _jets_at(reached, len(passes)), seed=seed, weight=w).median
    return TradeOff(signal_efficiency, rejection, error, _inverse(value), _inverse(floor))


def _jets_at(efficiency: float, num_jets: int) -> int:
    """Jets that a random cut of an efficiency lets pass, at least one."""
    return min(max(1, round(efficiency * num_jets)), num_jets)


def _inverse(x: float) -> float:
    return 1 / x if x > 0 else float("inf")


def _check_masses(mass: Array) -> None:
    if not np.isfinite(mass).all():
        raise MetricError(f"{int((~np.isfinite(mass)).sum())} of {len(mass)} masses are not finite")
