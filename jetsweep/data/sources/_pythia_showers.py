"""Parton showers of Pythia: its uncertainty bands as weights of an event, and its other showers.

The bands are those of arXiv:1605.08352: an event's weight had the renormalisation scale of the initial- or the
final-state shower been twice or half as large.
"""

# Shapes: E events of a batch, W shower weights.

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np

from jetsweep.data.sources._variations import SHOWER_WEIGHTS
from jetsweep.errors import DataError

BANDS = (
    "UncertaintyBands:doVariations = on",
    "UncertaintyBands:List = {isr_up isr:muRfac=2.0, isr_down isr:muRfac=0.5, "
    "fsr_up fsr:muRfac=2.0, fsr_down fsr:muRfac=0.5}",
)
SHOWERS = {
    "": (),
    # the sector shower would take four times as long
    "vincia": ("PartonShowers:model = 2", "Vincia:sectorShower = off", "Print:verbosity = 1"),
    "dire": ("PartonShowers:model = 3",),
}
"""Settings by name; the empty name is Pythia's own shower."""
LAST_DIRE = (8, 315)


def require_showers(names: tuple[str, ...]) -> None:
    """Raise a `DataError` where the installed Pythia lacks one of the showers."""
    version = metadata.version("pythia8mc")
    if "dire" in names and tuple(int(x) for x in version.split(".")[:2]) > LAST_DIRE:
        raise DataError(
            f"variations.showers: Pythia has the shower dire up to {'.'.join(map(str, LAST_DIRE))}, found {version}"
        )


def weight_columns(pythia: Any, weights_E: Any) -> np.ndarray:
    """Weights of every event in the order of `SHOWER_WEIGHTS`, shape (E, W).

    Parameters
    ----------
    pythia : Pythia
    weights_E : awkward array, shape (E, all weights)
    """
    info = pythia.infoPython()
    names = [info.weightNameByIndex(i) for i in range(info.numberOfWeights())]
    columns = [0, *(names.index(name) for name in SHOWER_WEIGHTS[1:])]
    return np.asarray(weights_E[:, columns], np.float64)
