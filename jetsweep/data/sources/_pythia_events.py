"""Pythia 8 events to jets: one chunk of one class at a time, a pure function of the seed and the chunk's number."""

# Shapes: B jets, M particles of all events of a batch, N constituents of all jets, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from jetsweep.data.sources._jets import P4, Jets, concatenate, flags_of_ids, jet_scalars, truncated
from jetsweep.data.sources._particle_flow import particle_flow
from jetsweep.data.sources._pythia_showers import BANDS, SHOWERS, weight_columns
from jetsweep.data.sources._pythia_tracks import impact_parameters, track_truth
from jetsweep.errors import DataError

EVENTS_PER_BATCH = 100
COMMON = (
    "Print:quiet = on", "Beams:idA = 2212", "Beams:idB = 2212", "Beams:eCM = 14000.", "Random:setSeed = on",
)  # fmt: skip
DETECTOR_LIFETIME = ("ParticleDecays:limitTau0 = on", "ParticleDecays:tau0Max = 10.")
W_TO_QUARKS = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
Z_TO_NEUTRINOS = ("23:onMode = off", "23:onIfAny = 12 14 16")


@dataclass(frozen=True)
class JetSelection:
    """Which jets of an event are kept.

    Parameters
    ----------
    radius : float
        Of the anti-kt jets.
    pt : tuple of float
        Window, GeV.
    eta : float
        Largest absolute value.
    use_rapidity : bool
        The cut is on the rapidity, not on the pseudorapidity.
    leading : int
        Only so many hardest jets of an event are looked at.
    max_constituents : int or None
        Hardest constituents kept.
    detector : bool
        Particles go through the toy particle flow.
    """

    radius: float
    pt: tuple[float, float]
    eta: float
    use_rapidity: bool = False
    leading: int = 1
    max_constituents: int | None = None
    detector: bool = True


@dataclass(frozen=True)
class PartonVeto:
    """Events are given up early unless one of their leading parton jets has a pT near the window of the selection.

    Parameters
    ----------
    pt : tuple of float
        Widened window, GeV. Measured loss of selected jets: 0.3 per cent (qcd), about 1 per cent (quark, gluon).
    jets : int
        Leading parton jets looked at.
    scale : float or None
        Decide when the evolution has come down to this pT (GeV), before most multiple interactions; None: decide
        after the parton shower, before hadronisation.
    """

    pt: tuple[float, float]
    jets: int
    scale: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How jets of one class are made; `match` is the resonance whose quarks must lie inside the jet (0: none)."""

    label: str
    settings: tuple[str, ...]
    match: int = 0
    veto: PartonVeto | None = None


@dataclass(frozen=True)
class Process:
    """Two classes of jets with one selection."""

    selection: JetSelection
    recipes: tuple[Recipe, Recipe]
    common: tuple[str, ...] = ()
    weighted: bool = False


def _pt_hat(low: float, high: float) -> tuple[str, str]:
    return f"PhaseSpace:pTHatMin = {low}", f"PhaseSpace:pTHatMax = {high}"


def _bias(power: float) -> tuple[str, ...]:
    return (
        "PhaseSpace:bias2Selection = on",
        f"PhaseSpace:bias2SelectionPow = {power}",
        "PhaseSpace:bias2SelectionRef = 200.",
    )


Z_JET_VETO = PartonVeto((440.0, 610.0), jets=1, scale=10.0)
PROCESSES = {
    "top-qcd": Process(
        JetSelection(radius=0.8, pt=(550.0, 650.0), eta=2.0, leading=2, max_constituents=200),
        (
            # no veto for tops: it would lose 3 per cent of them for a tenth of the time
            Recipe("qcd", ("HardQCD:all = on",), veto=PartonVeto((515.0, 710.0), jets=3)),
            Recipe("top", ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *W_TO_QUARKS), match=6),
        ),
        common=(*DETECTOR_LIFETIME, *_pt_hat(480, 900), "PartonLevel:MPI = off"),
    ),
    "quark-gluon": Process(
        JetSelection(radius=0.4, pt=(500.0, 550.0), eta=1.7, use_rapidity=True, detector=False),
        (
            Recipe("gluon", ("WeakBosonAndParton:qqbar2gmZg = on",), veto=Z_JET_VETO),
            Recipe("quark", ("WeakBosonAndParton:qg2gmZq = on",), veto=Z_JET_VETO),
        ),
        common=(*_pt_hat(430, 750), "WeakZ0:gmZmode = 2", *Z_TO_NEUTRINOS),
    ),
    "w-qcd": Process(
        JetSelection(radius=1.0, pt=(200.0, 500.0), eta=2.0),
        (
            Recipe("qcd", ("HardQCD:all = on", *_bias(4.5))),
            Recipe("w", ("WeakDoubleBoson:ffbar2ZW = on", *W_TO_QUARKS, *Z_TO_NEUTRINOS, *_bias(3.5))),
        ),
        common=(*DETECTOR_LIFETIME, *_pt_hat(160, 700)),
        weighted=True,
    ),
}


def settings(process: str, label: int, seed: int, shower: str = "", bands: bool = False) -> list[str]:
    """Every line given to Pythia for one chunk."""
    chosen = PROCESSES[process]
    further = (*SHOWERS[shower], *(BANDS if bands else ()))
    return [*COMMON, *chosen.common, *chosen.recipes[label].settings, *further, f"Random:seed = {seed}"]


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
        Index of the class.
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
        chunk, the weight where the process has one, and ``shower_<i>`` with `bands`.
    """
    import awkward as ak
    import pythia8mc as pythia8

    chosen = PROCESSES[process]
    own = zlib.crc32(shower.encode())
    # Pythia takes seeds up to 900 million; classes and chunks never share one
    pythia_seed = 1 + (seed * 1_000_003 + chunk * 2 + label + own) % 899_999_999
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
    angle = _rapidity(jet_p4) if cuts.use_rapidity else _eta(jet_p4)
    keep_B = (pt > cuts.pt[0]) & (pt < cuts.pt[1]) & (np.abs(angle) < cuts.eta)
    if recipe.match:
        daughters = [ak.to_numpy(flat[name]).astype(np.int64) for name in ("daughter1", "daughter2")]
        decays = _decays(recipe.match, id_M, p4_M4, event_M, starts_E, *daughters)
        keep_B &= _all_inside(jet_event, jet_p4, *decays, cuts.radius)
    values = {name: p4_N4[constituents, i].astype(np.float32) for i, name in enumerate(P4)}
    values |= {name: x[constituents] for name, x in columns.items()}
    scalars = {"event": jet_event}
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


def _decays(
    resonance: int,
    pdg_id: np.ndarray,
    p4: np.ndarray,
    event: np.ndarray,
    starts: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Events (R,) and four-vectors (R, 4, 4) of the tops of a batch: the top, its b, and the W's two quarks."""
    assert resonance == 6, "only tops are matched"
    first_M, last_M = first + starts[event], last + starts[event]
    is_top_M = np.abs(pdg_id) == resonance
    final_M = is_top_M & (np.abs(pdg_id[first_M]) != resonance)
    top_R = np.flatnonzero(final_M)
    # t → W b in either order
    w_first_R = np.abs(pdg_id[first_M[top_R]]) == 24
    w_R = np.where(w_first_R, first_M[top_R], last_M[top_R])
    down_R = np.where(w_first_R, last_M[top_R], first_M[top_R])
    while True:
        again_R = np.abs(pdg_id[first_M[w_R]]) == 24
        if not again_R.any():
            break
        w_R = np.where(again_R, first_M[w_R], w_R)
    return event[top_R], p4[np.stack([top_R, down_R, first_M[w_R], last_M[w_R]], axis=1)]


def _all_inside(
    jet_event: np.ndarray, jet_p4: np.ndarray, event: np.ndarray, decay: np.ndarray, radius: float
) -> np.ndarray:
    """Whether some resonance of the jet's event lies, with all its quarks, within `radius` of the jet, shape (B,)."""
    inside_B = np.zeros(len(jet_event), bool)
    if len(event) == 0:
        return inside_B
    # a batch has few resonances per event: compare every jet with every resonance of its event
    same_BR = jet_event[:, None] == event[None, :]
    jet, resonance = np.nonzero(same_BR)
    d_eta = _eta(decay)[resonance] - _eta(jet_p4)[jet, None]
    d_phi = np.arctan2(decay[..., 1], decay[..., 0])[resonance] - np.arctan2(jet_p4[:, 1], jet_p4[:, 0])[jet, None]
    d_phi = (d_phi + np.pi) % (2 * np.pi) - np.pi
    contained = (np.hypot(d_eta, d_phi) < radius).all(axis=1)
    inside_B[jet[contained]] = True
    return inside_B


def _eta(p4: np.ndarray) -> np.ndarray:
    return np.asarray(np.arcsinh(p4[..., 2] / np.maximum(np.hypot(p4[..., 0], p4[..., 1]), 1e-9)))


def _rapidity(p4: np.ndarray) -> np.ndarray:
    return np.asarray(np.arctanh(p4[..., 2] / p4[..., 3]))
