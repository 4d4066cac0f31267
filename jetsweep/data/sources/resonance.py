"""A bump hunt made into a classification: events of a signal region against a template of its background.

Methods: CWoLa (arXiv:1708.02949, side bands as the template), CATHODE (arXiv:2109.00546, a flow of the side bands that
is sampled into the region), the idealised detector (true background as the template), and the supervised one (truth).
"""

# Shapes: E events.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import Source, register_source
from jetsweep.data.sources._conditional_flow import ConditionalFlow, FlowConfig
from jetsweep.data.sources._jets import Jets, hash_split, row_hash
from jetsweep.data.sources._resonance_events import (
    FEATURES,
    INNER,
    OUTER,
    Events,
    read_lhco,
    toy_background,
    toy_signal,
)
from jetsweep.errors import DataError

TEMPLATE, DATA = 0, 1
_FOLDS = 1_000_003
"""Added to the seed of folds, so that they do not follow train and val."""
TEST_EVENTS = 20_000
"""Of each kind that are made to test on."""


class ResonanceOptions(SourceOptions):
    """Options of the source `resonance`."""

    name: Literal["resonance"] = "resonance"
    events: Literal["toy", "lhco"] = Field(
        "toy",
        description="Synthetic events with side bands, or the LHC Olympics arrays of the CATHODE study in `path`.",
    )
    path: str | None = Field(
        None,
        description=f"lhco: folder of {', '.join(INNER)} and, for the side bands, {OUTER}; without that file they are "
        "what a narrower region leaves out of the first.",
    )
    method: Literal["idealised", "cathode", "cwola", "supervised"] = Field(
        "cathode", description="What the data of the signal region are told from."
    )
    jets: PositiveInt = Field(100_000, description="toy: background events from 2.5 to 5 TeV.")
    signal_events: NonNegativeInt = Field(500, description="toy: signal events among them.")
    region: tuple[PositiveFloat, PositiveFloat] = Field((3300.0, 3700.0), description="Signal region, GeV.")
    oversampling: PositiveFloat = Field(4.0, description="cathode: template events for each event of the region.")
    folds: PositiveInt = Field(
        1, description="Above 1 the data of one fold are left out of train and val, and form the split held-out."
    )
    fold: NonNegativeInt = Field(0, description="Which fold that is: a grid over all of them scores every event once.")
    flow: FlowConfig = Field(FlowConfig(), description="cathode: density of the side bands.")

    @model_validator(mode="after")
    def _fits(self) -> ResonanceOptions:
        if not self.region[0] < self.region[1]:
            raise ValueError(f"region: expected two ascending masses, found {self.region[0]:g} and {self.region[1]:g}")
        if not self.fold < self.folds:
            raise ValueError(f"fold: expected a number below folds: {self.folds}, found {self.fold}")
        if (self.path is None) == (self.events == "lhco"):
            raise ValueError(
                f"path: expected {'a folder' if self.path is None else 'none'} beside events: {self.events}"
            )
        return self


@register_source
class ResonanceSource(Source):
    """Two samples: of `train` and `val` the label says which, of `test` it is the truth, which is used nowhere else.

    In `test`, `template` is true background of the signal region, and `data` true signal.
    """

    options: ClassVar[type[SourceOptions]] = ResonanceOptions
    config: ResonanceOptions
    description = "Events of a resonance search against a template: CWoLa, CATHODE, idealised, supervised."
    classes = ("template", "data")

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return ()

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return ("resonance_mass", *FEATURES, "weight")

    @property
    def total(self) -> int | None:
        return None

    def provenance(self) -> dict[str, Any]:
        lhco = "LHC Olympics R&D features as CATHODE distributes them (Zenodo 4536377)"
        return {
            "generator": lhco if self.config.events == "lhco" else "jetsweep toy resonance (synthetic)",
            "signal_region_GeV": list(self.config.region),
            **self._side_band_files(),
            "train and val": f"data: events of the signal region; template: {self.config.method}",
            "test": "data: true signal; template: true background, both in the signal region",
        }

    def _side_band_files(self) -> dict[str, Any]:
        if self.config.path is None or self.config.method not in ("cwola", "cathode"):
            return {}
        outer = [OUTER] if (Path(self.config.path) / OUTER).exists() else []
        return {"side bands": [f"{INNER[0]} outside the signal region", *outer]}

    def jets(self) -> Iterator[tuple[str, Jets]]:
        data, template, background, signal = self._samples()
        # both classes have one sum of weights, so that a score of 1/2 means equal densities
        for label, events, weight in ((TEMPLATE, template, len(data) / len(template)), (DATA, data, 1.0)):
            rows = _rows(events, label, weight)
            if label == DATA and self.config.folds > 1:
                fold_E = row_hash(rows.source_row, self.config.seed + _FOLDS) % np.uint64(self.config.folds)
                yield "held-out", rows.take_jets(fold_E == self.config.fold)
                rows = rows.take_jets(fold_E != self.config.fold)
            yield from hash_split(rows, self.config.seed, {"train": 0.8, "val": 0.2})
        for label, events in ((TEMPLATE, background), (DATA, signal)):
            yield "test", _rows(events, label, 1.0, test=True)

    def _samples(self) -> tuple[Events, Events, Events, Events]:
        """Data and template to learn from, true background and signal to test on."""
        config = self.config
        data, side, background, signal = self._toy() if config.events == "toy" else self._lhco()
        if not len(data):
            low, high = config.region
            raise DataError(f"source resonance: region: no event has a mass of {low:g} to {high:g} GeV")
        half = len(background) // 2
        own, tested = background.take(np.arange(half)), background.take(np.arange(half, len(background)))
        match config.method:
            case "idealised":
                return data, own, tested, signal
            case "supervised":
                half = len(signal) // 2
                rest = signal.take(np.arange(half, len(signal)))
                return signal.take(np.arange(half)), data.take(~data.is_signal), tested, rest
            case "cwola":
                return data, self._near(side), tested, signal
            case "cathode":
                return data, self._sampled(data, side), tested, signal

    def _toy(self) -> tuple[Events, Events, Events, Events]:
        config = self.config
        rng = np.random.default_rng([config.seed, 7])
        everything = toy_background(config.jets, rng).joined(toy_signal(config.signal_events, rng))
        inside = everything.inside(config.region)
        # as much again of true background in the region for the idealised template
        wanted = int((inside & ~everything.is_signal).sum()) + TEST_EVENTS
        share = max(inside.mean(), 1e-3)
        further = toy_background(int(3 * wanted / share), rng)
        background = further.take(np.flatnonzero(further.inside(config.region))[: 2 * wanted])
        signal = toy_signal(3 * TEST_EVENTS, rng)
        signal = signal.take(np.flatnonzero(signal.inside(config.region))[: 2 * TEST_EVENTS])
        return everything.take(inside), everything.take(~inside), background, signal

    def _lhco(self) -> tuple[Events, Events, Events, Events]:
        config, folder = self.config, Path(self.config.path or "")
        inner, other, signal = (read_lhco(folder, (name,)) for name in INNER)
        inside = inner.inside(config.region)
        data, side = inner.take(inside), inner.take(~inside)
        if config.method in ("cwola", "cathode") and (not len(side) or (folder / OUTER).exists()):
            side = side.joined(read_lhco(folder, (OUTER,)))
        rng = np.random.default_rng([config.seed, 7])
        background = other.take(~other.is_signal & other.inside(config.region))
        return data, side, background.take(rng.permutation(len(background))), signal.take(signal.inside(config.region))

    def _near(self, side: Events) -> Events:
        """Side bands half as wide as the region on either side."""
        low, high = self.config.region
        width = (high - low) / 2
        near = side.take(side.inside((low - width, low)) | side.inside((high, high + width)))
        if not len(near):
            raise DataError(f"source resonance: cwola needs side bands beside {low:g} to {high:g} GeV, found no events")
        return near

    def _sampled(self, data: Events, side: Events) -> Events:
        """Events of the flow at masses drawn from a kernel density of the region's."""
        from scipy.stats import gaussian_kde

        config = self.config
        if not len(side):
            raise DataError("source resonance: cathode needs events outside the signal region, found none")
        flow = ConditionalFlow(side.mass, side.features, config.flow, config.seed)
        wanted = round(config.oversampling * len(data))
        density = gaussian_kde(data.mass, bw_method=0.05)
        mass = density.resample(2 * wanted, seed=config.seed)[0]
        mass = mass[(mass >= config.region[0]) & (mass < config.region[1])][:wanted]
        return Events(mass, flow.sample(mass, config.seed + 1), np.zeros(len(mass), bool))


def _rows(events: Events, label: int, weight: float, test: bool = False) -> Jets:
    size = len(events)
    scalars = {"resonance_mass": events.mass.astype(np.float32), "weight": np.full(size, weight, np.float32)}
    scalars |= {name: events.features[:, i].astype(np.float32) for i, name in enumerate(FEATURES)}
    row = np.arange(size) * 4 + label + 2 * test  # no two rows share a number
    return Jets({}, np.zeros(size + 1, np.int64), np.full(size, label), row, scalars)
