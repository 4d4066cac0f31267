"""JetNet30 and JetNet150 (Kansal et al., arXiv:2106.11535; Zenodo 6975118, 6975117): jets of g, q, t, W and Z."""

# Shapes: R jets of a slice, P padded slots, 4 = (etarel, phirel, ptrel, mask).

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._files import FileOptions, FileSource, Published
from jetsweep.data.sources._jets import P4, Jets
from jetsweep.data.sources._ragged import four_vectors
from jetsweep.data.sources._tables import HDF5Table
from jetsweep.errors import DataError

CLASSES = ("g", "q", "t", "w", "z")
RECORDS = {30: "6975118", 150: "6975117"}
SPLITS = {"train": 0.7, "val": 0.15, "test": 0.15}
COLUMNS = ("particle_features", "jet_features")


class JetNetOptions(FileOptions):
    """Options of the source `jetnet`."""

    name: Literal["jetnet"] = "jetnet"
    particles: Literal[30, 150] = Field(30, description="Most constituents of a jet: JetNet30 or JetNet150.")


@register_source
class JetNetSource(FileSource):
    """Absolute momenta out of relative ones and the stored jet; the files hold no azimuth, the jet's is 0."""

    config: JetNetOptions
    options: ClassVar[type[SourceOptions]] = JetNetOptions
    description = "JetNet, arXiv:2106.11535: 880k jets of g, q, t, w, z near 1 TeV, leading 30 or 150 constituents."
    classes = CLASSES
    plausible_pt = (200.0, 3000.0)

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return P4

    def published(self) -> list[Published]:
        end = "" if self.config.particles == 30 else "150"
        url = f"https://zenodo.org/records/{RECORDS[self.config.particles]}/files"
        return [Published(f"{c}{end}.hdf5", "", f"{url}/{c}{end}.hdf5", None) for c in CLASSES]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "reference": f"arXiv:2106.11535, Zenodo {RECORDS[self.config.particles]}",
            "jet_scalars": "pt, eta, mass as stored, of the full jet; jet_phi is 0, because no azimuth is stored",
            "conventions": "massless constituents; pt = ptrel * jet pt, eta = etarel + jet eta, phi = phirel",
            "splits": "hash of seed, file and row: 0.70 / 0.15 / 0.15, unless `files` names them",
        }

    @property
    def shares(self) -> Mapping[str, float]:
        return SPLITS

    def count(self, path: Path) -> int:
        _class_of(path)
        with HDF5Table(path) as table:
            table.check(COLUMNS)
            return table.num_rows

    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        with HDF5Table(path) as table:
            table.check(COLUMNS)
            for columns in table.slices(COLUMNS, rows, self.slice_rows):
                x_RP4, jet_R4 = (np.asarray(columns[name]) for name in COLUMNS)
                if x_RP4.ndim != 3 or x_RP4.shape[2] != 4 or jet_R4.ndim != 2 or jet_R4.shape[1] != 4:
                    raise DataError(
                        f"{path}: particle_features {x_RP4.shape} and jet_features {jet_R4.shape}, expected (N, "
                        "particles, 4) etarel, phirel, ptrel, mask and (N, 4) pt, eta, mass, num_particles"
                    )
                yield _jets(x_RP4.astype(np.float64), jet_R4.astype(np.float64), _class_of(path))


def _jets(x_RP4: np.ndarray, jet_R4: np.ndarray, label: int) -> Jets:
    real_RP = x_RP4[..., 3] > 0.5
    offsets = np.concatenate([[0], np.cumsum(real_RP.sum(axis=1))])
    jet_N = np.repeat(np.arange(len(jet_R4)), np.diff(offsets))
    eta_N, phi_N, pt_N, _ = x_RP4[real_RP].T
    values = four_vectors({"pt": pt_N * jet_R4[jet_N, 0], "eta": eta_N + jet_R4[jet_N, 1], "phi": phi_N})
    pt_R, eta_R, mass_R = jet_R4[:, :3].astype(np.float32).T
    scalars = {"jet_pt": pt_R, "jet_eta": eta_R, "jet_phi": np.zeros_like(pt_R), "jet_mass": mass_R}
    number = np.arange(len(jet_R4))
    return Jets(
        {name: x.astype(np.float32) for name, x in values.items()},
        offsets,
        np.full_like(number, label),
        number,
        scalars,
    )


def _class_of(path: Path) -> int:
    name = path.stem.removesuffix("150")
    if name not in CLASSES:
        raise DataError(f"{path}: expected a name of JetNet, such as g.hdf5 or t150.hdf5, which tells the class")
    return CLASSES.index(name)
