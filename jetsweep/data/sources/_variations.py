"""Variations that jetsweep makes of its own jets: what a detector might do otherwise, and what a generator might.

A dataset with variations holds, beside its splits, ``syst/<sample>`` for every varied sample of ``test`` and
``syst_val/<sample>`` for those of ``val``, and says in its manifest (`provenance.systematics`) how their rejections
become an uncertainty; `jetsweep.metrics.systematics.Scheme` is what that is read into.
"""

# Shapes: B jets, N constituents of all jets.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._jets import P4, Jets, row_hash

VARIED_SPLITS = {"val": "syst_val", "test": "syst"}
"""Nominal splits that are varied, and the folder of their varied samples."""
SHOWER_WEIGHTS = ("nominal", "isr_up", "isr_down", "fsr_up", "fsr_down")
"""Meaning of the entries of the column `shower_weights`."""
NUM_PT_BINS = 4

Envelope = list[dict[str, Any]]


class DetectorVariations(BaseModel):
    """Sizes of the experimental variations; 0 leaves one out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    charged_scale: float = Field(0.01, ge=0.0, lt=1.0, description="Relative shift of charged momenta, up and down.")
    neutral_scale: float = Field(0.03, ge=0.0, lt=1.0, description="Relative shift of neutral energies, up and down.")
    charged_resolution: float = Field(0.02, ge=0.0, lt=1.0, description="Further relative smearing of charged momenta.")
    neutral_resolution: float = Field(0.1, ge=0.0, lt=1.0, description="Further relative smearing of neutral energies.")
    charged_loss: float = Field(0.03, ge=0.0, lt=1.0, description="Share of charged constituents that are not found.")
    neutral_loss: float = Field(0.03, ge=0.0, lt=1.0, description="Share of neutral constituents that are not found.")

    @property
    def samples(self) -> dict[str, list[tuple[str, ...]]]:
        """Names of the varied samples by group; those of one tuple are two sides of one effect."""
        kinds = ("charged", "neutral")
        wanted: dict[str, list[tuple[str, ...]]] = {
            "energy_scale": [(f"{kind}_scale_up", f"{kind}_scale_down") for kind in kinds],
            "resolution": [(f"{kind}_resolution",) for kind in kinds],
            "efficiency": [(f"{kind}_loss",) for kind in kinds],
        }
        size = self.model_dump()
        used = {
            group: [names for names in effects if size[names[0].removesuffix("_up")] > 0]
            for group, effects in wanted.items()
        }
        return {group: effects for group, effects in used.items() if effects}


class GeneratorVariations(DetectorVariations):
    """Experimental variations, and those of the parton shower."""

    shower_weights: bool = Field(True, description="Weights of every jet for twice and half the ISR and FSR scales.")
    showers: tuple[Literal["vincia", "dire"], ...] = Field(
        ("vincia",), description="Other parton showers to make samples with; dire needs Pythia up to 8.315."
    )
    alternative_jets: PositiveInt | None = Field(
        None, description="Jets of each other shower, for val and test together; a fifth of `jets` if not given."
    )


def _switch(value: Any) -> Any:
    return ({} if value else None) if isinstance(value, bool) else value


AnyDetectorVariations = Annotated[
    DetectorVariations, BeforeValidator(_switch, json_schema_input_type=bool | DetectorVariations)
]
AnyGeneratorVariations = Annotated[
    GeneratorVariations, BeforeValidator(_switch, json_schema_input_type=bool | GeneratorVariations)
]


class VariedOptions(SourceOptions):
    """Options of a source that can make variations, in a field `variations`."""

    unused: ClassVar[tuple[str, ...]] = ("variations", "classes")

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Datasets without these options keep the name that they had before there were any."""
        values: dict[str, Any] = handler(self)
        return {name: x for name, x in values.items() if name not in self.unused or x is not None}


def with_variations(
    parts: Iterable[tuple[str, Jets]], options: DetectorVariations | None, seed: int
) -> Iterator[tuple[str, Jets]]:
    """The splits as they come, and after each that is varied its varied samples."""
    for split, jets in parts:
        yield split, jets
        if options is not None and split in VARIED_SPLITS:
            for effects in options.samples.values():
                for name in (name for effect in effects for name in effect):
                    yield f"{VARIED_SPLITS[split]}/{name}", varied(jets, name, options, seed)


def varied(jets: Jets, sample: str, options: DetectorVariations, seed: int) -> Jets:
    """Jets as another detector would have seen them; their scalars stay nominal, as in the ATLAS open data.

    Every random number belongs to a constituent of a jet: it depends on the seed, the sample, the jet's row and the
    constituent's rank, and on nothing else.

    Parameters
    ----------
    jets : Jets
        Nominal, with the constituents' `charge`.
    sample : str
        One of `DetectorVariations.samples`.
    options : DetectorVariations
    seed : int
    """
    kind, effect, *side = sample.split("_")
    size = getattr(options, f"{kind}_{effect}")
    chosen_N = (jets.values["charge"] != 0) == (kind == "charged")
    scalars = {name: x for name, x in jets.scalars.items() if not name.startswith("shower_")}
    if effect == "loss":
        return _without(replace(jets, scalars=scalars), chosen_N & (_uniform(jets, sample, seed) < size))
    if effect == "scale":
        factor_N = np.full(len(chosen_N), 1 + size if side == ["up"] else 1 - size)
    else:
        # Box-Muller: as many numbers for every constituent, whatever their values
        radius_N = np.sqrt(-2 * np.log1p(-_uniform(jets, sample, seed)))
        normal_N = radius_N * np.cos(2 * np.pi * _uniform(jets, f"{sample} angle", seed))
        factor_N = np.maximum(1 + size * normal_N, 0.01)
    factor_N = np.where(chosen_N, factor_N, 1.0)
    values = jets.values | {name: (jets.values[name] * factor_N).astype(np.float32) for name in P4}
    return replace(jets, values=values, scalars=scalars).sorted_by_pt()


def _without(jets: Jets, lost_N: np.ndarray) -> Jets:
    kept_B = np.bincount(jets.jet[~lost_N], minlength=len(jets))
    offsets = np.concatenate([[0], np.cumsum(kept_B)]).astype(np.int64)
    return replace(jets, values={name: x[~lost_N] for name, x in jets.values.items()}, offsets=offsets)


def _uniform(jets: Jets, what: str, seed: int) -> np.ndarray:
    """A number in [0, 1) for every constituent, shape (N,)."""
    rank_N = (np.arange(jets.offsets[-1]) - jets.offsets[jets.jet]).astype(np.uint64)
    of_jet_N = row_hash(jets.source_row, seed, what)[jets.jet]
    # 53 bits, so that the largest is below 1 in float64
    return np.asarray((row_hash(of_jet_N + rank_N, 0) >> np.uint64(11)) / 2.0**53)


def scheme(options: DetectorVariations, source: str, pt: tuple[float, float]) -> dict[str, Any]:
    """How rejections become an uncertainty: what `jetsweep.metrics.systematics.Scheme` is made from.

    Parameters
    ----------
    options : DetectorVariations
    source : str
        Named in tables.
    pt : tuple of float
        Window of the jets, GeV; divided into bins of equal width.
    """
    groups = [
        {
            "name": group,
            "kind": "experimental",
            "envelopes": [[{"varied": {"sample": name}} for name in effect] for effect in effects],
        }
        for group, effects in options.samples.items()
    ]
    paired = [name for effects in options.samples.values() for effect in effects for name in effect]
    if isinstance(options, GeneratorVariations):
        groups += _shower_groups(options)
    edges = np.linspace(*pt, NUM_PT_BINS + 1).tolist()
    return {"name": f"variations of {source} jets", "groups": groups, "edges": edges, "paired": paired}


def _shower_groups(options: GeneratorVariations) -> list[dict[str, Any]]:
    """One group for the showers of each class, one for the scales of both."""

    def envelope(replaces: str, entries: Iterable[dict[str, Any]]) -> Envelope:
        return [{"varied": {"sample": "nominal", "replaces": replaces, **entry}} for entry in entries]

    classes = ("signal", "background")
    groups: list[dict[str, Any]] = []
    if options.showers:
        for which in classes:
            samples = envelope(which, ({"sample": name} for name in options.showers))
            groups.append({"name": f"{which}_shower", "kind": "theory", "envelopes": [samples]})
    if options.shower_weights:
        pairs = [[{"weight": SHOWER_WEIGHTS.index(f"{x}_{side}")} for side in ("up", "down")] for x in ("isr", "fsr")]
        envelopes = [envelope(which, pair) for which in classes for pair in pairs]
        groups.append({"name": "scale", "kind": "theory", "envelopes": envelopes})
    return groups
