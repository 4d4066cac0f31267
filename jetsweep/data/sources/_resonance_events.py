"""Dijet events of a resonance search as plain arrays: synthetic ones, and the LHC Olympics features of CATHODE."""

# Shapes: E events, F features.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jetsweep.errors import DataError

FEATURES = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")
"""Mass of the lighter jet and difference of the masses (GeV), and tau2/tau1 of the lighter and the heavier jet."""
INNER = ("innerdata_train.npy", "innerdata_test.npy", "innerdata_extrasig.npy")
OUTER = "outerdata_train.npy"
_TEV = 1e3


@dataclass(frozen=True)
class Events:
    """Events of one sample.

    Parameters
    ----------
    mass : array, shape (E,), GeV
        Of the resonance candidate.
    features : array, shape (E, F)
        In the order of `FEATURES`.
    is_signal : array, shape (E,), bool
    """

    mass: np.ndarray
    features: np.ndarray
    is_signal: np.ndarray

    def __len__(self) -> int:
        return len(self.mass)

    def take(self, keep: np.ndarray) -> Events:
        """Events of a mask or in the order of an index."""
        return Events(self.mass[keep], self.features[keep], self.is_signal[keep])

    def joined(self, other: Events) -> Events:
        """These, then the others."""
        pairs = ((self.mass, other.mass), (self.features, other.features), (self.is_signal, other.is_signal))
        return Events(*(np.concatenate(pair) for pair in pairs))

    def inside(self, region: tuple[float, float]) -> np.ndarray:
        """Mask of the events whose mass is in the region."""
        return np.asarray((self.mass >= region[0]) & (self.mass < region[1]))


def toy_background(size: int, rng: np.random.Generator) -> Events:
    """Falling masses from 2.5 to 5 TeV; jet masses grow a little with them. No simulation of collisions."""
    share = rng.uniform(0, 1 - np.exp(-2500 / 700), size)
    mass = 2500 - 700 * np.log1p(-share)
    scale = mass / 3500
    light, difference = 40 + rng.gamma(1.5, 60, size) * scale, rng.gamma(1.2, 150, size) * scale
    features = np.column_stack([light, difference, rng.beta(6, 3, size), rng.beta(6, 3, size)])
    return Events(mass, features, np.zeros(size, bool))


def toy_signal(size: int, rng: np.random.Generator) -> Events:
    """A narrow resonance at 3.5 TeV that decays to jets of 100 and 500 GeV with two prongs each."""
    light, difference = np.abs(rng.normal(100, 25, size)), np.abs(rng.normal(400, 120, size))
    columns = [light, difference, rng.beta(5, 7, size), rng.beta(5, 7, size)]
    return Events(rng.normal(3500, 70, size), np.column_stack(columns), np.ones(size, bool))


def read_lhco(folder: Path, names: tuple[str, ...]) -> Events:
    """Arrays as CATHODE (arXiv:2109.00546) distributes them: m_jj, m_light, m_heavy - m_light in TeV, two tau21, label.

    Raises
    ------
    DataError
        If a file is missing or has another shape, or numbers that are not finite.
    """
    found: Events | None = None
    for name in names:
        path = folder / name
        try:
            rows = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise DataError(f"{path}: expected an array of the LHC Olympics features, found no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: expected a plain numpy array, it cannot be read: {error}") from error
        if rows.ndim != 2 or rows.shape[1] != 6 or rows.dtype.kind != "f":
            raise DataError(f"{path}: expected floats of shape (events, 6), found {rows.dtype} {rows.shape}")
        if not np.isfinite(rows).all():
            bad = int((~np.isfinite(rows).all(axis=1)).sum())
            raise DataError(f"{path}: expected finite numbers, found {bad} of {len(rows)} rows with others")
        features = rows[:, 1:5] * np.array([_TEV, _TEV, 1.0, 1.0])
        events = Events(rows[:, 0] * _TEV, features, rows[:, 5] > 0.5)
        found = events if found is None else found.joined(events)
    assert found is not None
    return found
