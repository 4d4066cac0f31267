"""Jets in memory on their way from a source to Arrow: ragged arrays, checks, order, splits."""

# Shapes: B jets, N constituents of all jets.

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

P4 = ("px", "py", "pz", "energy")
FLAGS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
TRACKS = ("d0", "d0_err", "dz", "dz_err")
SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


@dataclass
class Jets:
    """A chunk of jets.

    Parameters
    ----------
    values : dict of str to array, shape (N,)
        Constituent columns; the first four are px, py, pz, energy (GeV). Empty for rows of scalars only.
    offsets : array, shape (B + 1,), int64
        Zeros for rows of scalars only.
    label : array, shape (B,), int
        Index into the source's classes.
    scalars : dict of str to array, shape (B,)
    source_file : str
        Name of the file the jets came from, empty for generated jets.
    source_row : array, shape (B,), int64
        Row in that file, or number of the generated jet.
    dropped : dict of str to int
        Jets left out so far, by reason.
    """

    values: dict[str, np.ndarray]
    offsets: np.ndarray
    label: np.ndarray
    source_row: np.ndarray
    scalars: dict[str, np.ndarray] = field(default_factory=dict)
    source_file: str = ""
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    @property
    def jet(self) -> np.ndarray:
        """Jet number of every constituent, shape (N,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take_jets(self, keep: np.ndarray) -> Jets:
        """Jets where the mask `keep` (B,) is true, in order."""
        keep_N = np.repeat(keep, np.diff(self.offsets))
        return replace(
            self,
            values={name: x[keep_N] for name, x in self.values.items()},
            offsets=np.concatenate([[0], np.cumsum(np.diff(self.offsets)[keep])]).astype(np.int64),
            label=self.label[keep],
            source_row=self.source_row[keep],
            scalars={name: x[keep] for name, x in self.scalars.items()},
            dropped={},
        )

    def sorted_by_pt(self) -> Jets:
        """Constituents of every jet in descending pT; equal ones keep their order."""
        pt_N = np.hypot(self.values["px"], self.values["py"])
        order_N = np.lexsort((-pt_N, self.jet))
        return replace(self, values={name: x[order_N] for name, x in self.values.items()})

    def checked(self) -> Jets:
        """Leave out jets that cannot be used, and count them: NaN or infinite, negative energy, no constituents.

        Of rows that have scalars only, those are looked at.
        """
        if not self.values:
            return self._left({"not_finite": ~np.all([np.isfinite(x) for x in self.scalars.values()], axis=0)})
        p4_N4 = np.column_stack([self.values[name] for name in P4])
        bad_N = ~np.isfinite(p4_N4).all(axis=1)
        for name in self.values.keys() & set(TRACKS):
            bad_N |= ~np.isfinite(self.values[name])
        reasons_B = {
            "not_finite": np.bincount(self.jet, bad_N, minlength=len(self)) > 0,
            "negative_energy": np.bincount(self.jet, p4_N4[:, 3] < 0, minlength=len(self)) > 0,
            "no_constituents": np.diff(self.offsets) == 0,
        }
        return self._left(reasons_B)

    def _left(self, reasons_B: Mapping[str, np.ndarray]) -> Jets:
        """Jets that there is no reason to leave out; each counts for its first."""
        dropped, keep_B = dict(self.dropped), np.ones(len(self), bool)
        for reason, is_bad_B in reasons_B.items():
            count = int((is_bad_B & keep_B).sum())
            keep_B &= ~is_bad_B
            if count:
                dropped[reason] = dropped.get(reason, 0) + count
        return replace(self if keep_B.all() else self.take_jets(keep_B), dropped=dropped)


def segment_sum(x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum of every jet's part of `x` (N,) in float64, shape (B,); 0 for an empty jet."""
    total = np.concatenate([[0.0], np.cumsum(x, dtype=np.float64)])
    return np.asarray(total[offsets[1:]] - total[offsets[:-1]])


def jet_scalars(jets: Jets) -> dict[str, np.ndarray]:
    """jet_pt, jet_eta, jet_phi, jet_mass (GeV, float32) of the constituents' sum."""
    px, py, pz, energy = (segment_sum(jets.values[name], jets.offsets) for name in P4)
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0))
    eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0))
    scalars = {"jet_pt": pt, "jet_eta": eta, "jet_phi": np.arctan2(py, px), "jet_mass": mass}
    return {name: x.astype(np.float32) for name, x in scalars.items()}


def hash_split(
    jets: Jets, seed: int, fractions: Mapping[str, float] = SPLITS, number: np.ndarray | None = None
) -> Iterator[tuple[str, Jets]]:
    """Divide by a hash of (seed, file, row or `number` (B,)): a jet's split depends on nothing but itself."""
    share_B = row_hash(jets.source_row if number is None else number, seed, jets.source_file) / 2.0**64
    edges = np.cumsum(list(fractions.values()))
    split_B = np.minimum(np.searchsorted(edges, share_B, side="right"), len(edges) - 1)
    for i, name in enumerate(fractions):
        yield name, jets.take_jets(split_B == i)


def row_hash(row_B: np.ndarray, seed: int, file: str = "") -> np.ndarray:
    """One well-mixed uint64 per row (splitmix64), the same on every machine."""
    mixed = np.asarray(row_B, np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + zlib.crc32(file.encode())) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def flags_of_ids(pdg_id: np.ndarray) -> dict[str, np.ndarray]:
    """Charge (int8) and the five species flags (bool) of stable particles by their PDG id, shape (N,)."""
    absolute = np.abs(pdg_id)
    electron, muon, photon = absolute == 11, absolute == 13, absolute == 22
    # hadrons whose id has the sign of their charge; the id of e-, mu-, Sigma-, Xi- and Omega- is positive
    positive = np.isin(absolute, (211, 321, 2212, 3222))
    negative = np.isin(absolute, (11, 13, 3112, 3312, 3334))
    charge = (np.sign(pdg_id) * (positive.astype(np.int8) - negative.astype(np.int8))).astype(np.int8)
    hadron = ~(electron | muon | photon)
    kinds: Sequence[np.ndarray] = (hadron & (charge != 0), hadron & (charge == 0), photon, electron, muon)
    return {"charge": charge, **dict(zip(FLAGS, kinds))}


def concatenate(parts: Sequence[Jets]) -> Jets:
    """One chunk out of several with the same columns."""
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.offsets) for p in parts]))]).astype(np.int64)
    return Jets(
        values={name: np.concatenate([p.values[name] for p in parts]) for name in parts[0].values},
        offsets=offsets,
        label=np.concatenate([p.label for p in parts]),
        source_row=np.concatenate([p.source_row for p in parts]),
        scalars={name: np.concatenate([p.scalars[name] for p in parts]) for name in parts[0].scalars},
    )


def truncated(jets: Jets, length: int) -> Jets:
    """Jets with their first `length` constituents."""
    num_B = np.diff(jets.offsets)
    rank_N = np.arange(jets.offsets[-1]) - jets.offsets[jets.jet]
    keep_N = rank_N < length
    offsets = np.concatenate([[0], np.cumsum(np.minimum(num_B, length))]).astype(np.int64)
    return replace(jets, values={name: x[keep_N] for name, x in jets.values.items()}, offsets=offsets)
