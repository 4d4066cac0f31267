"""Cheng's test sets of anomalous jets (Zenodo 4614656; QCD dijets: Zenodo 4641460): W, top and four-prong signals."""

# Shapes: R events of a slice, N constituents of their jets, J jets of an event.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._files import FileOptions, FileSource, Published, check_energy, reading
from jetsweep.data.sources._jets import P4, Jets
from jetsweep.errors import DataError

FILES = {
    "qcd": "qcd_dijet.h5",
    "w-59": "W_m59_100k_01.h5",
    "w-80": "W_100k_01.h5",
    "w-120": "W_m120_100k_01.h5",
    "w-174": "W_m174_100k_01.h5",
    "top-80": "top_m80_100k_01_new.h5",
    "top-174": "top_100k_01.h5",
    "hh-20": "h3_m174_h20_100k_01.h5",
    "hh-80": "h3_m174_h80_100k_01.h5",
}
"""Published file of each class; those of signals near 1,200 GeV begin with ``pt1200_``."""
OBSERVABLES = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "tau1", "tau2", "tau3", "tau4", "tau5")
"""Columns of ``obs``."""
WIDTH = 5
"""Numbers per constituent: E, px, py, pz, and one whose meaning is not published."""


class ChengOptions(FileOptions):
    """Options of the source `cheng`."""

    name: Literal["cheng"] = "cheng"
    pt: Literal[600, 1200] = Field(600, description="Signals near 600 or near 1,200 GeV.")
    jet: PositiveInt = Field(1, description="Which jet of every event: 1 is the leading one.")
    pt_window: tuple[float, float] | None = Field(
        None, description="Keep jets with low < pT <= high, of the constituents' sum; [550, 650] is usual at 600 GeV."
    )


@register_source
class ChengSource(FileSource):
    """One jet of every event; the class is told by the file's name, the split by a hash of file and row."""

    config: ChengOptions
    options: ClassVar[type[SourceOptions]] = ChengOptions
    description = "Cheng's test sets, Zenodo 4614656: 100k Delphes events each of W, top and HH -> 4b jets, and QCD."
    classes = tuple(FILES)
    plausible_pt = (200.0, 3000.0)
    slice_rows = 2_000

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "extra")

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, *OBSERVABLES[4:])

    def published(self) -> list[Published]:
        prefix = "pt1200_" if self.config.pt == 1200 else ""
        names = {label: file if label == "qcd" else f"{prefix}{file}" for label, file in FILES.items()}
        records = {label: "4641460" if label == "qcd" else "4614656" for label in FILES}
        return [
            Published(file, "", f"https://zenodo.org/records/{records[label]}/files/{file}", None)
            for label, file in names.items()
        ]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": "Zenodo 4614656 (signals), 4641460 (QCD); used in arXiv:2007.01850",
            "generator": "MadGraph, Pythia 8 and Delphes, particle flow, no pile-up, anti-kt R = 1.0, as published",
            "conventions": "tau1 to tau5 as stored; `extra` is the fifth number of a constituent, meaning unknown",
            "cuts": {"jet_of_the_event": self.config.jet, "pt_window": self.config.pt_window},
            "splits": "hash of seed, file and row: 0.8 / 0.1 / 0.1, unless `files` names them",
        }

    def count(self, path: Path) -> int:
        _class_of(path)
        with _open(path) as file:
            return len(event_jets(file, path, "objects", self.config.jet)[0])

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        label, number = _class_of(path), self.config.jet
        with _open(path) as file:
            lists, group = event_jets(file, path, "objects", number)
            obs = group.get("obs")
            if obs is None or obs.ndim != 3 or obs.shape[2] < len(OBSERVABLES) or len(obs) != len(lists):
                found = "none" if obs is None else f"the shape {obs.shape}"
                raise DataError(
                    f"{path}: expected objects/jets/obs of shape ({len(lists)}, jets, {len(OBSERVABLES)}), found "
                    f"{found}"
                )
            for start in range(0, rows, self.slice_rows):
                with reading(path, "HDF5"):
                    stop = min(start + self.slice_rows, rows)
                    lists_R = list(lists[start:stop, number - 1])
                    obs_RF = obs[start:stop, number - 1].astype(np.float32)
                jets = jets_of_lists(lists_R, WIDTH, path, "objects/jets/constituents")
                jets.label[:] = label
                jets.scalars = {name: obs_RF[:, i] for i, name in enumerate(OBSERVABLES) if i >= 4}
                yield self._inside(jets)

    def _inside(self, jets: Jets) -> Jets:
        if self.config.pt_window is None:
            return jets
        low, high = self.config.pt_window
        px, py = (np.bincount(jets.jet, jets.values[name], minlength=len(jets)) for name in ("px", "py"))
        pt_R = np.hypot(px, py)
        # what is not a number is counted as such later
        outside_R = (pt_R <= low) | (pt_R > high)
        inside = jets.take_jets(~outside_R)
        inside.dropped = {"outside_pt_window": int(outside_R.sum())}
        return inside


def event_jets(file: Any, path: Path, top: str, number: int) -> tuple[Any, Any]:
    """The dataset ``<top>/jets/constituents`` (events, jets) of lists, which has jet `number`, and its group."""
    with reading(path, "HDF5"):
        group = file.get(f"{top}/jets")
        lists = group.get("constituents") if hasattr(group, "keys") else None
    if lists is None or not hasattr(lists, "shape"):
        raise DataError(f"{path}: expected {top}/jets/constituents, found {', '.join(sorted(file)) or 'nothing'}")
    import h5py

    of_lists = h5py.check_vlen_dtype(lists.dtype)
    if lists.ndim != 2 or of_lists is None or of_lists.kind != "f":
        raise DataError(
            f"{path}: {top}/jets/constituents has the shape {lists.shape} of {lists.dtype}, expected (events, jets) of "
            "lists of floats"
        )
    if number > lists.shape[1]:
        raise DataError(f"{path}: jet {number} was asked for, the events have {lists.shape[1]} jets")
    return lists, group


def jets_of_lists(lists_R: list[np.ndarray], width: int, path: Path, where: str) -> Jets:
    """Jets out of flat lists E, px, py, pz, … with `width` numbers per constituent; a fifth is `extra`."""
    length_R = np.array([len(x) for x in lists_R], np.int64)
    bad_R = length_R % width != 0
    if bad_R.any():
        raise DataError(f"{path}: {where} holds {length_R[bad_R][0]} numbers for a jet, expected a multiple of {width}")
    flat_NF = (np.concatenate(lists_R) if len(lists_R) else np.empty(0)).reshape(-1, width).astype(np.float32)
    real_N = (flat_NF[:, :4] != 0).any(axis=1)
    before_N = np.concatenate([[0], np.cumsum(real_N)])
    offsets = before_N[np.concatenate([[0], np.cumsum(length_R // width)])]
    flat_NF = flat_NF[real_N]
    p4_N4 = flat_NF[:, [1, 2, 3, 0]]
    check_energy(p4_N4, path, "the numbers E, px, py, pz in this order")
    values = {name: p4_N4[:, i] for i, name in enumerate(P4)}
    if width > 4:
        values["extra"] = flat_NF[:, 4]
    number_R = np.arange(len(lists_R))
    return Jets(values, offsets, np.zeros_like(number_R), number_R)


def _open(path: Path) -> Any:
    import h5py

    with reading(path, "HDF5"):
        return h5py.File(path, "r")


def _class_of(path: Path) -> int:
    name = path.name.removeprefix("pt1200_")
    if name not in FILES.values():
        raise DataError(f"{path}: expected a published name, such as W_m59_100k_01.h5, which tells the class")
    return list(FILES.values()).index(name)
