"""Jets made on the spot with Pythia 8 and FastJet (extra `generate`): tops, quarks and gluons, Ws, anomalous jets."""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources import _particle_flow
from jetsweep.data.sources._base import Source, register_source
from jetsweep.data.sources._jets import FLAGS, TRACKS, Jets, hash_split
from jetsweep.data.sources._pythia_events import generate_chunk
from jetsweep.data.sources._pythia_processes import MATCHED, PROCESSES, Process, settings
from jetsweep.data.sources._pythia_showers import require_showers
from jetsweep.data.sources._pythia_tracks import SETTINGS as TRACK_SETTINGS
from jetsweep.data.sources._pythia_tracks import TRUTH
from jetsweep.data.sources._variations import (
    SHOWER_WEIGHTS,
    VARIED_SPLITS,
    AnyGeneratorVariations,
    VariedOptions,
    scheme,
    with_variations,
)
from jetsweep.errors import DataError

CHUNK = 1_000


def _sorted_by_name(shares: dict[str, float]) -> dict[str, float]:
    # the manifest and the name of a dataset must not depend on an order that means nothing
    return dict(sorted(shares.items()))


def _equal_shares(value: Any) -> Any:
    """A list of classes as shares; anything else as it is."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        return value
    if twice := sorted({name for name in value if value.count(name) > 1}):
        raise ValueError(f"expected every class once, found {twice[0]} more than once")
    return {name: 1 / len(value) for name in value}


Shares = Annotated[
    dict[str, float],
    AfterValidator(_sorted_by_name),
    BeforeValidator(_equal_shares, json_schema_input_type=dict[str, float] | list[str]),
]


class PythiaOptions(VariedOptions):
    """Options of the source `pythia`."""

    name: Literal["pythia"] = "pythia"
    process: Literal["top-qcd", "quark-gluon", "w-qcd", "anomaly"] = Field(
        "top-qcd",
        description="top-qcd: R = 0.8, 550-650 GeV, like the top-tagging reference set; quark-gluon: R = 0.4, "
        "500-550 GeV, particle level, like the EnergyFlow set; w-qcd: R = 1.0, 200-500 GeV, weighted; anomaly: "
        "R = 1.0, 550-650 GeV, QCD and signals of 2, 3 and 4 prongs, like Cheng's test sets.",
    )
    classes: Shares | None = Field(
        None,
        description="Classes of the process with their shares of the jets, or a list of them for equal shares; all of "
        "them in equal shares if not given.",
    )
    tracks: bool = Field(
        False, description="Add impact parameters, and the origin and vertex of every track, for flavour-tagging."
    )
    jets: PositiveInt = Field(40_000, description="Number of jets, all classes together.")
    variations: AnyGeneratorVariations | None = Field(
        None, description="Add shower weights, and varied and alternative samples of val and test; true, or settings."
    )
    processes: PositiveInt | None = Field(
        None, exclude=True, description="Parallel processes, default one per CPU; it does not change the jets."
    )

    @model_validator(mode="after")
    def _tracks_need_a_detector(self) -> PythiaOptions:
        if self.tracks and not PROCESSES[self.process].selection.detector:
            raise ValueError(f"tracks: expected a process with a detector, found {self.process}")
        return self

    @model_validator(mode="after")
    def _classes_of_the_process(self) -> PythiaOptions:
        known = [recipe.label for recipe in PROCESSES[self.process].recipes]
        if self.classes is not None:
            if not self.classes:
                raise ValueError(f"classes: expected at least one of {', '.join(known)} ({self.process}), found none")
            for name, share in self.classes.items():
                if name not in known:
                    raise ValueError(f"classes: expected some of {', '.join(known)} ({self.process}), found {name!r}")
                if not share > 0:
                    raise ValueError(f"classes: expected a share above 0 for {name}, found {share:g}")
            if not abs(sum(self.classes.values()) - 1) < 1e-6:
                raise ValueError(
                    f"classes: expected shares that add up to 1, found a sum of {sum(self.classes.values()):g}"
                )
        counts = class_counts(self, self.jets)
        if self.classes is not None and not all(counts.values()):
            name = next(name for name, count in counts.items() if not count)
            raise ValueError(
                f"jets: expected enough for a jet of each class, found {self.jets}, which leaves {name} none"
            )
        if self.variations is not None and len(counts) != 2:
            raise ValueError(f"variations: expected two classes, signal and background, found {', '.join(counts)}")
        return self


def class_counts(options: PythiaOptions, jets: int) -> dict[str, int]:
    """How many of `jets` belong to each class, in the order of the process's recipes; they add up to `jets`."""
    labels = [recipe.label for recipe in PROCESSES[options.process].recipes]
    shares = options.classes or {name: 1 / len(labels) for name in labels}
    chosen = [name for name in labels if name in shares]
    # 1e-9: 0.1 of 30 jets are 3
    counts = {name: int(shares[name] * jets + 1e-9) for name in chosen}
    rest = sorted(chosen, key=lambda name: round(counts[name] - shares[name] * jets, 6))
    for name in rest[: jets - sum(counts.values())]:
        counts[name] += 1
    return counts


class Chunk(NamedTuple):
    """Jets of one recipe that are made together; `shower` is empty for the nominal ones."""

    recipe: int
    number: int
    size: int
    shower: str = ""


@register_source
class PythiaSource(Source):
    """Generates chunks of one class each; a chunk depends on the seed and its number alone."""

    options: ClassVar[type[SourceOptions]] = PythiaOptions
    config: PythiaOptions
    description = (
        "Jets made with Pythia 8 and FastJet: top, quark/gluon or W against QCD, or QCD and signals of two, three and "
        "four prongs (extra `generate`)."
    )

    def __init__(self, config: PythiaOptions) -> None:
        super().__init__(config)
        self.process: Process = PROCESSES[config.process]
        self.classes = tuple(class_counts(config, config.jets))
        labels = [recipe.label for recipe in self.process.recipes]
        self.recipes = tuple(labels.index(name) for name in self.classes)
        """Place of each class among the recipes of the process."""
        self.has_bands = config.variations is not None and config.variations.shower_weights
        self.num_shower_weights = len(SHOWER_WEIGHTS) if self.has_bands else 0

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        ids = () if self.process.selection.detector else ("pdg_id",)
        tracks = (*TRACKS, *TRUTH) if self.config.tracks else ()
        return ("px", "py", "pz", "energy", *ids, "charge", *FLAGS, *tracks)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        event = ("event_number",) if self.config.variations else ()
        return (*super().scalar_columns, *(("weight",) if self.process.weighted else ()), *event)

    @property
    def total(self) -> int | None:
        return self.config.jets if self.config.variations is None else None

    def provenance(self) -> dict[str, Any]:
        require_generators()
        cuts, varied = self.process.selection, self.config.variations
        lines = {
            f"{name} {shower}".strip(): settings(self.config.process, recipe, 0, shower, self.has_bands and not shower)
            for shower in ("", *(varied.showers if varied else ()))
            for recipe, name in zip(self.recipes, self.classes)
        }
        if varied is not None:
            require_showers(varied.showers)
        chosen = [self.process.recipes[i] for i in self.recipes]
        return {
            "generator": f"Pythia 8 (pythia8mc {metadata.version('pythia8mc')})",
            "clustering": f"fastjet {metadata.version('fastjet')}, anti-kt, R = {cuts.radius}",
            "settings": {name: of_class[:-1] for name, of_class in lines.items()},
            "random_seeds": f"seed {self.config.seed}; a Pythia seed and a numpy generator per chunk of {CHUNK} jets",
            "cuts": {
                "pt": list(cuts.pt),
                "abs_rapidity" if cuts.use_rapidity else "abs_eta": cuts.eta,
                "leading_jets": cuts.leading,
                "max_constituents": cuts.max_constituents,
                "veto_on_parton_jets": {r.label: asdict(r.veto) for r in chosen if r.veto is not None},
                "matching": {r.label: f"{MATCHED[r.match]} within {cuts.radius} of the jet" for r in chosen if r.match},
            },
            "detector": _particle_flow.SETTINGS if cuts.detector else "none: particle level, massive four-vectors",
            **({"tracks": TRACK_SETTINGS} if self.config.tracks else {}),
            "jet_scalars": "of the sum of the constituents",
            **({} if varied is None else self._varied_provenance()),
        }

    def _varied_provenance(self) -> dict[str, Any]:
        assert self.config.variations is not None
        return {
            "jet_scalars": "of the sum of the constituents; nominal in the varied samples",
            "event_number": "of the event, the same in the varied samples",
            **({"shower_weights": list(SHOWER_WEIGHTS)} if self.has_bands else {}),
            "systematics": scheme(self.config.variations, f"pythia {self.config.process}", self.process.selection.pt),
        }

    def jets(self) -> Iterator[tuple[str, Jets]]:
        require_generators()
        varied, seed = self.config.variations, self.config.seed
        for chunk, jets in zip(self.chunks(), self._generated()):
            # rows of the classes alternate in number, so that no two jets share one, whichever classes are made
            jets.source_row = (chunk.number * CHUNK + np.arange(len(jets))) * self.process.stride + chunk.recipe
            jets.label = np.full(len(jets), self.recipes.index(chunk.recipe))
            if varied is not None:
                # the first of its jets stands for an event, so that no two events share a number
                _, first, event = np.unique(jets.scalars["event"], return_index=True, return_inverse=True)
                jets.scalars["event_number"] = jets.source_row[first[event]]
            if chunk.shower:
                halves = {f"{folder}/{chunk.shower}": 0.5 for folder in VARIED_SPLITS.values()}
                yield from hash_split(jets, seed, halves)
            else:
                yield from with_variations(hash_split(jets, seed), varied, seed)

    def chunks(self) -> list[Chunk]:
        """Every chunk of the nominal jets, the classes in turn, then those of the other showers."""
        varied, jets = self.config.variations, self.config.jets
        wanted = {"": jets}
        if varied is not None:
            wanted |= dict.fromkeys(varied.showers, varied.alternative_jets or max(2, jets // 5))
        plan: list[Chunk] = []
        for shower, total in wanted.items():
            of_shower = [
                Chunk(recipe, number, min(CHUNK, count - number * CHUNK), shower)
                for recipe, count in zip(self.recipes, class_counts(self.config, total).values())
                for number in range(-(-count // CHUNK))
            ]
            plan += sorted(of_shower, key=lambda x: (x.number, x.recipe))
        return plan

    def _work(self, chunk: Chunk) -> tuple[Any, ...]:
        """Arguments of `generate_chunk`."""
        own = (self.config.process, chunk.recipe, self.config.seed, chunk.number, chunk.size, self.config.tracks)
        return (*own, chunk.shower, self.has_bands and not chunk.shower)

    def _generated(self) -> Iterator[Jets]:
        """Chunks in the order of the plan, from as many processes as allowed."""
        plan = self.chunks()
        processes = min(self.config.processes or len(os.sched_getaffinity(0)), len(plan))
        if processes == 1:
            for chunk in plan:
                yield generate_chunk(*self._work(chunk))
            return
        import multiprocessing
        from concurrent.futures import Future, ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        # spawn: forking a process that runs threads (Arrow, torch, Ray) may hang
        pool = ProcessPoolExecutor(
            processes, mp_context=multiprocessing.get_context("spawn"), initializer=_silence_banners
        )
        waiting: deque[Future[Jets]] = deque()
        try:
            for chunk in plan:
                waiting.append(pool.submit(generate_chunk, *self._work(chunk)))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError("a process that ran Pythia died; was it killed for want of memory?") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _silence_banners() -> None:
    """FastJet greets on stdout in every process; the manifest names it instead."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def require_generators() -> None:
    """Raise a `DataError` where Pythia, FastJet or awkward is not installed."""
    missing = [name for name in ("pythia8mc", "fastjet", "awkward") if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"the source pythia needs {' and '.join(missing)}, not installed: pip install 'jetsweep[generate]'"
        )
