"""Pythia 8 events to jets: one chunk of one class at a time, a pure function of the seed and the chunk's number."""

# Shapes: B jets, M particles of all events of a batch, N constituents of all jets, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from jetsweep.data.sources._jets import P4, Jets, concatenate, flags_of_ids, jet_scalars, truncated
from jetsweep.data.sources._particle_flow import particle_flow
from jetsweep.data.sources._pythia_decays import contained, decays, pseudorapidity
from jetsweep.data.sources._pythia_processes import PROCESSES, JetSelection, PartonVeto, Process, settings
from jetsweep.data.sources._pythia_showers import weight_columns
from jetsweep.data.sources._pythia_tracks import impact_parameters, track_truth
from jetsweep.errors import DataError

EVENTS_PER_BATCH = 100


def generate_chunk(
    process: str,
    label: int,
    seed: int,
    chunk: int,
    size: int,
    tracks: bool = False,
    shower: str = "",
    bands: bool = False,
) -> Jets:
    """Make exactly `size` jets.

    Parameters
    ----------
    process : str
        A key of `PROCESSES`.
    label : int
        Index of the class in the process's recipes.
    seed : int
        Seed of the whole sample.
    chunk : int
        Number of the chunk within its class; with `seed` and `label` it fixes every random number.
    size : int
    tracks : bool
        Add impact parameters, origins and vertices.
    shower : str
        A key of `SHOWERS`; each has random numbers of its own.
    bands : bool
        Add the shower weights.

    Returns
    -------
    Jets
        With ``source_row = chunk * CHUNK + i`` left to the caller; scalars hold the number of the event within the
        chunk, the weight where the process has one, ``shower_<i>`` with `bands`, and the mass of the resonance that
        a jet was matched to (``matched_mass``, GeV).
    """
    import awkward as ak
    import pythia8mc as pythia8

    chosen = PROCESSES[process]
    own = zlib.crc32(shower.encode())
    # Pythia takes seeds up to 900 million; classes and chunks never share one
    pythia_seed = 1 + (seed * 1_000_003 + chunk * chosen.stride + label + own) % 899_999_999
    of_shower = [own] if shower else []
    rng = np.random.default_rng([seed, label, chunk, *of_shower])
    # a generator of its own, so that the same jets come with and without
    track_rng = np.random.default_rng([seed, label, chunk, 1, *of_shower]) if tracks else None
    pythia = pythia8.Pythia("", False)
    for line in settings(process, label, pythia_seed, shower, bands):
        if not pythia.readString(line):
            raise DataError(f"Pythia {pythia.settings.parm('Pythia:versionNumber')} does not know the setting {line!r}")
    # Pythia does not keep the Python object alive
    veto = chosen.recipes[label].veto
    hook = None if veto is None else _veto_hook(pythia8, chosen.selection, veto)
    if hook is not None:
        pythia.setUserHooksPtr(hook)
    if not pythia.init():
        raise DataError(f"Pythia could not be initialised for {process}, class {chosen.recipes[label].label}")

    parts: list[Jets] = []
    count = 0
    while count < size:
        events = pythia.nextBatch(EVENTS_PER_BATCH)
        weights_E = weight_columns(pythia, events.info.weights) if bands else None
        found = _jets_of_batch(events, chosen, label, rng, track_rng, weights_E, ak)
        found.scalars["event"] += len(parts) * EVENTS_PER_BATCH
        parts.append(found)
        count += len(found)
    jets = concatenate(parts)
    jets = jets.take_jets(np.arange(len(jets)) < size).sorted_by_pt()
    jets.scalars.update(jet_scalars(jets))
    if chosen.selection.max_constituents is not None:
        jets = truncated(jets, chosen.selection.max_constituents)
    return jets


def _veto_hook(pythia8: Any, cuts: JetSelection, veto: PartonVeto) -> Any:
    """The hook that applies `veto`; its parton jets have the radius of the jets and some room in eta."""
    # 2: everything but neutrinos, 1: with masses
    finder = pythia8.SlowJet(-1, cuts.radius, veto.pt[0], cuts.eta + 1.0, 2, 1)

    def is_hopeless(event: Any) -> bool:
        finder.analyze(event)
        return not any(finder.pT(i) < veto.pt[1] for i in range(min(veto.jets, finder.sizeJet())))

    class Hook(pythia8.UserHooks):  # type: ignore[misc]
        def canVetoPT(self) -> bool:
            return veto.scale is not None

        def scaleVetoPT(self) -> float:
            return veto.scale or 0.0

        def doVetoPT(self, position: int, event: Any) -> bool:
            # 5: the showers of resonance decays ask a second time
            return position != 5 and is_hopeless(event)

        def canVetoPartonLevel(self) -> bool:
            return veto.scale is None

        def doVetoPartonLevel(self, event: Any) -> bool:
            return is_hopeless(event)

    return Hook()


def _jets_of_batch(
    events: Any,
    process: Process,
    label: int,
    rng: np.random.Generator,
    track_rng: np.random.Generator | None,
    weights_E: np.ndarray | None,
    ak: Any,
) -> Jets:
    """Selected jets of one batch of events, hardest first within an event."""
    cuts, recipe = process.selection, process.recipes[label]
    particles = events.prt
    num_E = ak.to_numpy(ak.num(particles)).astype(np.int64)
    starts_E = np.concatenate([[0], np.cumsum(num_E)])
    flat = ak.flatten(particles)
    id_M = ak.to_numpy(flat.id)
    p4_M4 = np.column_stack([ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz", "e")])
    event_M = np.repeat(np.arange(len(num_E)), num_E)

    visible_M = (ak.to_numpy(flat.status) > 0) & ~np.isin(np.abs(id_M), (12, 14, 16))
    p4_N4, ids_N, event_N = p4_M4[visible_M], id_M[visible_M], event_M[visible_M]
    if cuts.detector:
        of_tracks = None
        if track_rng is not None:
            of_tracks = _track_columns(flat, id_M, p4_M4, event_M, starts_E, track_rng, ak)
            of_tracks = {name: x[visible_M] for name, x in of_tracks.items()}
        p4_N4, columns, event_N = particle_flow(p4_N4, ids_N, event_N, rng, of_tracks)
    else:
        columns = {"pdg_id": ids_N.astype(np.int32), **flags_of_ids(ids_N)}
    jet_event, jet_p4, constituents, offsets = _cluster(p4_N4, event_N, len(num_E), cuts, ak)

    pt = np.hypot(jet_p4[:, 0], jet_p4[:, 1])
    angle = _rapidity(jet_p4) if cuts.use_rapidity else pseudorapidity(jet_p4)
    keep_B = (pt > cuts.pt[0]) & (pt < cuts.pt[1]) & (np.abs(angle) < cuts.eta)
    scalars = {"event": jet_event}
    if recipe.match:
        daughters = [np.asarray(ak.to_numpy(flat[name])).astype(np.int64) for name in ("daughter1", "daughter2")]
        found = decays(recipe.match, np.asarray(id_M), p4_M4, event_M, starts_E, *daughters)
        resonance_B = contained(jet_event, jet_p4, found, cuts.radius)
        keep_B &= resonance_B >= 0
        scalars["matched_mass"] = np.append(found.mass, np.nan)[resonance_B]
    values = {name: p4_N4[constituents, i].astype(np.float32) for i, name in enumerate(P4)}
    values |= {name: x[constituents] for name, x in columns.items()}
    if process.weighted:
        scalars["weight"] = ak.to_numpy(events.info.weights[:, 0]).astype(np.float32)[jet_event]
    if weights_E is not None:
        scalars |= {f"shower_{i}": x.astype(np.float32)[jet_event] for i, x in enumerate(weights_E.T)}
    size = len(jet_event)
    jets = Jets(values, offsets, np.full(size, label), np.zeros(size, np.int64), scalars)
    return jets.take_jets(keep_B)


def _track_columns(
    flat: Any,
    pdg_id: np.ndarray,
    p4: np.ndarray,
    event: np.ndarray,
    starts: np.ndarray,
    rng: np.random.Generator,
    ak: Any,
) -> dict[str, np.ndarray]:
    # Pythia's awkward records name the four components of every vector alike; without a vertex it is the collision
    position = np.column_stack([ak.to_numpy(ak.fill_none(flat.vProd[name], 0.0)) for name in ("px", "py", "pz")])
    # plain arrays: awkward gives masked ones
    pdg_id, mother = np.asarray(pdg_id), np.asarray(ak.to_numpy(flat.mother1)).astype(np.int64) + starts[event]
    return impact_parameters(p4, position, rng) | track_truth(pdg_id, mother, position, event)


def _cluster(
    p4: np.ndarray, event: np.ndarray, num_events: int, cuts: JetSelection, ak: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Leading anti-kt jets of all events in one call: event, four-vector, constituent numbers, offsets."""
    import fastjet

    num_E = np.bincount(event, minlength=num_events)
    start_E = np.concatenate([[0], np.cumsum(num_E)[:-1]])
    fields = dict(zip(("px", "py", "pz", "E"), p4.T.copy()))
    vectors = ak.unflatten(ak.zip(fields, with_name="Momentum4D"), num_E)
    sequence = fastjet.ClusterSequence(vectors, fastjet.JetDefinition(fastjet.antikt_algorithm, cuts.radius))
    # the two leading jets may be looked for above the window's lower edge: softer ones cannot be selected
    jets = sequence.inclusive_jets(min_pt=cuts.pt[0])
    index = sequence.constituent_index(min_pt=cuts.pt[0])
    order = ak.argsort(jets.px**2 + jets.py**2, ascending=False)[:, : cuts.leading]
    jets, index = jets[order], index[order]
    jet_event = np.repeat(np.arange(num_events), ak.to_numpy(ak.num(jets)))
    flat = ak.flatten(jets)
    jet_p4 = np.column_stack([ak.to_numpy(flat[name]) for name in ("px", "py", "pz", "E")]).reshape(-1, 4)
    num_B = ak.to_numpy(ak.num(ak.flatten(index))).astype(np.int64)
    constituents = ak.to_numpy(ak.flatten(index, axis=None)).astype(np.int64) + np.repeat(start_E[jet_event], num_B)
    return jet_event, jet_p4, constituents, np.concatenate([[0], np.cumsum(num_B)])


def _rapidity(p4: np.ndarray) -> np.ndarray:
    return np.asarray(np.arctanh(p4[..., 2] / p4[..., 3]))
