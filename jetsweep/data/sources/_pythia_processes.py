"""Which events Pythia makes for every process and class, and which of their jets are kept."""

from __future__ import annotations

from dataclasses import dataclass

from jetsweep.data.sources._pythia_showers import BANDS, SHOWERS

COMMON = (
    "Print:quiet = on", "Beams:idA = 2212", "Beams:idB = 2212", "Beams:eCM = 14000.", "Random:setSeed = on",
)  # fmt: skip
DETECTOR_LIFETIME = ("ParticleDecays:limitTau0 = on", "ParticleDecays:tau0Max = 10.")
W_TO_QUARKS = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
# a W of 174 GeV would just reach t b
W_TO_LIGHT_QUARKS = ("24:onMode = off", "24:onIfAny = 2 4")
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
        Widened window, GeV. Measured loss of selected jets: 0.3 per cent (qcd), about 1 per cent (quark,
        gluon), 0.5 per cent (qcd of anomaly).
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
    """Classes of jets with one selection.

    Parameters
    ----------
    selection : JetSelection
    recipes : tuple of Recipe
        One for each class, background first. The place of a class fixes its random numbers and row numbers: append.
    common : tuple of str
        Settings of all classes.
    weighted : bool
        The jets have weights.
    stride : int
        Numbers set aside for classes, at least as many as there are.
    """

    selection: JetSelection
    recipes: tuple[Recipe, ...]
    common: tuple[str, ...] = ()
    weighted: bool = False
    stride: int = 2


def _pt_hat(low: float, high: float) -> tuple[str, str]:
    return f"PhaseSpace:pTHatMin = {low}", f"PhaseSpace:pTHatMax = {high}"


def _bias(power: float) -> tuple[str, ...]:
    return (
        "PhaseSpace:bias2Selection = on",
        f"PhaseSpace:bias2SelectionPow = {power}",
        "PhaseSpace:bias2SelectionRef = 200.",
    )


def _mass(particle: int, mass: float) -> tuple[str, ...]:
    """A narrow resonance, so that its mass is the one that the class is named after."""
    # a Higgs boson lighter than 50 GeV is below Pythia's own limit, and a W of 174 GeV would be 20 GeV wide
    values = {"m0": mass, "doForceWidth": "on", "mWidth": 0.001, "mMin": mass - 0.1, "mMax": mass + 0.1}
    return tuple(f"{particle}:{name} = {value}" for name, value in values.items())


def _w(label: str, mass: float) -> Recipe:
    """W → two quarks beside Z → neutrinos."""
    lines = ("WeakDoubleBoson:ffbar2ZW = on", *_mass(24, mass), *W_TO_LIGHT_QUARKS, *Z_TO_NEUTRINOS)
    return Recipe(label, lines, match=24)


def _top(label: str, mass: float, w_mass: float) -> Recipe:
    """Pairs of hadronic tops."""
    lines = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *_mass(6, mass), *_mass(24, w_mass), *W_TO_LIGHT_QUARKS)
    return Recipe(label, lines, match=6)


def _four_b(label: str, heavy: float, light: float) -> Recipe:
    """H → h h → 4 b beside Z → neutrinos."""
    lines = (
        "Higgs:useBSM = on", "HiggsBSM:ffbar2H2Z = on", "HiggsH2:coup2Z = 1.", *_mass(35, heavy), *_mass(25, light),
        "35:onMode = off", "35:onIfMatch = 25 25", "25:onMode = off", "25:onIfMatch = 5 -5", *Z_TO_NEUTRINOS,
    )  # fmt: skip
    return Recipe(label, lines, match=35)


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
    "anomaly": Process(
        JetSelection(radius=1.0, pt=(550.0, 650.0), eta=2.0),
        (
            Recipe("qcd", ("HardQCD:all = on",), veto=PartonVeto((515.0, 710.0), jets=1, scale=10.0)),
            _w("w-59", 59.0),
            _w("w-80", 80.0),
            _w("w-120", 120.0),
            _w("w-174", 174.0),
            # the W is lighter than the top by the same factor as in nature
            _top("top-80", 80.0, 37.0),
            _top("top-174", 174.0, 80.4),
            _four_b("hh-20", 174.0, 20.0),
            _four_b("hh-80", 174.0, 80.0),
        ),
        common=(*DETECTOR_LIFETIME, *_pt_hat(480, 900)),
        stride=32,
    ),
}
MATCHED = {6: "top and its three quarks", 24: "W and its two quarks", 35: "Higgs boson and its four b quarks"}
"""What must lie inside a jet, by `Recipe.match`."""


def settings(process: str, label: int, seed: int, shower: str = "", bands: bool = False) -> list[str]:
    """Every line given to Pythia for one chunk."""
    chosen = PROCESSES[process]
    further = (*SHOWERS[shower], *(BANDS if bands else ()))
    return [*COMMON, *chosen.common, *chosen.recipes[label].settings, *further, f"Random:seed = {seed}"]
