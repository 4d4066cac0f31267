"""Decorrelation after training: a score becomes its quantile among background jets of similar mass (and pT)."""

# Shapes: J jets, N bins.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics._bootstrap import mixed
from jetsweep.metrics._cuts import checked_weights, effective_number, in_units_of_the_least
from jetsweep.metrics.classification import Array


@dataclass(frozen=True)
class ConditionalCdf:
    """u = F(score | mass, pT) of background jets, by bins in log mass and, inside each, in log pT.

    Make it with `fit`. Inside a bin the map is strictly rising, beyond the scores seen too, so the order of jets and
    the area under the ROC curve do not change there; background jets that were not fitted are uniform in (0, 1).

    Parameters
    ----------
    mass_edges : ndarray, shape (M - 1,), GeV
        Between the mass bins; the first and the last are open.
    pt_edges : tuple of ndarray, GeV
        Between the pT bins of every mass bin.
    scores, quantiles : tuple of ndarray
        Support points of every bin, (mass, pT) in this order.
    """

    mass_edges: Array
    pt_edges: tuple[Array, ...]
    scores: tuple[Array, ...]
    quantiles: tuple[Array, ...]

    @classmethod
    def fit(
        cls,
        score: Array,
        mass: Array,
        pt: Array | None = None,
        mass_bins: int = 20,
        pt_bins: int = 5,
        min_jets: int = 100,
        weight: Array | None = None,
    ) -> ConditionalCdf:
        """Fit to background jets.

        Parameters
        ----------
        score : ndarray, shape (J,)
        mass : ndarray, shape (J,), GeV
        pt : ndarray, shape (J,), GeV, optional
            Without it the map knows the mass alone.
        mass_bins, pt_bins : int
            Of equal width in the logarithm, from the lowest to the highest value.
        min_jets : int
            Bins with fewer (effective) jets are joined to their neighbours.
        weight : ndarray, shape (J,), optional
            Of any sign; F is the share of the weights, and does not fall where negative ones let it.

        Raises
        ------
        MetricError
            If a number is not finite, a mass or pT is negative, the weights add up to 0 or less, or there are fewer
            jets than `min_jets`.
        """
        score, mass, pt = _checked(score, mass, pt)
        w = np.ones(len(score)) if weight is None else in_units_of_the_least(checked_weights(weight, len(score)))
        if mass_bins < 1 or pt_bins < 1 or min_jets < 2:
            raise MetricError(
                f"a conditional CDF needs a bin or more and two jets or more per bin, found {mass_bins} mass bins, "
                f"{pt_bins} pT bins, {min_jets} jets"
            )
        number = float(effective_number(w.sum(), (w**2).sum()))
        if number < min_jets:
            raise MetricError(
                f"a conditional CDF needs {min_jets} background jets per bin, found {number:.10g} in all; take more "
                "jets or lower min_jets"
            )
        mass_edges = _edges(mass, mass_bins, min_jets, w)
        mass_bin_J = np.searchsorted(mass_edges, mass, side="right")
        pt_edges: list[Array] = []
        scores: list[Array] = []
        quantiles: list[Array] = []
        for i in range(len(mass_edges) + 1):
            here_J = mass_bin_J == i
            edges = np.empty(0) if pt is None else _edges(pt[here_J], pt_bins, min_jets, w[here_J])
            pt_bin = (
                np.zeros(int(here_J.sum()), np.int64) if pt is None else np.searchsorted(edges, pt[here_J], "right")
            )
            pt_edges.append(edges)
            for k in range(len(edges) + 1):
                support, quantile = _empirical(score[here_J][pt_bin == k], w[here_J][pt_bin == k])
                scores.append(support)
                quantiles.append(quantile)
        return cls(mass_edges, tuple(pt_edges), tuple(scores), tuple(quantiles))

    @property
    def num_bins(self) -> int:
        """Bins in (mass, pT)."""
        return len(self.scores)

    def bin_of(self, mass: Array, pt: Array | None = None) -> Array:
        """Number of the bin of every jet, shape (J,)."""
        starts = np.concatenate([[0], np.cumsum([len(edges) + 1 for edges in self.pt_edges])])
        mass_bin_J = np.searchsorted(self.mass_edges, mass, side="right")
        number_J = starts[mass_bin_J]
        for i, edges in enumerate(self.pt_edges):
            if len(edges):
                if pt is None:
                    raise MetricError("this conditional CDF was fitted in mass and pT; the pT is missing")
                here_J = mass_bin_J == i
                number_J[here_J] += np.searchsorted(edges, pt[here_J], side="right")
        return np.asarray(number_J)

    def __call__(self, score: Array, mass: Array, pt: Array | None = None) -> Array:
        """Quantiles u in (0, 1) of jets of any class, shape (J,); large where the score is.

        Raises
        ------
        MetricError
            If a number is not finite, a mass or pT is negative, or the pT is missing.
        """
        score, mass, pt = _checked(score, mass, pt)
        bin_J = self.bin_of(mass, pt)
        out_J = np.empty(len(score))
        for i, (support, quantile) in enumerate(zip(self.scores, self.quantiles)):
            here_J = bin_J == i
            out_J[here_J] = _interpolated(score[here_J], support, quantile)
        return out_J


def cross_fitted(
    score: Array,
    mass: Array,
    is_background: Array,
    pt: Array | None = None,
    event: Array | None = None,
    folds: int = 5,
    seed: int = 1,
    mass_bins: int = 20,
    pt_bins: int = 5,
    min_jets: int = 100,
    weight: Array | None = None,
) -> Array:
    """Quantiles of all jets, each by a `ConditionalCdf` of background jets of the other folds.

    Parameters
    ----------
    score, mass : ndarray, shape (J,)
    is_background : ndarray, shape (J,), bool
        Only these are fitted.
    pt : ndarray, shape (J,), GeV, optional
    event : ndarray, shape (J,), int, optional
        Jets with the same number are in the same fold; by default every jet stands for itself.
    folds : int
        Two or more. A jet's fold is a hash of `seed` and its event.
    seed : int
    mass_bins, pt_bins, min_jets : int
        See `ConditionalCdf.fit`.
    weight : ndarray, shape (J,), optional
        Of all jets; those of the background count.

    Returns
    -------
    ndarray, shape (J,)
        In (0, 1).

    Raises
    ------
    MetricError
        See `ConditionalCdf.fit`; or if there are fewer than two folds.
    """
    if folds < 2:
        raise MetricError(f"cross-fitting needs two folds or more, found {folds}")
    score, mass, pt = _checked(score, mass, pt)
    is_background = np.asarray(is_background, dtype=bool)
    number = np.arange(len(score)) if event is None else np.asarray(event)
    salt = mixed(np.array([seed], np.uint64))
    fold_J = mixed(number.astype(np.uint64) + salt) % np.uint64(folds)
    out_J = np.empty(len(score))
    for k in range(folds):
        here_J = fold_J == k
        if not here_J.any():
            continue
        fitted_J = is_background & ~here_J
        of_pt = (None, None) if pt is None else (pt[fitted_J], pt[here_J])
        w = None if weight is None else np.asarray(weight)[fitted_J]
        cdf = ConditionalCdf.fit(score[fitted_J], mass[fitted_J], of_pt[0], mass_bins, pt_bins, min_jets, w)
        out_J[here_J] = cdf(score[here_J], mass[here_J], of_pt[1])
    return out_J


def _checked(score: Array, mass: Array, pt: Array | None) -> tuple[Array, Array, Array | None]:
    found: list[Array] = []
    for name, x in (("scores", score), ("masses", mass), ("pT values", pt)):
        if x is None:
            continue
        values = np.asarray(x, dtype=np.float64)
        if not np.isfinite(values).all():
            raise MetricError(f"{int((~np.isfinite(values)).sum())} of {len(values)} {name} are not finite")
        if name != "scores" and (values < 0).any():
            raise MetricError(f"{int((values < 0).sum())} of {len(values)} {name} are negative")
        if found and values.shape != found[0].shape:
            raise MetricError(f"there are {len(found[0])} scores but {len(values)} {name}")
        found.append(values)
    return found[0], found[1], found[2] if pt is not None else None


def _edges(x: Array, bins: int, min_jets: int, weight: Array) -> Array:
    """Inner edges of equal width in log x; those that would close a bin with fewer than `min_jets` are dropped."""
    # a massless jet is in the first bin
    log_x = np.log(np.maximum(x, 1e-3))
    order = np.argsort(log_x, kind="stable")
    candidates = np.linspace(log_x.min(), log_x.max(), bins + 1)[1:-1]
    below = np.searchsorted(log_x[order], candidates, side="left")
    sums_2J = np.stack([np.append(0.0, np.cumsum(y[order])) for y in (weight, weight**2)])
    kept: list[float] = []
    last = 0
    for edge, count in zip(candidates, below):
        between, beyond = sums_2J[:, count] - sums_2J[:, last], sums_2J[:, -1] - sums_2J[:, count]
        if effective_number(*between) >= min_jets and effective_number(*beyond) >= min_jets:
            kept.append(float(np.exp(edge)))
            last = int(count)
    return np.array(kept)


def _empirical(score: Array, weight: Array) -> tuple[Array, Array]:
    """Distinct scores and their mid-ranks over n + 1, strictly inside (0, 1); weights count jets."""
    support, number = np.unique(score, return_inverse=True)
    count = np.bincount(number, weight)
    below, total = np.cumsum(count), count.sum()
    quantile = (below - (count - 1) / 2) / (total + 1)
    # without negative weights this changes nothing
    least = 0.5 / (total + 1)
    return support, np.maximum.accumulate(np.clip(quantile, least, 1 - least))


def _interpolated(score: Array, support: Array, quantile: Array) -> Array:
    """Linear between support points; beyond them the rest of the probability, falling off without an end."""
    width = float(support[-1] - support[0]) or 1.0
    u = np.interp(score, support, quantile)
    above = np.maximum(score - support[-1], 0.0) / width
    below = np.maximum(support[0] - score, 0.0) / width
    u = np.where(above > 0, 1 - (1 - quantile[-1]) / (1 + above), u)
    return np.asarray(np.where(below > 0, quantile[0] / (1 + below), u))
