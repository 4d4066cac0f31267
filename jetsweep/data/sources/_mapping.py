"""Users' own files: a mapping in YAML says which columns are momenta, jet scalars, labels and weights."""

# Shapes: R jets of a slice, N constituents of all of them, P padded slots.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from jetsweep.data.sources._expressions import ColumnExpression
from jetsweep.data.sources._files import check_energy
from jetsweep.data.sources._jets import FLAGS, P4, Jets, flags_of_ids, jet_scalars
from jetsweep.data.sources._labels import check_expression
from jetsweep.data.sources._own_files import OwnFileOptions, OwnFileSource
from jetsweep.data.sources._ragged import checked_weights, flat, four_vectors, ragged_columns
from jetsweep.data.sources._tables import Column, TableFile

MOMENTA = frozenset(
    ("px", "py", "pz", "energy", "pt", "mass", "jet_pt", "jet_mass", "jet_energy", "jet_sdmass", "jet_px", "jet_py",
     "jet_pz")
)  # fmt: skip
"""Names that are scaled from MeV to GeV."""
DERIVED = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "num_constituents")
"""Names that expressions may use without a column."""


class MappedOptions(OwnFileOptions):
    """Options of the sources that read files of any layout."""

    constituents: dict[str, str] = Field(
        description="Column of each quantity: px, py, pz, energy; or pt, eta (or rapidity), phi and energy or mass; "
        "then charge, pdg_id, d0, … or names of your own."
    )
    valid: str | None = Field(
        None, description="Padded column that is true for real constituents; default: momentum is not 0."
    )
    units: Literal["GeV", "MeV"] = Field("GeV", description="Unit of momenta, energies and masses in the files.")
    jet: dict[str, str] = Field(
        {}, description="Columns of jet scalars, e.g. {jet_pt: fj_pt}; what is missing is of the constituents' sum."
    )
    weight: str | None = Field(None, description="Column, or expression, of the jets' weights.")

    @model_validator(mode="after")
    def _complete(self) -> MappedOptions:
        given = self.constituents.keys()
        direction = given & {"eta", "rapidity"}
        cylindrical = {"pt", "phi"} <= given and len(direction) == 1 and not {"energy", "mass"} <= given
        if set(P4) <= given:
            if given & {"pt", "eta", "rapidity", "phi", "mass"}:
                raise ValueError("constituents: give px, py, pz, energy or pt, eta, phi, not both")
        elif not cylindrical or given & set(P4[:3]):
            raise ValueError(
                "constituents: expected px, py, pz, energy; or pt, phi, one of eta and rapidity, and at most one of "
                f"energy and mass; found {', '.join(given) or 'none'}"
            )
        if "rapidity" in given and "energy" in given:
            raise ValueError("constituents: rapidity goes with mass (0 if not given), not with energy")
        if self.weight is not None:
            check_expression(self.weight)
        return self


class MappedSource(OwnFileSource):
    """Reads columns by the names that the mapping gives; subclasses open one kind of file."""

    config: MappedOptions
    plausible_pt = (3.0, 10_000.0)

    @abstractmethod
    def open(self, path: Path) -> TableFile:
        """Open one file."""

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        given = self.config.constituents.keys()
        others = [name for name in given if name not in (*P4, "pt", "eta", "rapidity", "phi", "mass")]
        if "pdg_id" in given:
            others += [name for name in ("charge", *FLAGS) if name not in given]
        return (*P4, *others)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        names = dict.fromkeys((*super().scalar_columns, *self.config.jet))
        return (*names, *(["weight"] if self.config.weight else []))

    def count(self, path: Path) -> int:
        with self.open(path) as table:
            table.check(self._needed(table))
            return table.num_rows

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with self.open(path) as table:
            needed = self._needed(table)
            table.check(needed)
            for columns in table.slices(needed, rows, self.slice_rows):
                yield self._jets(columns, path)

    def _needed(self, table: TableFile) -> list[str]:
        """Columns of the file that are read."""
        config = self.config
        names = [*config.constituents.values(), *([config.valid] if config.valid else []), *config.jet.values()]
        for text in (config.weight, config.select, config.label.column, *(config.label.columns or {}).values()):
            if text is not None:
                mentioned = [text] if text in table.names or ":" in text else ColumnExpression(text).names
                names += [x for x in mentioned if x not in config.jet and (x in table.names or x not in DERIVED)]
        return list(dict.fromkeys(names))

    def _jets(self, columns: dict[str, Column], path: Path) -> Jets:
        config, scale = self.config, 1e-3 if self.config.units == "MeV" else 1.0
        lists, offsets = ragged_columns(columns, config.constituents, config.valid, path)
        scaled = {name: x * scale if name in MOMENTA else x for name, x in lists.items()}
        values: dict[str, np.ndarray] = {n: x.astype(np.float32) for n, x in four_vectors(scaled).items()}
        if "energy" in scaled:
            where = ", ".join(config.constituents[n] for n in (*P4, "pt", "eta", "phi") if n in config.constituents)
            check_energy(np.column_stack([values[name] for name in P4]), path, f"the columns {where} as mapped")
        if "pdg_id" in scaled:
            scaled = flags_of_ids(scaled["pdg_id"]) | scaled
        for name in self.constituent_columns[4:]:
            values[name] = scaled[name] != 0 if name in FLAGS else scaled[name]
        jets = Jets(values, offsets, np.zeros(len(offsets) - 1, np.int64), np.arange(len(offsets) - 1))
        stored = {
            name: flat(columns[column], column, path) * (scale if name in MOMENTA else 1)
            for name, column in config.jet.items()
        }
        derived = {**jet_scalars(jets), "num_constituents": np.diff(offsets)}

        def lookup(name: str) -> np.ndarray:
            if name in stored:
                return stored[name]
            return flat(columns[name], name, path) if name in columns else derived[name]

        def value(text: str) -> np.ndarray:
            if text in columns:
                return flat(columns[text], text, path)
            return np.broadcast_to(ColumnExpression(text)(lookup), len(jets))

        jets.scalars = {name: x.astype(np.float32) for name, x in stored.items()}
        if config.weight:
            jets.scalars["weight"] = checked_weights(value(config.weight), config.weight, path)
        return self.chosen(jets, value, path)

    @property
    def unit_question(self) -> str:
        other = "GeV" if self.config.units == "MeV" else "MeV"
        return f"with units: {self.config.units}; are the momenta in {other}? then write units: {other}"
