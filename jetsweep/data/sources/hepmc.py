"""HepMC files of any generator: final particles clustered into jets (extra `hepmc`)."""

# Shapes: E events of a slice, R their jets, N constituents of all jets, V visible particles of all events.

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._events import OWN_NAMES, offsets_of
from jetsweep.data.sources._expressions import ColumnExpression
from jetsweep.data.sources._hepmc_events import RESONANCES, SUFFIXES, Event, count_events, read_events
from jetsweep.data.sources._jets import FLAGS, P4, Jets, flags_of_ids, jet_scalars
from jetsweep.data.sources._own_files import OwnFileOptions, OwnFileSource
from jetsweep.data.sources._ragged import checked_weights
from jetsweep.errors import DataError

TRUTH = ("parton", "resonance")
PLAUSIBLE_ENERGY = (20.0, 3e5)
"""GeV that the final particles of an event may carry, if nothing is said about units."""


class HepMCOptions(OwnFileOptions):
    """Options of the source `hepmc`."""

    name: Literal["hepmc"] = "hepmc"
    jets: PositiveInt | None = Field(None, description="Most jets in all, every file in proportion to its events.")
    algorithm: Literal["antikt", "cambridge", "kt"] = Field("antikt", description="Clustering algorithm.")
    radius: PositiveFloat = Field(0.8, description="Radius of the jets.")
    min_pt: NonNegativeFloat = Field(200.0, description="Smallest pT of a jet, GeV.")
    max_pt: PositiveFloat | None = Field(None, description="Largest pT of a jet, GeV.")
    max_eta: PositiveFloat = Field(2.5, description="Largest absolute pseudorapidity of a jet.")
    leading: PositiveInt | None = Field(None, description="Only so many hardest jets of an event, before the cuts.")
    invisible: list[int] = Field(
        [12, 14, 16], description="Absolute PDG ids of final particles that are left out: neutrinos."
    )
    match_radius: PositiveFloat | None = Field(None, description="Largest distance in truth matching; default: radius.")
    units: Literal["GeV", "MeV"] | None = Field(None, description="Unit of momenta; default: as the file states.")

    @model_validator(mode="after")
    def _known_names(self) -> HepMCOptions:
        if self.max_pt is not None and self.max_pt <= self.min_pt:
            raise ValueError(f"max_pt: expected more than min_pt = {self.min_pt:g}, found {self.max_pt:g}")
        unknown = [x for x in names_in(self) if x not in (*OWN_NAMES, *TRUTH, "weight")]
        if unknown:
            known = ", ".join((*OWN_NAMES, *TRUTH, "weight"))
            raise ValueError(f"there is no {unknown[0]!r}; label and select know {known}")
        return self


@register_source
class HepMCSource(OwnFileSource):
    """Events in slices, clustered with our own jet finder; `source_row` counts the file's jets after the cuts."""

    config: HepMCOptions
    options: ClassVar[type[SourceOptions]] = HepMCOptions
    description = "HepMC2 or HepMC3 events of any generator, clustered into jets (extra `hepmc`)."
    suffixes = SUFFIXES
    slice_rows = 200  # events

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "pdg_id", "charge", *FLAGS)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, "weight", "event_number")

    def provenance(self) -> dict[str, Any]:
        config = self.config
        return super().provenance() | {
            "clustering": f"{config.algorithm}, R = {config.radius}, jetsweep's own",
            "cuts": config.model_dump(include={"min_pt", "max_pt", "max_eta", "leading"}),
            "conventions": "final particles (status 1) with their masses, without those of `invisible`; weight: the "
            "first of the event, which is the nominal one",
            "matching": f"within {config.match_radius or config.radius}: parton, the hardest quark or gluon of the "
            "record; resonance, the first of t, H, W, Z that is inside with all its decay products",
        }

    @property
    def total(self) -> int | None:
        return self.config.jets

    def limits(self, counts: Sequence[int]) -> list[int]:
        return [sys.maxsize] * len(counts) if self.config.jets is None else super().limits(counts)

    def count(self, path: Path) -> int:
        return count_events(path)

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        scale = None if self.config.units is None else {"GeV": 1.0, "MeV": 1e-3}[self.config.units]
        events = read_events(path, self.config.invisible, scale, "resonance" in names_in(self.config))
        while rows and (some := list(itertools.islice(events, self.slice_rows))):
            if self.config.units is None:
                _check_energy([event.total_energy for event in some], path)
            jets, truth = self._clustered(some)
            if len(jets) > rows:
                keep = np.arange(len(jets)) < rows
                jets, truth = jets.take_jets(keep), {name: x[keep] for name, x in truth.items()}
            rows -= len(jets)
            checked_weights(jets.scalars["weight"], "of the events", path)
            known = {**jets.scalars, **truth, "num_constituents": np.diff(jets.offsets)}

            def value(text: str, known: dict[str, np.ndarray] = known, size: int = len(jets)) -> np.ndarray:
                return np.broadcast_to(ColumnExpression(text)(known.__getitem__), size)

            yield self.chosen(jets, value, path)

    def _clustered(self, events: list[Event]) -> tuple[Jets, dict[str, np.ndarray]]:
        """Jets inside the cuts, hardest first in each event, and what they match."""
        from jetsweep.physics.clustering import cluster

        config = self.config
        num_E = np.array([len(event.pdg_id) for event in events])
        p4_V4 = np.concatenate([event.p4 for event in events])
        id_V = np.concatenate([event.pdg_id for event in events])
        found = cluster(p4_V4, offsets_of(num_E), config.algorithm, config.radius).inclusive(config.min_pt)
        event_R = np.repeat(np.arange(len(events)), np.diff(found.offsets))
        place_V = found.constituent_jet()
        # jets of an event by falling pT, which is their new number
        pt_R, eta_R, phi_R = _pt_eta_phi(found.p4)
        order_R = np.lexsort((-pt_R, event_R))
        rank_R = np.empty_like(order_R)
        rank_R[order_R] = np.arange(len(order_R))
        jet_V = np.repeat(found.offsets[:-1], num_E) + place_V
        inside_V = np.flatnonzero(place_V >= 0)
        inside_V = inside_V[np.argsort(rank_R[jet_V[inside_V]], kind="stable")]
        event_R, pt_R, eta_R, phi_R = (x[order_R] for x in (event_R, pt_R, eta_R, phi_R))
        offsets = offsets_of(np.bincount(rank_R[jet_V[inside_V]], minlength=len(order_R)))

        place_R = np.arange(len(event_R)) - found.offsets[event_R]
        keep_R = (np.abs(eta_R) < config.max_eta) & (pt_R < (config.max_pt or np.inf))
        keep_R &= place_R < (config.leading or len(place_R) + 1)
        values: dict[str, np.ndarray] = {n: p4_V4[inside_V, i].astype(np.float32) for i, n in enumerate(P4)}
        values |= {"pdg_id": id_V[inside_V], **flags_of_ids(id_V[inside_V])}
        number = np.arange(len(event_R))
        jets = Jets(values, offsets, np.zeros_like(number), number).take_jets(keep_R)
        jets.source_row = np.arange(len(jets))
        event_R, eta_R, phi_R = event_R[keep_R], eta_R[keep_R], phi_R[keep_R]
        jets.scalars = jet_scalars(jets)
        jets.scalars["weight"] = np.array([event.weight for event in events], np.float32)[event_R]
        jets.scalars["event_number"] = np.array([event.number for event in events], np.int64)[event_R]
        radius = config.match_radius or config.radius
        matched = [_match(events[e], eta, phi, radius) for e, eta, phi in zip(event_R, eta_R, phi_R)]
        truth = np.array(matched, np.int64).reshape(-1, len(TRUTH))
        return jets, {name: truth[:, i] for i, name in enumerate(TRUTH)}


def names_in(config: HepMCOptions) -> list[str]:
    """Names that the label and the selection mention."""
    label = config.label
    texts = (config.select, label.column, *(label.columns or {}).values())
    return [name for text in texts if text is not None for name in ColumnExpression(text).names]


def _match(event: Event, eta: float, phi: float, radius: float) -> tuple[int, int]:
    """Absolute PDG ids of the hardest parton and of the resonance inside the jet, 0 where there is none."""

    def is_near(p4: np.ndarray) -> np.ndarray:
        _, eta_Q, phi_Q = _pt_eta_phi(p4)
        return np.asarray(np.hypot(eta_Q - eta, (phi_Q - phi + np.pi) % (2 * np.pi) - np.pi) < radius)

    p4_Q4, id_Q = event.partons
    near_Q = np.flatnonzero(is_near(p4_Q4))
    pt_Q = np.hypot(p4_Q4[near_Q, 0], p4_Q4[near_Q, 1])
    parton = int(id_Q[near_Q[np.argmax(pt_Q)]]) if len(near_Q) else 0
    inside = {pdg_id for pdg_id, p4 in event.resonances if is_near(p4).all()}
    return parton, next((x for x in RESONANCES if x in inside), 0)


def _pt_eta_phi(p4: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pt = np.hypot(p4[:, 0], p4[:, 1])
    return pt, np.arcsinh(p4[:, 2] / np.maximum(pt, 1e-9)), np.arctan2(p4[:, 1], p4[:, 0])


def _check_energy(energies: list[float], path: Path) -> None:
    low, high = PLAUSIBLE_ENERGY
    median = float(np.median(energies))
    if not low < median < high:
        other = "MeV" if median >= high else "GeV"
        raise DataError(
            f"{path}: the final particles of an event carry {median:.3g} GeV by the unit that the file states; are the "
            f"momenta in {other}? then write units: {other}"
        )
