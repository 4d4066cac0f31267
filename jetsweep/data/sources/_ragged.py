"""Columns of a table to ragged four-vectors: padding dropped, coordinates converted, lengths compared."""

# Shapes: R jets of a slice, N constituents of all of them, P padded slots.

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jetsweep.data.sources._tables import Column, Lists
from jetsweep.errors import DataError


def flat(column: Column, name: str, path: Path) -> np.ndarray:
    """A column with one number or word per jet, shape (R,)."""
    if isinstance(column, Lists) or column.ndim != 1:
        raise DataError(f"{path}: {name} holds several values per jet, expected one")
    return column


def checked_weights(weight: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Weights as float32; all must be finite."""
    if not np.isfinite(weight.astype(np.float64)).all():
        raise DataError(f"{path}: the weight {name} is NaN or infinite for some jets")
    return weight.astype(np.float32)


def ragged_columns(
    columns: Mapping[str, Column], mapping: Mapping[str, str], valid: str | None, path: Path
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Constituent columns without padding.

    Parameters
    ----------
    columns : mapping of str to Column
        Of the file, by its own names.
    mapping : mapping of str to str
        Our name to the file's.
    valid : str or None
        Column that is true for real constituents; where None, those whose momentum is not 0 are real.
    path : Path

    Returns
    -------
    values : dict of str to array, shape (N,)
    offsets : array, shape (R + 1,), int64
    """
    asked = dict(mapping) if valid is None else {**mapping, "": valid}
    shapes = {}
    for column in asked.values():
        data = columns[column]
        if not isinstance(data, Lists) and data.ndim != 2:
            raise DataError(f"{path}: {column} holds one value per jet, expected a list of its constituents' values")
        shapes[column] = data.offsets if isinstance(data, Lists) else np.arange(len(data) + 1) * data.shape[1]
    first = asked[next(iter(asked))]
    other = next((c for c, offsets in shapes.items() if not np.array_equal(offsets, shapes[first])), None)
    if other is not None:
        raise DataError(f"{path}: the lists of {other} have other lengths than those of {first}")
    values = {name: _entries(columns[column]) for name, column in asked.items()}
    if valid is not None:
        real_N = values.pop("") != 0
    else:
        real_N = np.any([values[n] != 0 for n in ("px", "py", "pz", "energy", "pt") if n in values], axis=0)
    before = np.concatenate([[0], np.cumsum(real_N, dtype=np.int64)])
    return {name: x[real_N] for name, x in values.items()}, before[shapes[first]]


def four_vectors(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """px, py, pz, energy (N,) from themselves or from pt, eta or rapidity, phi, and energy or mass (default 0)."""
    if "px" in values:
        return {name: values[name] for name in ("px", "py", "pz", "energy")}
    pt, phi = (np.asarray(values[name], np.float64) for name in ("pt", "phi"))
    mass = np.asarray(values.get("mass", 0.0), np.float64)
    if "rapidity" in values:
        transverse = np.hypot(pt, mass)
        pz, energy = transverse * np.sinh(values["rapidity"]), transverse * np.cosh(values["rapidity"])
    else:
        pz = pt * np.sinh(values["eta"])
        energy = values["energy"] if "energy" in values else np.sqrt((pt * np.cosh(values["eta"])) ** 2 + mass**2)
    return {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pz, "energy": energy}


def _entries(column: Column) -> np.ndarray:
    return column.values if isinstance(column, Lists) else column.reshape(-1)
