"""Systematic uncertainty of the background rejection from varied samples, the ATLAS recipe as a table of its own.

A `Scheme` says which variations there are, which are envelopes of one another and which class of jets each replaces;
`measure` turns scored samples into rejections and relative uncertainties, inclusive and in bins of the jet pT. The
total relative uncertainty at one signal efficiency is what arXiv:2407.20127 calls resilience.
"""

# Shapes: J jets of a sample, K = 1 + bins (inclusive first), R = 1 + replicas (the measured value first).

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from jetsweep.metrics._bootstrap import Sample, rejections, spread
from jetsweep.metrics.classification import Array

NOMINAL = "nominal"
Replaces = Literal["both", "signal", "background"]


class Measurement(NamedTuple):
    """One rejection that a scheme needs: the jets, or the event weight, of a sample in place of the nominal ones.

    Parameters
    ----------
    sample : str
        `NOMINAL`, or the name of a varied sample.
    replaces : str
        Class whose jets come from `sample` (or carry its weights); the other class is nominal.
    weight : int or None
        Event weights w_k / w_0 of this index k instead of 1.
    """

    sample: str
    replaces: Replaces = "both"
    weight: int | None = None


class Variation(NamedTuple):
    """A relative difference |rejection(varied) / rejection(reference) - 1|."""

    varied: Measurement
    reference: Measurement = Measurement(NOMINAL)


@dataclass(frozen=True)
class Group:
    """Sources of uncertainty that are quoted as one.

    Parameters
    ----------
    name : str
    kind : str
        ``experimental`` or ``theory``.
    envelopes : tuple of tuple of Variation
        The largest difference of each inner tuple counts; these are added in quadrature.
    measured_below : float or None
        GeV: bins that end above it take the largest value of those that do not.
    """

    name: str
    kind: Literal["experimental", "theory"]
    envelopes: tuple[tuple[Variation, ...], ...]
    measured_below: float | None = None

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """All rejections that the group needs, each once."""
        pairs = (m for envelope in self.envelopes for v in envelope for m in v)
        return tuple(dict.fromkeys(pairs))

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of the varied samples that the group needs."""
        return tuple(dict.fromkeys(m.sample for m in self.measurements if m.sample != NOMINAL))

    @property
    def needs_weights(self) -> bool:
        """Whether event weights of the nominal sample are needed."""
        return any(m.weight is not None for m in self.measurements)


@dataclass(frozen=True)
class Scheme:
    """What an experiment states about the uncertainty of a tagger.

    Parameters
    ----------
    name : str
    groups : tuple of Group
    edges : tuple of float
        Of the pT bins, GeV; a bin holds its lower edge and not its upper one.
    efficiency : float
        Signal efficiency at which rejections are taken, anew in every bin.
    paired : tuple of str
        Varied samples that hold the nominal events: they are resampled together.
    """

    name: str
    groups: tuple[Group, ...]
    edges: tuple[float, ...]
    efficiency: float = 0.5
    paired: tuple[str, ...] = ()


def _nominal_against(*samples: str) -> tuple[Variation, ...]:
    return tuple(Variation(Measurement(name)) for name in samples)


def _pair(varied: str, reference: str, replaces: Replaces) -> tuple[Variation, ...]:
    return (Variation(Measurement(varied, replaces), Measurement(reference, replaces)),)


def _scale(replaces: Replaces, *weights: int) -> tuple[Variation, ...]:
    return tuple(Variation(Measurement(NOMINAL, replaces, k)) for k in weights)


_CLUSTER = (_nominal_against("esup", "esdown"), _nominal_against("cer"), _nominal_against("cpos"))
_TRACK = (_nominal_against("teg", "tej"), _nominal_against("tfl", "tfj"), _nominal_against("bias"))
_BACKGROUND = (_pair("dipole", "angular", "background"), _pair("cluster", "string", "background"))
# weights 4, 9: initial state times 2, 1/2; 6, 7: final state
_SCALE = (
    _scale("signal", 4, 9), _scale("signal", 6, 7), _scale("background", 4, 9), _scale("background", 6, 7),
)  # fmt: skip

ATLAS_TOP_TAGGING = Scheme(
    name="ATLAS top tagging, arXiv:2407.20127",
    groups=(
        Group("cluster", "experimental", _CLUSTER),
        Group("track", "experimental", _TRACK),
        # Standard Model top pairs run out of jets at 1.5 TeV
        Group("signal_model", "theory", (_pair("ttbar_herwig", "ttbar_pythia", "signal"),), measured_below=1500.0),
        Group("background_model", "theory", _BACKGROUND),
        Group("scale", "theory", _SCALE),
    ),
    edges=tuple(float(x) for x in np.linspace(350.0, 3150.0, 15)),
    paired=("esup", "esdown", "cer", "cpos", "teg", "tej", "tfl", "tfj", "bias"),
)


def relative_uncertainties(
    groups: tuple[Group, ...], rejection: Mapping[Measurement, Array], edges: tuple[float, ...]
) -> dict[str, Array]:
    """The algebra of a scheme on rejections that are known.

    Parameters
    ----------
    groups : tuple of Group
    rejection : mapping of Measurement to ndarray, shape (..., K)
        Inclusive first, then the bins; NaN where it could not be measured, which gives NaN.
    edges : tuple of float, GeV
        Of the K - 1 bins.

    Returns
    -------
    dict of str to ndarray, shape (..., K)
        Relative uncertainty of each group, and their quadratic sum ``total``.
    """
    found: dict[str, Array] = {}
    for group in groups:
        squares = [
            np.max([np.abs(rejection[v.varied] / rejection[v.reference] - 1.0) for v in envelope], axis=0) ** 2
            for envelope in group.envelopes
        ]
        value = np.sqrt(np.sum(squares, axis=0))
        if group.measured_below is not None:
            value = _extrapolated(value, np.asarray(edges[1:]) <= group.measured_below)
        found[group.name] = value
    found["total"] = np.sqrt(np.sum([x**2 for x in found.values()], axis=0))
    return found


def _extrapolated(value: Array, is_measured: Array) -> Array:
    """The largest of the measured bins in all others; the inclusive value stays."""
    measured = value[..., 1:][..., is_measured]
    largest = np.where(np.isnan(measured), -np.inf, measured).max(axis=-1, initial=-np.inf)
    out = value.copy()
    out[..., 1:][..., ~is_measured] = np.where(np.isfinite(largest), largest, np.nan)[..., None]
    return out


@dataclass(frozen=True)
class Systematics:
    """Rejections and relative uncertainties of one tagger; entry 0 is inclusive, the others are the bins of pT.

    Parameters
    ----------
    scheme : Scheme
    rejection, rejection_error : ndarray, shape (K,)
        At the scheme's signal efficiency; NaN where a class has no jets or no background jet passes.
    uncertainty, uncertainty_error : dict of str to ndarray, shape (K,)
        Relative uncertainty of each group and ``total``, and its statistical error.
    num_jets : ndarray, shape (K,), int
        Nominal jets.
    left_out : dict of str to str
        Groups without samples, which ``total`` does not contain, and why.
    shared_events : dict of str to float
        Share of a paired sample's events that are nominal events too.
    """

    scheme: Scheme
    rejection: Array
    rejection_error: Array
    uncertainty: dict[str, Array]
    uncertainty_error: dict[str, Array]
    num_jets: Array
    left_out: dict[str, str] = field(default_factory=dict)
    shared_events: dict[str, float] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups that were measured."""
        return tuple(group for group in self.scheme.groups if group.name in self.uncertainty)

    def of_kind(self, kind: str) -> Array:
        """Quadratic sum of the groups of a kind, shape (K,)."""
        parts = [self.uncertainty[group.name] ** 2 for group in self.groups if group.kind == kind]
        return np.asarray(np.sqrt(np.sum(parts, axis=0))) if parts else np.zeros(len(self.rejection))

    @property
    def bins(self) -> tuple[str, ...]:
        """Names of the K entries."""
        edges = self.scheme.edges
        return ("inclusive", *(f"{low:g}-{high:g}" for low, high in pairwise(edges)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Groups whose inclusive uncertainty is smaller than its own statistical error."""
        return tuple(
            f"{name}: {self.uncertainty[name][0]:.2%} is within its statistical error of {error[0]:.2%}; "
            "take more jets before believing it"
            for name, error in self.uncertainty_error.items()
            if name != "total" and error[0] > self.uncertainty[name][0]
        )

    def rows(self) -> list[dict[str, float | int | str]]:
        """One row per entry, for tables: rejection, its relative statistical error, every group and its error."""
        rows: list[dict[str, float | int | str]] = []
        for i, name in enumerate(self.bins):
            row: dict[str, float | int | str] = {"pt": name, "jets": int(self.num_jets[i])}
            row["rejection"], row["rejection_error"] = float(self.rejection[i]), float(self.rejection_error[i])
            for group in self.uncertainty:
                row[group] = float(self.uncertainty[group][i])
                row[f"{group}_error"] = float(self.uncertainty_error[group][i])
            rows.append(row)
        return rows


def measure(
    scheme: Scheme,
    samples: Mapping[str, Sample],
    replicas: int = 100,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Systematics:
    """Measure everything that a scheme asks for with the samples that are there.

    The statistical errors are standard deviations over bootstrap replicas. A replica draws events: an event has the
    same number of copies in the nominal sample and in all paired ones, so that differences keep their correlation.

    Parameters
    ----------
    scheme : Scheme
    samples : mapping of str to Sample
        `NOMINAL` and any of the scheme's varied samples.
    replicas : int
        Bootstrap replicas, two or more; 0 for none, then all errors are NaN.
    seed : int
    progress : callable, optional
        Called with (rejections done, rejections in all).

    Returns
    -------
    Systematics

    Raises
    ------
    ValueError
        If a group has some of its samples but not all, a paired sample holds other events than the nominal one, or
        a sample lacks the class it stands for; or no group can be measured.
    """
    if replicas < 2 and replicas != 0:
        raise ValueError(f"a bootstrap needs two replicas or more, found {replicas}")
    nominal = samples[NOMINAL]
    groups, left_out = _measurable(scheme, samples)
    if not groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(f"no uncertainty can be measured ({reasons})")
    shared = {
        name: _shared_events(name, samples[name], nominal)
        for g in groups
        for name in g.samples
        if name in scheme.paired
    }
    wanted = list(dict.fromkeys([Measurement(NOMINAL), *(m for group in groups for m in group.measurements)]))
    edges = np.asarray(scheme.edges)
    measured: dict[Measurement, Array] = {}
    for done, what in enumerate(wanted):
        measured[what] = rejections(_assembled(what, samples, scheme), edges, scheme.efficiency, replicas, seed)
        if progress is not None:
            progress(done + 1, len(wanted))
    found = relative_uncertainties(groups, measured, scheme.edges)
    rejection_RK = measured[Measurement(NOMINAL)]
    counts = np.histogram(nominal.pt, _half_open(edges))[0]
    return Systematics(
        scheme,
        rejection_RK[0],
        spread(rejection_RK[1:]),
        {name: x[0] for name, x in found.items()},
        {name: spread(x[1:]) for name, x in found.items()},
        np.concatenate([[len(nominal.pt)], counts]),
        left_out,
        shared,
    )


def _half_open(edges: Array) -> Array:
    """Edges for numpy's histogram, whose last bin is closed."""
    return np.append(edges[:-1], np.nextafter(edges[-1], -np.inf))


def _measurable(scheme: Scheme, samples: Mapping[str, Sample]) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Groups with all they need; those with nothing are left out, those with a part are an error."""
    groups: list[Group] = []
    left_out: dict[str, str] = {}
    for group in scheme.groups:
        missing = [name for name in group.samples if name not in samples]
        if missing and len(missing) < len(group.samples):
            there = ", ".join(name for name in group.samples if name in samples)
            raise ValueError(
                f"uncertainty {group.name!r}: the sample {missing[0]!r} is missing, expected all of "
                f"{', '.join(group.samples)}, found {there}"
            )
        if missing:
            left_out[group.name] = f"no samples {', '.join(missing)}"
        elif group.needs_weights and samples[NOMINAL].weights is None:
            left_out[group.name] = "no event weights in the nominal sample"
        else:
            groups.append(group)
    return tuple(groups), left_out


def _shared_events(name: str, sample: Sample, nominal: Sample) -> float:
    share = float(np.isin(sample.event, nominal.event).mean())
    if share == 0.0:
        raise ValueError(
            f"the varied sample {name!r} and the nominal one have no event number in common; it is no variation of them"
        )
    return share


def _assembled(what: Measurement, samples: Mapping[str, Sample], scheme: Scheme) -> Sample:
    """Jets and weights of one measurement; `family` keeps unrelated samples apart in the bootstrap."""
    nominal, sample = samples[NOMINAL], samples[what.sample]
    if what.weight is not None:
        return sample.weighted(what.weight, None if what.replaces == "both" else what.replaces == "signal")
    if what.sample != NOMINAL and what.sample not in scheme.paired:
        sample = sample.of_family(what.sample)
    if what.replaces == "both":
        return sample
    is_signal = what.replaces == "signal"
    own = sample.take(sample.is_signal == is_signal)
    if len(own.pt) == 0:
        raise ValueError(f"the sample {what.sample!r} has no {what.replaces} jets")
    return own.joined(nominal.take(nominal.is_signal != is_signal))
