"""Background rejections of one sample and of its bootstrap replicas, inclusive and in half-open bins of the jet pT."""

# Shapes: J jets, K = 1 + bins (inclusive first), R = 1 + replicas (all weights 1 first).

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from jetsweep.metrics.classification import Array

_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 16)]))
"""Distribution function of the Poisson law of mean 1."""


@dataclass(frozen=True)
class Sample:
    """Scored jets.

    Parameters
    ----------
    score : ndarray, shape (J,)
        Larger means more signal-like.
    is_signal : ndarray, shape (J,), bool
    pt : ndarray, shape (J,), GeV
        As it is binned: of the nominal jet in varied samples too.
    event : ndarray, shape (J,), int
        Jets of one class with the same number, in samples that share their events, are resampled together.
    weights : ndarray, shape (J, W), or None
        Event weights, nominal first.
    weight : ndarray, shape (J,), or None
        Weight of each jet, 1 if None.
    family : ndarray, shape (J,), uint32, or None
        Events of different families are unrelated even if their numbers agree; all 0 if None.
    """

    score: Array
    is_signal: Array
    pt: Array
    event: Array
    weights: Array | None = None
    weight: Array | None = None
    family: Array | None = None

    def take(self, keep: Array) -> Sample:
        """Jets where the mask `keep` (J,) is true."""
        columns = {name: x[keep] for name, x in vars(self).items() if x is not None}
        return replace(self, **columns)

    def of_family(self, name: str) -> Sample:
        """Make all events unrelated to those of other families."""
        return replace(self, family=np.full(len(self.pt), zlib.crc32(name.encode()), np.uint32))

    def joined(self, other: Sample) -> Sample:
        """Jets of both; event weights are dropped."""

        def both(name: str, default: float = 0.0) -> Array:
            parts = [(s, getattr(s, name)) for s in (self, other)]
            return np.concatenate([np.full(len(s.pt), default) if x is None else x for s, x in parts])

        return Sample(
            score=both("score"),
            is_signal=both("is_signal"),
            pt=both("pt"),
            event=both("event"),
            weight=both("weight", 1.0),
            family=both("family").astype(np.uint32),
        )

    def weighted(self, index: int, signal: bool | None) -> Sample:
        """Jets with their weights times w_index / w_0: of the signal (True), of the background (False), or all (None).

        Raises
        ------
        ValueError
            If a nominal weight is zero or a weight is not finite.
        """
        assert self.weights is not None, "asked for by the scheme only where they are there"
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.weights[:, index].astype(np.float64) / self.weights[:, 0]
        bad = ~np.isfinite(ratio)
        if bad.any():
            raise ValueError(
                f"event weights: w_{index} / w_0 is not finite for {int(bad.sum())} of {len(ratio)} jets; a nominal "
                "weight must not be zero"
            )
        chosen = np.ones(len(ratio), bool) if signal is None else self.is_signal == signal
        weight = np.where(chosen, ratio, 1.0)
        return replace(self, weight=weight if self.weight is None else weight * self.weight)


def rejections(sample: Sample, edges: Array, efficiency: float, replicas: int, seed: int) -> Array:
    """Background rejection at a signal efficiency, of the sample and of its replicas.

    Parameters
    ----------
    sample : Sample
    edges : ndarray, GeV
        Bins are half-open: a jet at an edge is in the upper bin only.
    efficiency : float
        The cut is chosen anew in every bin and replica.
    replicas : int
    seed : int

    Returns
    -------
    ndarray, shape (R, K)
        NaN where a class has no jets or no background passes.
    """
    bin_J = np.searchsorted(edges, sample.pt, side="right")
    chosen = [np.arange(len(sample.pt)), *(np.flatnonzero(bin_J == i) for i in range(1, len(edges)))]
    curves = [_Ordered(sample.score[rows], sample.is_signal[rows], rows) for rows in chosen]
    weight = np.ones(len(sample.pt)) if sample.weight is None else sample.weight
    key = _key(sample)
    out = np.empty((1 + replicas, len(curves)))
    for i in range(1 + replicas):
        copies = weight if i == 0 else weight * poisson_copies(key, seed, i)
        out[i] = [curve.rejection(copies, efficiency) for curve in curves]
    return out


class _Ordered:
    """Jets of one bin sorted once, so that a replica costs two cumulative sums."""

    def __init__(self, score: Array, is_signal: Array, rows: Array) -> None:
        if not np.isfinite(score).all():
            raise ValueError(f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite")
        order = np.argsort(-score, kind="stable")
        self.rows, score = rows[order], score[order]
        self.is_signal = is_signal[order].astype(bool)
        self.last_of_ties = np.append(np.flatnonzero(np.diff(score)), len(score) - 1) if len(score) else order

    def rejection(self, weight_J: Array, efficiency: float) -> float:
        """As `classification.background_rejection` of `classification.roc_curve`, NaN where that is a bound."""
        weight = weight_J[self.rows]
        signal = np.cumsum(np.where(self.is_signal, weight, 0.0))[self.last_of_ties]
        background = np.cumsum(np.where(self.is_signal, 0.0, weight))[self.last_of_ties]
        if len(signal) == 0 or signal[-1] <= 0 or background[-1] <= 0:
            return float("nan")
        wanted = efficiency * signal[-1]
        # linear between the cuts around the efficiency; the first crossing if it lies on a step
        high = int(np.searchsorted(signal, wanted, side="left"))
        if signal[high] == wanted:
            above = background[high]
        else:
            low_s, low_b = (signal[high - 1], background[high - 1]) if high else (0.0, 0.0)
            above = low_b + (background[high] - low_b) * (wanted - low_s) / (signal[high] - low_s)
        return float(background[-1] / above) if above > 0 else float("nan")


def _key(sample: Sample) -> Array:
    """One number per event and class."""
    event = sample.event.astype(np.uint64)
    family = np.uint64(0) if sample.family is None else sample.family.astype(np.uint64)
    return mixed(mixed(event * np.uint64(2) + sample.is_signal.astype(np.uint64)) + family)


def poisson_copies(key: Array, seed: int, replica: int) -> Array:
    """Poisson number of copies of every event in one replica, a function of its key (J,) alone."""
    salt = mixed(np.array([seed * 1_000_003 + replica], np.uint64))
    uniform = mixed(np.asarray(key).astype(np.uint64) + salt) / 2.0**64
    return np.searchsorted(_POISSON, uniform, side="right").astype(np.float64)


def mixed(x: Array) -> Array:
    """Well-mixed 64 bits (splitmix64), the same on every machine."""
    x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def spread(values_RK: Array) -> Array:
    """Standard deviation over the replicas that could be measured, NaN if that is less than half of them."""
    is_there = np.isfinite(values_RK)
    count = is_there.sum(axis=0)
    filled = np.where(is_there, values_RK, 0.0)
    enough = count >= max(2, len(values_RK) / 2)
    safe = np.maximum(count, 1)
    mean = filled.sum(axis=0) / safe
    variance = (np.where(is_there, values_RK - mean, 0.0) ** 2).sum(axis=0) / np.maximum(safe - 1, 1)
    return np.where(enough, np.sqrt(variance), np.nan)
