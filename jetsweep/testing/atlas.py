"""Synthetic files in the layout of the ATLAS top-tagging open data: to try the machinery on, no physics claimed.

Every dataset and attribute of the published files is there, in MeV, padded to 200 constituents. The varied sets hold
the events of ``test_nominal`` with shifted, smeared, lost or added constituents; the alternative samples are of one
class and have events of their own.
"""

# Shapes: B jets, N constituents of all of them, P = 200 slots.

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jetsweep.data.sources._jets import Jets, jet_scalars, truncated
from jetsweep.data.sources.atlas_top_tagging import (
    JETS,
    MODEL_SETS,
    NUM_SHOWER_WEIGHTS,
    SETS,
    SLOTS,
    STORED_HIGH_LEVEL,
)
from jetsweep.data.sources.toy import make_toy_jets

PT_RANGE = (350.0, 1750.0)
"""Of the jets, GeV, falling."""
HIGH_LEVEL_MEV_POWER = {"Split12": 1, "Split23": 1, "ECF1": 1, "Qw": 1, "ECF2": 2, "ECF3": 3}
MODEL_WIDTH = {
    "ttbar_pythia": 1.0, "ttbar_herwig": 1.06, "cluster": 1.05, "string": 1.0, "angular": 1.0, "dipole": 1.15,
}  # fmt: skip
"""Factor on the distances of constituents from the jet's axis."""
SHOWER_VARIATIONS = {4: 0.06, 9: -0.05, 6: 0.10, 7: -0.08}
"""Index of a shower weight: its slope against the multiplicity."""

Kinematics = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""pT (GeV), eta, phi, and a number in (0, 1) that makes up the kind of a constituent; each of shape (N,)."""


def write_atlas_files(
    folder: Path,
    *,
    jets: int = 400,
    sets: Sequence[str] = SETS,
    numbers: Sequence[int] = (0,),
    seed: int = 1,
    compress: bool = True,
    scales: Mapping[str, float] | None = None,
) -> list[Path]:
    """Write one file of every set and number.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    jets : int
        Jets B of each file, half of each class; the alternative samples have one class only.
    sets : sequence of str
        Names of `jetsweep.data.sources.atlas_top_tagging.SETS`.
    numbers : sequence of int
        File numbers; other numbers hold other events.
    seed : int
    compress : bool
        Write ``.h5.gz`` as published, otherwise ``.h5``.
    scales : mapping of str to float, optional
        Factor on all constituents' energies of a set, instead of the set's own variation; 1 is an unvaried copy.

    Returns
    -------
    list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in sets:
        for number in numbers:
            path = folder / f"{name}_{number:03d}.h5"
            _write(path, *_sample(name, number, jets, seed, (scales or {}).get(name)))
            if compress:
                with path.open("rb") as source, gzip.open(f"{path}.gz", "wb", compresslevel=1) as target:
                    shutil.copyfileobj(source, target)
                path.unlink()
                path = path.with_name(f"{path.name}.gz")
            written.append(path)
    return written


def _sample(name: str, number: int, size: int, seed: int, scale: float | None) -> tuple[Jets, dict[str, np.ndarray]]:
    """Jets of one file, and its further datasets of shape (B,) or (B, 27)."""
    own_events = name == "train_nominal" or name in MODEL_SETS
    rng = np.random.default_rng([seed, number, SETS.index(name) if own_events else SETS.index("test_nominal")])
    is_one_class = name in MODEL_SETS
    jets = make_toy_jets(2 * size if is_one_class else size, rng)
    if is_one_class:
        jets = jets.take_jets(jets.label == int(name.startswith("ttbar")))
    size = len(jets)
    low, high = PT_RANGE
    # a falling spectrum, between the edges
    target_B = low * (1 - rng.random(size) * (1 - (low / high) ** 2)) ** -0.5
    factor_B = target_B / jets.scalars["jet_pt"]
    width = MODEL_WIDTH.get(name, 1.0)
    jets = _moved(jets, factor_B, width)
    event_B = 10 * (number * size + np.arange(size)) + (1 + np.arange(size) % 9 if name == "train_nominal" else 0)
    extra: dict[str, np.ndarray] = {
        "EventInfo_mcEventNumber": event_B.astype(np.int32),
        "labels": jets.label.astype(np.int64),
    }
    if not is_one_class:
        weights = _shower_weights(jets, rng)
        if name.endswith("nominal"):
            extra["EventInfo_mcEventWeights"] = weights
    if name == "train_nominal":
        background_B = jets.label == 0
        training_B = np.where(background_B, rng.gamma(4.0, 0.25, size), 1.0)
        training_B[background_B] /= training_B[background_B].mean()
        extra["training_weights"] = training_B.astype(np.float32)
    for stored in STORED_HIGH_LEVEL:
        power = HIGH_LEVEL_MEV_POWER.get(stored, 0)
        value_B = rng.gamma(3.0, 0.3, size) * (jets.scalars["jet_pt"] * 1e3 / 10) ** power
        extra[f"fjet_{stored}"] = value_B.astype(np.float32)
    for column, stored in JETS.items():
        extra[stored] = jets.scalars[column] * np.float32(1e3 if column in ("jet_pt", "jet_mass") else 1.0)
    # a varied set keeps the jets' scalars, as published
    return _varied(jets, name, scale, np.random.default_rng([seed, number, 99, SETS.index(name)])), extra


def _kinematics(jets: Jets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    px, py, pz = (jets.values[name].astype(np.float64) for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    return pt, np.arcsinh(pz / pt), np.arctan2(py, px)


def _with(jets: Jets, pt: np.ndarray, eta: np.ndarray, phi: np.ndarray) -> Jets:
    """The same jets with massless constituents of these kinematics, sorted."""
    p4 = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "energy": pt * np.cosh(eta)}
    values = jets.values | {name: x.astype(np.float32) for name, x in p4.items()}
    return Jets(values, jets.offsets, jets.label, jets.source_row, jets.scalars).sorted_by_pt()


def _moved(jets: Jets, factor_B: np.ndarray, width: float) -> Jets:
    """Jets with scaled momenta, their constituents `width` times as far from the axis; scalars of the sums."""
    pt, eta, phi = _kinematics(jets)
    axis_eta, axis_phi = jets.scalars["jet_eta"][jets.jet], jets.scalars["jet_phi"][jets.jet]
    d_phi = (phi - axis_phi + np.pi) % (2 * np.pi) - np.pi
    moved = _with(jets, pt * factor_B[jets.jet], axis_eta + width * (eta - axis_eta), axis_phi + width * d_phi)
    moved = truncated(moved, SLOTS)
    moved.values["taste"] = (np.arange(moved.offsets[-1]) % 3).astype(np.int64)
    moved.scalars = jet_scalars(moved)
    return moved


def _varied(jets: Jets, name: str, scale: float | None, rng: np.random.Generator) -> Jets:
    """The variation that a set stands for; sets without one come back as they are."""
    pt, eta, phi = _kinematics(jets)
    if scale is not None:
        return _with(jets, pt * scale, eta, phi)
    noise: Callable[[], np.ndarray] = lambda: rng.standard_normal(len(pt))  # noqa: E731
    if name in ("esup", "esdown"):
        return _with(jets, pt * (1.03 if name == "esup" else 0.97), eta, phi)
    if name == "cer":
        return _with(jets, pt * np.exp(0.05 * noise()), eta, phi)
    if name == "cpos":
        return _with(jets, pt, eta + 0.005 * noise(), phi + 0.005 * noise())
    if name == "bias":
        return _with(jets, pt * (1 + 1e-4 * pt), eta, phi)
    if name in ("teg", "tej", "tfl", "tfj"):
        # lost constituents, or soft ones far from where they belong; the hardest always stays
        rank_N = np.arange(len(pt)) - jets.offsets[jets.jet]
        hit_N = (rng.random(len(pt)) < (0.03 if name in ("teg", "tfl") else 0.02)) & (rank_N > 2)
        if name.startswith("tf"):
            return _with(jets, pt, np.where(hit_N, eta + 0.2 * noise(), eta), phi)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(jets.jet, ~hit_N, minlength=len(jets)))]).astype(np.int64)
        values = {column: x[~hit_N] for column, x in jets.values.items()}
        return Jets(values, offsets, jets.label, jets.source_row, jets.scalars)
    return jets


def _shower_weights(jets: Jets, rng: np.random.Generator) -> np.ndarray:
    """Nominal weight first; four known variations that depend on the multiplicity, the others scatter; (B, 27)."""
    nominal_B = rng.lognormal(0.0, 0.2, len(jets))
    ratio = 1 + 0.02 * rng.standard_normal((len(jets), NUM_SHOWER_WEIGHTS))
    ratio[:, 0] = 1.0
    for index, slope in SHOWER_VARIATIONS.items():
        ratio[:, index] = np.exp(slope * (np.diff(jets.offsets) / 50 - 1))
    return np.asarray(nominal_B[:, None] * ratio, np.float32)


def _write(path: Path, jets: Jets, extra: Mapping[str, np.ndarray]) -> None:
    import h5py

    pt, eta, phi = _kinematics(jets)
    rank_N = np.arange(len(pt)) - jets.offsets[jets.jet]
    energy = jets.values["energy"].astype(np.float64)
    columns = {"pt": pt * 1e3, "eta": eta, "phi": phi, "E": energy * 1e3, "taste": jets.values["taste"]}
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            padded = np.zeros((len(jets), SLOTS), np.int64 if name == "taste" else np.float32)
            padded[jets.jet, rank_N] = values
            file.create_dataset(f"fjet_clus_{name}", data=padded, compression="gzip", compression_opts=1)
        for name, values in extra.items():
            file[name] = values
        jet_keys = ["fjet_pt", "fjet_eta", "fjet_phi", "fjet_m", "EventInfo_mcEventNumber"]
        constituents = [f"fjet_clus_{name}" for name in ("eta", "phi", "pt", "E")]
        attributes: dict[str, object] = {
            "constit": constituents,
            "hl": [f"fjet_{name}" for name in STORED_HIGH_LEVEL],
            "jet": jet_keys,
            "jet_fields": jet_keys,
            "jet_keys": jet_keys,
            "max_constits": SLOTS,
            "num_cons": 4,
            "num_jet_features": 5,
            "num_jets": len(jets),
            "taste": "fjet_clus_taste",
            "weights": "training_weights",
        }
        for name, value in attributes.items():
            file.attrs[name] = value
