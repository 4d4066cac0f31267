"""HepMC events as arrays: final particles, hard partons and contained resonances; damaged files are found out."""

# Shapes: M particles of an event, V visible final ones, Q partons, X resonances, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jetsweep.data.sources._files import reading
from jetsweep.errors import DataError

SUFFIXES = (".hepmc", ".hepmc2", ".hepmc3", ".hepmc.gz", ".hepmc2.gz", ".hepmc3.gz")
HEADERS = (b"HepMC::Asciiv3", b"HepMC::IO_GenEvent")
FOOTER = b"END_EVENT_LISTING"
PARTONS = (1, 2, 3, 4, 5, 21)
RESONANCES = (6, 25, 24, 23)
"""Absolute PDG ids of top quark, Higgs, W and Z, in the order of preference."""
MIN_PARTON_PT = 5.0


@dataclass(frozen=True)
class Event:
    """One event.

    Parameters
    ----------
    number : int
    weight : float
        The first of its weights, the nominal one; 1 where there is none.
    p4 : array, shape (V, 4)
        Visible final particles.
    pdg_id : array, shape (V,)
    total_energy : float
        Of all final particles, GeV.
    partons : tuple of arrays, shapes (Q, 4) and (Q,)
        Quarks (without top) and gluons of pT above 5 GeV anywhere in the record, and their absolute PDG ids.
    resonances : list of (int, array of shape (D + 1, 4))
        Absolute PDG id of a resonance's last copy; its four-vector, then those of its decay products. Further W and Z
        are replaced by what they decay to.
    """

    number: int
    weight: float
    p4: np.ndarray
    pdg_id: np.ndarray
    total_energy: float
    partons: tuple[np.ndarray, np.ndarray]
    resonances: list[tuple[int, np.ndarray]]


def count_events(path: Path) -> int:
    """Number of events that begin in a file, which must have the header and the footer of HepMC."""
    before, number, tail = b"\n", 0, b""
    with reading(path, "HepMC"), _opened(path) as file:
        first = file.read(256)
        block = first
        while block:
            # a line may begin in one block and its letter stand in the next
            number += (before + block).count(b"\nE ")
            before, tail = block[-2:] if len(block) > 1 else before[-1:] + block, (tail + block)[-4096:]
            block = file.read(1 << 20)
    if not any(header in first for header in HEADERS):
        raise DataError(
            f"{path}: expected HepMC3 or HepMC2 text, which begins with HepMC::Version, found {first[:9]!r}"
        )
    if FOOTER not in tail:
        raise DataError(
            f"{path}: the file ends without a line {FOOTER.decode()}, it is truncated ({number} events begin in it)"
        )
    return number


def read_events(path: Path, invisible: list[int], scale: float | None, with_resonances: bool) -> Iterator[Event]:
    """Events of a file in order.

    Parameters
    ----------
    path : Path
    invisible : list of int
        Absolute PDG ids of final particles that are left out.
    scale : float or None
        Factor from the file's numbers to GeV; None: by the unit that the file states.
    with_resonances : bool
        Look for resonances, which takes time.

    Raises
    ------
    DataError
        If pyhepmc is not installed, or an event cannot be read.
    """
    try:
        import pyhepmc
    except ImportError as error:
        raise DataError(f"{path}: HepMC files need pyhepmc: pip install 'jetsweep[hepmc]'") from error
    expected, read = count_events(path), 0
    with _quiet(pyhepmc.Setup), reading(path, "HepMC"), pyhepmc.open(path) as file:
        for event in file:
            read += 1
            if scale is None:
                event.set_units(pyhepmc.Units.GEV, pyhepmc.Units.MM)
            yield _arrays(event, invisible, scale or 1.0, with_resonances)
    if read < expected:
        raise DataError(f"{path}: event {read + 1} of {expected} cannot be read, the file is damaged there")


def _arrays(event: Any, invisible: list[int], scale: float, with_resonances: bool) -> Event:
    particles = event.numpy.particles
    id_M = np.asarray(particles.pid)
    p4_M4 = scale * np.column_stack([particles.px, particles.py, particles.pz, particles.e])
    final_M = np.asarray(particles.status) == 1
    visible_M = final_M & ~np.isin(np.abs(id_M), invisible)
    parton_M = np.isin(np.abs(id_M), PARTONS) & (np.hypot(p4_M4[:, 0], p4_M4[:, 1]) > MIN_PARTON_PT)
    resonances = _resonances(event, id_M, scale) if with_resonances else []
    return Event(
        number=int(event.event_number),
        weight=float(event.weights[0]) if len(event.weights) else 1.0,
        p4=p4_M4[visible_M],
        pdg_id=id_M[visible_M],
        total_energy=float(p4_M4[final_M, 3].sum()),
        partons=(p4_M4[parton_M], np.abs(id_M[parton_M])),
        resonances=resonances,
    )


def _resonances(event: Any, id_M: np.ndarray, scale: float) -> list[tuple[int, np.ndarray]]:
    found = []
    place_X = np.flatnonzero(np.isin(np.abs(id_M), RESONANCES))
    particles = event.particles if len(place_X) else []
    for place in place_X:
        particle = particles[int(place)]
        children = _children(particle)
        if children and particle.pid not in [child.pid for child in children]:
            lines = [particle, *(x for child in children for x in _products(child))]
            found.append((abs(particle.pid), scale * np.array([_p4(x) for x in lines])))
    return found


def _children(particle: Any) -> list[Any]:
    return list(particle.end_vertex.particles_out) if particle.end_vertex else []


def _products(particle: Any) -> list[Any]:
    """The particle itself; a W or Z (as of a top or a Higgs) becomes its own decay products."""
    if abs(particle.pid) not in (23, 24):
        return [particle]
    return [x for child in _children(particle) for x in _products(child)] or [particle]


def _p4(particle: Any) -> tuple[float, float, float, float]:
    momentum = particle.momentum
    return momentum.px, momentum.py, momentum.pz, momentum.e


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path)
    return path.open("rb")


@contextmanager
def _quiet(setup: Any) -> Iterator[None]:
    """HepMC's own messages off; what they tell is told as an error."""
    before = setup.print_errors, setup.print_warnings
    setup.print_errors = setup.print_warnings = False
    try:
        yield
    finally:
        setup.print_errors, setup.print_warnings = before
