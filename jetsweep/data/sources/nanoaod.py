"""CMS NanoAOD with particle-flow candidates (PFNano): the jets of every event with their constituents."""

# Shapes: E events of a slice, R their jets, L links of jets to candidates, N linked candidates.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._expressions import ColumnExpression
from jetsweep.data.sources._files import FileOptions, FileSource, Input, Published
from jetsweep.data.sources._jets import FLAGS, P4, SPLITS, TRACKS, Jets, flags_of_ids, hash_split
from jetsweep.data.sources._labels import LabelMapping, class_indices
from jetsweep.data.sources._ragged import four_vectors
from jetsweep.data.sources._tables import Column, Lists, RootTable
from jetsweep.errors import DataError

CANDIDATES = {
    "pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", "charge": "charge", "pdg_id": "pdgId",
    "d0": "d0", "d0_err": "d0Err", "dz": "dz", "dz_err": "dzErr",
}  # fmt: skip
JET = ("pt", "eta", "phi", "mass")
MM_PER_CM = 10.0


class NanoAODOptions(FileOptions):
    """Options of the source `nanoaod`."""

    name: Literal["nanoaod"] = "nanoaod"
    path: str | None = Field(None, description="One file, or a folder whose files are read; divided into splits.")
    collection: Literal["FatJet", "Jet"] = Field("FatJet", description="Jets of R = 0.8 or 0.4.")
    label: LabelMapping = Field(description="Where a jet's class is found, in its fields (as nBHadrons).")
    select: str | None = Field(None, description="Only jets for which it is true, e.g. 'pt > 300 and abs(eta) < 2.4'.")
    puppi: bool = Field(False, description="Multiply the candidates' momenta by puppiWeight.")

    @model_validator(mode="after")
    def _complete(self) -> NanoAODOptions:
        if self.path is None and self.files is None:
            raise ValueError("give `path` or `files`")
        if self.select is not None:
            ColumnExpression(self.select)
        return self


@register_source
class NanoAODSource(FileSource):
    """One row per jet, in the order of events; `source_row` counts the file's jets."""

    config: NanoAODOptions
    options: ClassVar[type[SourceOptions]] = NanoAODOptions
    description = "CMS NanoAOD with particle-flow candidates (PFNano): jets of your own ROOT files."
    plausible_pt = (10.0, 5000.0)
    slice_rows = 500

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """As the label mapping names them."""
        return self.config.label.names

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return (*P4, "charge", *FLAGS, *TRACKS, "pdg_id")

    def published(self) -> list[Published]:
        return []

    def inputs(self) -> list[Input]:
        if self.config.path is None:
            return super().inputs()
        path = Path(self.config.path)
        found = [path] if path.is_file() else sorted(path.rglob("*.root"))
        if not found:
            raise DataError(f"{path}: expected a .root file or a folder with some")
        return [Input(x, "") for x in found]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "jet_scalars": f"pt, eta, phi, mass of {self.config.collection} as stored",
            "conventions": "pseudorapidity; impact parameters in mm, stored in cm; NaN or infinite ones are 0",
        }

    def jets(self) -> Iterator[tuple[str, Jets]]:
        for split, chunk in super().jets():
            if split:
                yield split, chunk
                continue
            dropped = chunk.dropped
            for name, part in hash_split(chunk, self.config.seed, SPLITS):
                yield name, replace(part, dropped=dropped)
                dropped = {}  # counted once

    def _branches(self, table: RootTable) -> list[str]:
        jet, links = self.config.collection, f"{self.config.collection}PFCands"
        if f"{jet}_pt" not in table.names:
            table.check([f"{jet}_pt"])
        if f"{links}_pFCandsIdx" not in table.names or "PFCands_pt" not in table.names:
            raise DataError(
                f"{table.path}: plain NanoAOD holds no constituents of its jets, expected PFNano with PFCands_* "
                f"and {links}_*"
            )
        label = self.config.label
        fields = list(JET)
        for text in (self.config.select, label.column, *(label.columns or {}).values()):
            fields += ColumnExpression(text).names if text is not None else ()
        candidates = [*CANDIDATES.values(), *(["puppiWeight"] if self.config.puppi else [])]
        names = [f"{jet}_{name}" for name in dict.fromkeys(fields)]
        names += [f"{links}_jetIdx", f"{links}_pFCandsIdx", *(f"PFCands_{name}" for name in candidates)]
        table.check(names)
        return names

    def count(self, path: Path) -> int:
        with RootTable(path, "Events") as table:
            self._branches(table)
            name = f"{self.config.collection}_pt"
            return sum(len(_lists(c, name).values) for c in table.slices([name], table.num_rows, 100_000))

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with RootTable(path, "Events") as table:
            for columns in table.slices(self._branches(table), table.num_rows, self.slice_rows):
                jets = self._jets(columns)
                if len(jets) > rows:
                    jets = jets.take_jets(np.arange(len(jets)) < rows)
                rows -= len(jets)
                if len(jets):
                    yield self._chosen(jets, columns, path)
                if rows == 0:
                    return

    def _jets(self, columns: dict[str, Column]) -> Jets:
        """All jets of a slice of events; every candidate stands at each jet that it is linked to."""
        jet, links = self.config.collection, f"{self.config.collection}PFCands"
        jets_E = _lists(columns, f"{jet}_pt").offsets
        index, candidate = (_lists(columns, f"{links}_{name}") for name in ("jetIdx", "pFCandsIdx"))
        event_L = np.repeat(np.arange(len(jets_E) - 1), np.diff(index.offsets))
        linked_L = (index.values >= 0) & (candidate.values >= 0)
        jet_N = (jets_E[event_L] + index.values)[linked_L]
        row_N = (_lists(columns, "PFCands_pt").offsets[event_L] + candidate.values)[linked_L]
        order_N = np.argsort(jet_N, kind="stable")
        row_N, num_R = row_N[order_N], np.bincount(jet_N, minlength=int(jets_E[-1]))
        stored = {ours: _lists(columns, f"PFCands_{name}").values[row_N] for ours, name in CANDIDATES.items()}
        if self.config.puppi:
            weight_N = _lists(columns, "PFCands_puppiWeight").values[row_N]
            stored |= {name: stored[name] * weight_N for name in ("pt", "mass")}
        values: dict[str, np.ndarray] = {n: x.astype(np.float32) for n, x in four_vectors(stored).items()}
        values |= flags_of_ids(stored["pdg_id"]) | {"pdg_id": stored["pdg_id"], "charge": stored["charge"]}
        for name in TRACKS:
            values[name] = np.nan_to_num(stored[name] * MM_PER_CM, posinf=0, neginf=0).astype(np.float32)
        number = np.arange(len(num_R))
        scalars = {f"jet_{n}": _lists(columns, f"{jet}_{n}").values.astype(np.float32) for n in JET}
        return Jets(values, np.concatenate([[0], np.cumsum(num_R)]), np.zeros_like(number), number, scalars)

    def _chosen(self, jets: Jets, columns: dict[str, Column], path: Path) -> Jets:
        """Jets that are selected and have a class; the others are counted."""

        def value(text: str) -> np.ndarray:
            def field(name: str) -> np.ndarray:
                return _lists(columns, f"{self.config.collection}_{name}").values[: len(jets)]

            return np.broadcast_to(ColumnExpression(text)(field), len(jets))

        selected = np.ones(len(jets), bool)
        if self.config.select is not None:
            selected = value(self.config.select).astype(bool)
        jets.label = class_indices(self.config.label, value, len(jets), selected, path)
        kept = selected & (jets.label >= 0)
        counts = {"not_selected": int((~selected).sum()), "no_class": int((selected & ~kept).sum())}
        return replace(jets.take_jets(kept), dropped={reason: n for reason, n in counts.items() if n})


def _lists(columns: dict[str, Column], name: str) -> Lists:
    column = columns[name]
    if not isinstance(column, Lists):
        raise DataError(f"the branch {name} holds one value per event, expected a list")
    return column
