"""ATLAS PHYSLITE: large-radius jets of your own files with what the format keeps of their inside.

PHYSLITE is made for analyses with calibrated jets. It stores links from jets to their constituents, but in the files
that were looked at the constituents' containers (UFO, topo-clusters) are left out; thinned tracks are there.
"""

# Shapes: E events of a slice, R their jets, N constituents of all jets, T tracks of all events.

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import register_source
from jetsweep.data.sources._events import Branches, EventTreeSource, lists, offsets_of
from jetsweep.data.sources._jets import FLAGS, P4, TRACKS, Jets, segment_sum
from jetsweep.data.sources._own_files import OwnFileOptions
from jetsweep.data.sources._ragged import four_vectors
from jetsweep.data.sources._tables import RootTable
from jetsweep.errors import DataError

GEV = 1e-3
"""PHYSLITE is in MeV."""
PION_MASS = 0.13957
FORMS = ("AuxDyn.", "Aux.", "AuxDyn:")
"""What stands between a container's name and its variable's: dynamic, static, and in an RNTuple."""
TRACK_VARIABLES = ("phi", "theta", "qOverP", "d0", "z0", "vz", "definingParametersCovMatrixDiag")
FLOW, CLUSTER = ("pt", "eta", "phi", "m"), ("calE", "calEta", "calPhi")
"""Momenta of flow objects, and of calorimeter clusters (massless)."""
LINK_TOLERANCE = 0.02
"""Largest median deviation of the linked momenta's sum from the jets' pT at constituent scale."""


class PhysliteOptions(OwnFileOptions):
    """Options of the source `physlite`."""

    name: Literal["physlite"] = "physlite"
    collection: str = Field("AnalysisLargeRJets", description="Container of the jets.")
    constituents: Literal["links", "tracks"] = Field(
        "links",
        description="links: what constituentLinks point to, if it is in the file; tracks: inner-detector tracks "
        "within `radius` of the jet, neutral particles are missing and many tracks are thinned away.",
    )
    container: str = Field("UFOCSSK", description="Container that constituentLinks point to.")
    radius: PositiveFloat = Field(1.0, description="Largest distance of a track from its jet, in eta and phi.")


@register_source
class PhysliteSource(EventTreeSource):
    """Branches are looked for as dynamic and as static variables of their containers."""

    config: PhysliteOptions
    options: ClassVar[type[SourceOptions]] = PhysliteOptions
    description = "ATLAS PHYSLITE: large-radius jets of your own files, with linked constituents or tracks."
    plausible_pt = (10.0, 6000.0)
    unit_question = "PHYSLITE is in MeV, are the momenta of the file in GeV already?"
    tree = "CollectionTree"

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        return P4 if self.config.constituents == "links" else (*P4, "charge", *FLAGS, *TRACKS)

    def provenance(self) -> dict[str, Any]:
        linked = self.config.constituents == "links"
        tracks = f"tracks within {self.config.radius} of the jet, pion mass; neutral and thinned particles are missing"
        return super().provenance() | {
            "jet_scalars": f"pt, eta, phi, m of {self.config.collection} as stored (calibrated), MeV to GeV",
            "constituents": f"linked, of {self.config.container}" if linked else tracks,
            "conventions": "pseudorapidity" + ("" if linked else "; impact parameters in mm, dz to the primary vertex"),
        }

    def branches(self, table: RootTable) -> dict[str, str]:
        config = self.config
        if _find(table, config.collection, "pt") is None:
            found = sorted({x.partition("Aux")[0] for x in table.names if "JetsAux" in x})
            raise DataError(
                f"{table.path}: expected the jets {config.collection} ({config.collection}AuxDyn.pt), found "
                f"{', '.join(found) or 'no jets; is it PHYSLITE?'}"
            )
        names = {"event": _required(table, "EventInfo", "eventNumber")}
        names |= {f"jet.{x}": _required(table, config.collection, x) for x in ("pt", "eta", "phi", "m", *self.fields)}
        if config.constituents == "tracks":
            names |= {f"track.{x}": _required(table, "InDetTrackParticles", x) for x in TRACK_VARIABLES}
            return names | {f"vertex.{x}": _required(table, "PrimaryVertices", x) for x in ("z", "vertexType")}
        names["links"] = _required(table, config.collection, "constituentLinks")
        stored = next((x for x in (FLOW, CLUSTER) if _find(table, config.container, x[0]) is not None), None)
        if stored is None:
            raise DataError(
                f"{table.path}: constituentLinks of {config.collection} point to constituents that are not in the file "
                f"(no {config.container}); PHYSLITE need not hold them: name it, or write constituents: tracks"
            )
        names |= {f"constituent.{x}": _required(table, config.container, x) for x in stored}
        scale = _find(table, config.collection, "JetConstitScaleMomentum_pt")
        return names | ({"scale": scale} if scale is not None else {})

    def jets_of(self, arrays: Branches, path: Path) -> Jets:
        pt = lists(arrays, "jet.pt", path)
        eta, phi, mass = (lists(arrays, f"jet.{x}", path).values for x in ("eta", "phi", "m"))
        scalars = {"jet_pt": pt.values * GEV, "jet_eta": eta, "jet_phi": phi, "jet_mass": mass * GEV}
        scalars = {name: x.astype(np.float32) for name, x in scalars.items()}
        self.check_unit(scalars["jet_pt"], path)
        event = np.asarray(arrays["event"]).astype(np.int64)
        scalars["event_number"] = np.repeat(event, np.diff(pt.offsets))
        number = np.arange(len(eta))
        if self.config.constituents == "tracks":
            values, offsets = _tracks(arrays, pt.offsets, eta, phi, self.config.radius, path)
        else:
            values, offsets = _linked(arrays, pt.offsets, path)
            _check_links(arrays, values, offsets, self.config.container, path)
        return Jets(values, offsets, np.zeros_like(number), number, scalars)


def _find(table: RootTable, container: str, variable: str) -> str | None:
    names = (f"{container}{form}{variable}" for form in FORMS)
    return next((name for name in names if name in table.names), None)


def _required(table: RootTable, container: str, variable: str) -> str:
    name = _find(table, container, variable)
    if name is None:
        table.check([f"{container}{FORMS[0]}{variable}"])
    assert name is not None
    return name


def _tracks(
    arrays: Branches, jets_E: np.ndarray, eta_R: np.ndarray, phi_R: np.ndarray, radius: float, path: Path
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tracks within `radius` of each jet; one near two jets stands at both."""
    import awkward as ak

    track = {name: lists(arrays, f"track.{name}", path) for name in TRACK_VARIABLES[:-1]}
    tracks_E = track["phi"].offsets
    phi_T, theta_T, q_over_p_T = (track[name].values.astype(np.float64) for name in ("phi", "theta", "qOverP"))
    eta_T = -np.log(np.tan(theta_T / 2))
    # every jet with every track of its event
    num_R = np.repeat(np.diff(tracks_E), np.diff(jets_E))
    jet_N = np.repeat(np.arange(len(num_R)), num_R)
    first_R = np.repeat(tracks_E[:-1], np.diff(jets_E))
    row_N = np.arange(len(jet_N)) - offsets_of(num_R)[:-1][jet_N] + first_R[jet_N]
    d_phi_N = (phi_T[row_N] - phi_R[jet_N] + np.pi) % (2 * np.pi) - np.pi
    near_N = np.hypot(eta_T[row_N] - eta_R[jet_N], d_phi_N) < radius
    jet_N, row_N = jet_N[near_N], row_N[near_N]

    pt_N = np.sin(theta_T[row_N]) / np.abs(q_over_p_T[row_N]) * GEV
    p4 = four_vectors({"pt": pt_N, "eta": eta_T[row_N], "phi": phi_T[row_N], "mass": np.full_like(pt_N, PION_MASS)})
    variance_T5 = np.asarray(ak.to_numpy(ak.flatten(arrays["track.definingParametersCovMatrixDiag"])))
    event_T = np.repeat(np.arange(len(tracks_E) - 1), np.diff(tracks_E))
    dz_T = track["z0"].values + track["vz"].values - _primary_z(arrays, path)[event_T]
    displacement = {"d0": track["d0"].values, "d0_err": np.sqrt(variance_T5[:, 0]), "dz": dz_T}
    displacement["dz_err"] = np.sqrt(variance_T5[:, 1])
    values: dict[str, np.ndarray] = {name: x.astype(np.float32) for name, x in p4.items()}
    values |= {name: x[row_N].astype(np.float32) for name, x in displacement.items()}
    values |= {"charge": np.sign(q_over_p_T[row_N])}
    values |= {name: np.full(len(row_N), name == "is_charged_hadron") for name in FLAGS}
    return values, offsets_of(np.bincount(jet_N, minlength=len(num_R)))


def _primary_z(arrays: Branches, path: Path) -> np.ndarray:
    """Z of the vertex of type 1 of every event, of the first where none has it, 0 where there is no vertex (mm)."""
    z, kind = lists(arrays, "vertex.z", path), lists(arrays, "vertex.vertexType", path)
    z_E = np.zeros(len(z.offsets) - 1)
    for event, (low, high) in enumerate(zip(z.offsets[:-1], z.offsets[1:])):
        if high > low:
            z_E[event] = z.values[low + int(np.argmax(kind.values[low:high] == 1))]
    return z_E


def _linked(arrays: Branches, jets_E: np.ndarray, path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Momenta that the links point to; links to what was thinned away are left out."""
    import awkward as ak

    links = ak.flatten(arrays["links"])
    num_R = ak.to_numpy(ak.num(links))
    key_N, index_N = (np.asarray(ak.to_numpy(ak.flatten(links[x]))) for x in ("m_persKey", "m_persIndex"))
    stored = {n: lists(arrays, f"constituent.{n}", path) for n in (*FLOW, *CLUSTER) if f"constituent.{n}" in arrays}
    offsets_E = next(iter(stored.values())).offsets
    jet_N = np.repeat(np.arange(len(num_R)), num_R)
    event_N = np.repeat(np.arange(len(jets_E) - 1), np.diff(jets_E))[jet_N]
    is_there_N = (key_N != 0) & (index_N < np.diff(offsets_E)[event_N])
    jet_N, row_N = jet_N[is_there_N], (offsets_E[event_N] + index_N)[is_there_N]
    x = {name: column.values[row_N].astype(np.float64) for name, column in stored.items()}
    if "calE" in x:
        momenta = {"pt": x["calE"] / np.cosh(x["calEta"]) * GEV, "eta": x["calEta"], "phi": x["calPhi"]}
    else:
        momenta = {"pt": x["pt"] * GEV, "eta": x["eta"], "phi": x["phi"], "mass": x["m"] * GEV}
    values = {name: p.astype(np.float32) for name, p in four_vectors(momenta).items()}
    return values, offsets_of(np.bincount(jet_N, minlength=len(num_R)))


def _check_links(arrays: Branches, values: dict[str, np.ndarray], offsets: np.ndarray, name: str, path: Path) -> None:
    """Raise where the linked momenta do not add up to the jets: another container, or most was thinned away."""
    if "scale" not in arrays or len(offsets) == 1:
        return
    pt_R = np.hypot(segment_sum(values["px"], offsets), segment_sum(values["py"], offsets))
    share = float(np.median(pt_R / np.maximum(lists(arrays, "scale", path).values * GEV, 1e-9)))
    if abs(share - 1) > LINK_TOLERANCE:
        raise DataError(
            f"{path}: the linked momenta of {name} add up to {share:.0%} of the jets' pT at constituent scale, "
            "expected 100%; is it the container that constituentLinks point to, and complete?"
        )
