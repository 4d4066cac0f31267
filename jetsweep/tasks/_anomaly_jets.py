"""Scores of one split with the roles of its classes: what the figures of an anomaly search are measured on."""

# Shapes: J jets, L latents, E cuts, M scores.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics import (
    MassJsd,
    RocCurve,
    Sculpting,
    SicCurve,
    SignalMatrix,
    TradeOff,
    cut_threshold,
    effective_number,
    rejection_and_sculpting,
    roc_curve,
    sculpting,
    sic_curve,
    signal_matrix,
)

SCORE, DECORRELATED = "score_", "_cdf"
"""Begins the name of an array that is a score, and ends the name of a score after the conditional CDF."""

CUTS = (0.5, 0.1, 0.05, 0.01)
"""Background efficiencies of the mass histograms."""

MIN_JETS = 10
"""Background jets that must pass a cut for its mass spectrum to be shown."""

ACTIVE_NATS = 0.01
"""Mean divergence of a latent above which it tells something about the jet; below, it collapsed."""

OF_AUTOENCODERS = ("reconstruction", "kl", "active_latents")
"""Metrics that a density model does not have."""

_GRID = 16


@dataclass(frozen=True)
class AnomalyJets:
    """Jets of one split, scored.

    Parameters
    ----------
    label : ndarray, shape (J,), int
        Index into `classes`.
    mass : ndarray, shape (J,), GeV
    scores : mapping of str to ndarray, shape (J,)
        By name without the prefix ``score_``; larger means more anomalous.
    classes, background, signals : tuple of str
        All classes in label order; those that are background together; those to show as signals.
    main : str
        The score that stands for the model.
    latent_kl : ndarray, shape (J, L), or None
        Divergence of every latent from its prior, in nats.
    weight : ndarray, shape (J,), or None
        Weight of each jet, 1 if None.
    """

    label: np.ndarray
    mass: np.ndarray
    scores: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    background: tuple[str, ...]
    signals: tuple[str, ...]
    main: str
    latent_kl: np.ndarray | None = None
    weight: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, np.ndarray],
        classes: Sequence[str],
        background: Sequence[str],
        signals: Sequence[str],
        main: str,
    ) -> AnomalyJets:
        """From the arrays that the task's evaluator keeps.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            ``label``, ``mass``, ``score_<name>`` for every score and, with a latent space, ``latent_kl``; ``weight``
            where jets have weights.
        classes, background, signals : sequence of str
            Signals that the split lacks are left out.
        main : str
            Score without its prefix; the first one if there is none of that name.
        """
        label = arrays["label"]
        scores = {name.removeprefix(SCORE): x for name, x in arrays.items() if name.startswith(SCORE)}
        present = {classes[i] for i in np.unique(label)}
        return cls(
            label,
            arrays["mass"],
            scores,
            tuple(classes),
            tuple(background),
            tuple(name for name in signals if name in present),
            main if main in scores else next(iter(scores)),
            arrays.get("latent_kl"),
            arrays.get("weight"),
        )

    @property
    def before_and_after(self) -> tuple[str, ...]:
        """The main score before and after the conditional CDF, as far as they are there."""
        plain = self.main.removesuffix(DECORRELATED)
        return tuple(name for name in (plain, plain + DECORRELATED) if name in self.scores)

    @cached_property
    def is_background(self) -> np.ndarray:
        """Mask, shape (J,)."""
        return np.isin(self.label, [self.classes.index(name) for name in self.background])

    @property
    def num_background(self) -> float:
        """(Effective) number of background jets."""
        w = self.weight_of(self.is_background)
        return float(self.is_background.sum() if w is None else effective_number(w.sum(), (w**2).sum()))

    def is_class(self, name: str) -> np.ndarray:
        """Mask of the jets of one class, shape (J,)."""
        return np.asarray(self.label == self.classes.index(name))

    def weight_of(self, chosen: np.ndarray) -> np.ndarray | None:
        """Weights of the jets of a mask, None where all are 1."""
        return None if self.weight is None else self.weight[chosen].astype(np.float64)

    def mean_kl(self, chosen: np.ndarray) -> np.ndarray:
        """Mean divergence of every latent over the jets of a mask, shape (L,), in nats."""
        assert self.latent_kl is not None, "asked for with a latent space only"
        kl_JL = self.latent_kl[chosen].astype(np.float64)
        return np.asarray(np.average(kl_JL, axis=0, weights=self.weight_of(chosen)))

    def roc(self, signal: str, score: str | None = None) -> RocCurve:
        """ROC curve of a signal against the background; `score` is the main one if not given."""
        is_signal = self.is_class(signal)
        used = is_signal | self.is_background
        return roc_curve(self.scores[score or self.main][used], is_signal[used], self.weight_of(used))

    def sic(self, signal: str, score: str | None = None) -> SicCurve:
        """Significance improvement of a signal; `score` is the main one if not given."""
        return sic_curve(self.roc(signal, score))

    def sculpting(
        self, score: str | None = None, efficiencies: Sequence[float] = CUTS, measure: MassJsd | None = None
    ) -> Sculpting:
        """Mass spectra of the background after those cuts that leave enough jets.

        Raises
        ------
        MetricError
            If the loosest cut leaves too few.
        """
        chosen = self.is_background
        values, weight = self.scores[score or self.main][chosen], self.weight_of(chosen)

        def leaves_enough(efficiency: float) -> bool:
            try:
                cut_threshold(values, efficiency, MIN_JETS, weight)
            except MetricError:
                return False
            return True

        kept = tuple(filter(leaves_enough, efficiencies)) or (max(efficiencies),)
        return sculpting(values, self.mass[chosen], measure, kept, MIN_JETS, weight=weight)

    def scan(self, score: str | None = None, measure: MassJsd | None = None) -> Sculpting:
        """Sculpting on a grid of background efficiencies from that of `MIN_JETS` jets, but 1e-4 at least, to 0.9."""
        grid = np.geomspace(min(0.5, max(MIN_JETS / max(1.0, self.num_background), 1e-4)), 0.9, _GRID)
        return self.sculpting(score, tuple(grid.tolist()), measure)

    def trade_off(self, signal: str, score: str | None = None, measure: MassJsd | None = None) -> TradeOff:
        """Rejection and inverse JSD at a signal efficiency of 0.5."""
        is_signal = self.is_class(signal)
        used = is_signal | self.is_background
        return rejection_and_sculpting(
            self.scores[score or self.main][used],
            is_signal[used],
            self.mass[used],
            measure,
            min_jets=MIN_JETS,
            weight=self.weight_of(used),
        )

    def matrix(self, figure: Callable[[RocCurve], float] = lambda roc: roc.area) -> SignalMatrix:
        """Figure of merit of every score on every signal against all background classes together."""
        background = "background" if len(self.background) > 1 else self.background[0]
        names = np.array([background if name in self.background else name for name in self.classes])
        return signal_matrix(self.scores, names[self.label], background, figure, self.signals, self.weight)
