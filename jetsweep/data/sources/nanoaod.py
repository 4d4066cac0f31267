"""CMS NanoAOD with particle-flow candidates (PFNano): the jets of every event with their constituents."""

# Shapes: E events of a slice, R their jets, L links of jets to candidates, N linked candidates.

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._events import Branches, EventTreeSource, lists
from jetsweep.data.sources._jets import FLAGS, P4, TRACKS, Jets, flags_of_ids
from jetsweep.data.sources._own_files import OwnFileOptions
from jetsweep.data.sources._ragged import four_vectors
from jetsweep.data.sources._tables import RootTable
from jetsweep.errors import DataError

CANDIDATES = {
    "pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", "charge": "charge", "pdg_id": "pdgId",
    "d0": "d0", "d0_err": "d0Err", "dz": "dz", "dz_err": "dzErr",
}  # fmt: skip
JET = ("pt", "eta", "phi", "mass")
MM_PER_CM = 10.0


class NanoAODOptions(OwnFileOptions):
    """Options of the source `nanoaod`."""

    name: Literal["nanoaod"] = "nanoaod"
    collection: Literal["FatJet", "Jet"] = Field("FatJet", description="Jets of R = 0.8 or 0.4.")
    puppi: bool = Field(False, description="Multiply the candidates' momenta by puppiWeight.")


@register_source
class NanoAODSource(EventTreeSource):
    """Candidates find their jets through the link tables ``FatJetPFCands`` and ``JetPFCands``."""

    config: NanoAODOptions
    options: ClassVar[type[SourceOptions]] = NanoAODOptions
    description = "CMS NanoAOD with particle-flow candidates (PFNano): jets of your own ROOT files."
    plausible_pt = (10.0, 5000.0)
    tree = "Events"

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "charge", *FLAGS, *TRACKS, "pdg_id")

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "jet_scalars": f"pt, eta, phi, mass of {self.config.collection} as stored",
            "conventions": "pseudorapidity; impact parameters in mm, stored in cm; NaN or infinite ones are 0",
        }

    def branches(self, table: RootTable) -> dict[str, str]:
        jet, links = self.config.collection, f"{self.config.collection}PFCands"
        table.check([f"{jet}_pt"])
        if f"{links}_pFCandsIdx" not in table.names or "PFCands_pt" not in table.names:
            raise DataError(
                f"{table.path}: plain NanoAOD holds no constituents of its jets, expected PFNano with PFCands_* "
                f"and {links}_*"
            )
        names = {"event": "event", "links.jet": f"{links}_jetIdx", "links.candidate": f"{links}_pFCandsIdx"}
        names |= {f"jet.{name}": f"{jet}_{name}" for name in (*JET, *self.fields)}
        candidates = [*CANDIDATES.values(), *(["puppiWeight"] if self.config.puppi else [])]
        names |= {f"candidate.{name}": f"PFCands_{name}" for name in candidates}
        table.check(list(names.values()))
        return names

    def jets_of(self, arrays: Branches, path: Path) -> Jets:
        """All jets of a slice of events; every candidate stands at each jet that it is linked to."""
        jets_E = lists(arrays, "jet.pt", path).offsets
        index, candidate = lists(arrays, "links.jet", path), lists(arrays, "links.candidate", path)
        candidates_E = lists(arrays, "candidate.pt", path).offsets
        event_L = np.repeat(np.arange(len(jets_E) - 1), np.diff(index.offsets))
        linked_L = (index.values >= 0) & (candidate.values >= 0)
        outside_L = (index.values >= np.diff(jets_E)[event_L]) | (candidate.values >= np.diff(candidates_E)[event_L])
        if outside_L.any():
            raise DataError(f"{path}: {int(outside_L.sum())} links point to jets or candidates that are not there")
        jet_N = (jets_E[event_L] + index.values)[linked_L]
        row_N = (candidates_E[event_L] + candidate.values)[linked_L]
        order_N = np.argsort(jet_N, kind="stable")
        row_N, num_R = row_N[order_N], np.bincount(jet_N, minlength=int(jets_E[-1]))
        stored = {ours: lists(arrays, f"candidate.{name}", path).values[row_N] for ours, name in CANDIDATES.items()}
        if self.config.puppi:
            weight_N = lists(arrays, "candidate.puppiWeight", path).values[row_N]
            stored |= {name: stored[name] * weight_N for name in ("pt", "mass")}
        values: dict[str, np.ndarray] = {n: x.astype(np.float32) for n, x in four_vectors(stored).items()}
        values |= flags_of_ids(stored["pdg_id"]) | {"pdg_id": stored["pdg_id"], "charge": stored["charge"]}
        for name in TRACKS:
            values[name] = np.nan_to_num(stored[name] * MM_PER_CM, posinf=0, neginf=0).astype(np.float32)
        number = np.arange(len(num_R))
        scalars = {f"jet_{n}": lists(arrays, f"jet.{n}", path).values.astype(np.float32) for n in JET}
        self.check_unit(scalars["jet_pt"], path)
        scalars["event_number"] = np.repeat(np.asarray(arrays["event"]).astype(np.int64), np.diff(jets_E))
        return Jets(values, np.concatenate([[0], np.cumsum(num_R)]), np.zeros_like(number), number, scalars)
