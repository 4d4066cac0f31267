"""Jets made on the spot with Pythia 8 and FastJet (extra `generate`): top, quark/gluon and W tagging samples."""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources import _particle_flow
from jetsweep.data.sources._base import Source, register_source
from jetsweep.data.sources._jets import FLAGS, TRACKS, Jets, hash_split
from jetsweep.data.sources._pythia_events import PROCESSES, generate_chunk, settings
from jetsweep.data.sources._pythia_tracks import SETTINGS as TRACK_SETTINGS
from jetsweep.data.sources._pythia_tracks import TRUTH
from jetsweep.errors import DataError

CHUNK = 1_000


class PythiaOptions(SourceOptions):
    """Options of the source `pythia`."""

    name: Literal["pythia"] = "pythia"
    process: Literal["top-qcd", "quark-gluon", "w-qcd"] = Field(
        "top-qcd",
        description="top-qcd: R = 0.8, 550-650 GeV, like the top-tagging reference set; quark-gluon: R = 0.4, "
        "500-550 GeV, particle level, like the EnergyFlow set; w-qcd: R = 1.0, 200-500 GeV, weighted.",
    )
    tracks: bool = Field(
        False, description="Add impact parameters, and the origin and vertex of every track, for flavour-tagging."
    )
    jets: PositiveInt = Field(40_000, description="Number of jets, both classes together, half of each.")
    processes: PositiveInt | None = Field(
        None, exclude=True, description="Parallel processes, default one per CPU; it does not change the jets."
    )

    @model_validator(mode="after")
    def _tracks_need_a_detector(self) -> PythiaOptions:
        if self.tracks and not PROCESSES[self.process].selection.detector:
            raise ValueError(f"tracks: expected a process with a detector, found {self.process}")
        return self


@register_source
class PythiaSource(Source):
    """Generates chunks of one class each; a chunk depends on the seed and its number alone."""

    options: ClassVar[type[SourceOptions]] = PythiaOptions
    config: PythiaOptions
    description = "Jets made with Pythia 8 and FastJet: top, quark/gluon or W against QCD (extra `generate`)."

    def __init__(self, config: PythiaOptions) -> None:
        super().__init__(config)
        self.process = PROCESSES[config.process]
        self.classes = tuple(recipe.label for recipe in self.process.recipes)

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        ids = () if self.process.selection.detector else ("pdg_id",)
        tracks = (*TRACKS, *TRUTH) if self.config.tracks else ()
        return ("px", "py", "pz", "energy", *ids, "charge", *FLAGS, *tracks)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, *(("weight",) if self.process.weighted else ()))

    def provenance(self) -> dict[str, Any]:
        require_generators()
        cuts = self.process.selection
        return {
            "generator": f"Pythia 8 (pythia8mc {metadata.version('pythia8mc')})",
            "clustering": f"fastjet {metadata.version('fastjet')}, anti-kt, R = {cuts.radius}",
            "settings": {name: settings(self.config.process, label, 0)[:-1] for label, name in enumerate(self.classes)},
            "random_seeds": f"seed {self.config.seed}; a Pythia seed and a numpy generator per chunk of {CHUNK} jets",
            "cuts": {
                "pt": list(cuts.pt),
                "abs_rapidity" if cuts.use_rapidity else "abs_eta": cuts.eta,
                "leading_jets": cuts.leading,
                "max_constituents": cuts.max_constituents,
                "veto_on_parton_jets": {r.label: asdict(r.veto) for r in self.process.recipes if r.veto is not None},
                "matching": {
                    r.label: f"top and its three quarks within {cuts.radius} of the jet"
                    for r in self.process.recipes
                    if r.match
                },
            },
            "detector": _particle_flow.SETTINGS if cuts.detector else "none: particle level, massive four-vectors",
            **({"tracks": TRACK_SETTINGS} if self.config.tracks else {}),
            "jet_scalars": "of the sum of the constituents",
        }

    def jets(self) -> Iterator[tuple[str, Jets]]:
        require_generators()
        for (label, chunk, _), jets in zip(self.chunks(), self._generated()):
            # rows of the two classes alternate in number, so that no two jets share one
            jets.source_row = (chunk * CHUNK + np.arange(len(jets))) * 2 + label
            yield from hash_split(jets, self.config.seed)

    def chunks(self) -> list[tuple[int, int, int]]:
        """(label, chunk number, jets) of every chunk, the two classes in turn."""
        totals = [self.config.jets - self.config.jets // 2, self.config.jets // 2]
        plan = [
            (label, chunk, min(CHUNK, total - chunk * CHUNK))
            for label, total in enumerate(totals)
            for chunk in range(-(-total // CHUNK))
        ]
        return sorted(plan, key=lambda x: (x[1], x[0]))

    def _generated(self) -> Iterator[Jets]:
        """Chunks in the order of the plan, from as many processes as allowed."""
        name, seed, plan = self.config.process, self.config.seed, self.chunks()
        processes = min(self.config.processes or len(os.sched_getaffinity(0)), len(plan))
        if processes == 1:
            for label, chunk, size in plan:
                yield generate_chunk(name, label, seed, chunk, size, self.config.tracks)
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
            for label, chunk, size in plan:
                waiting.append(pool.submit(generate_chunk, name, label, seed, chunk, size, self.config.tracks))
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
