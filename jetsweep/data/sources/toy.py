"""Synthetic jets in plain numpy: one-prong `qcd` against three-prong `top`. Not a simulation of collisions.

The kinematics of the top decay are exact (t → bW, W → qq, isotropic, boosted); everything that a shower would do is
one falling spectrum of momentum fractions and one lognormal width. The jets exist to try the machinery on.
"""

# Shapes: B jets, N constituents of all jets, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import Source, register_source
from jetsweep.data.sources._jets import FLAGS, TRACKS, Jets, hash_split, jet_scalars
from jetsweep.data.sources._variations import AnyDetectorVariations, VariedOptions, scheme, with_variations

CHUNK = 5_000
TRUTH = ("origin", "vertex")
TOP_MASS, W_MASS = 172.5, 80.4
PT = (550.0, 650.0)


class ToyOptions(VariedOptions):
    """Options of the source `toy`."""

    name: Literal["toy"] = "toy"
    jets: PositiveInt = Field(2_000, description="Number of jets, both classes together.")
    tracks: bool = Field(False, description="Add charge, particle flags and impact parameters to the constituents.")
    truth: bool = Field(False, description="With tracks: add their origin and vertex, for flavour-tagging.")

    variations: AnyDetectorVariations | None = Field(
        None, description="With tracks: add varied samples of val and test; true, or their sizes."
    )

    @model_validator(mode="after")
    def _truth_is_of_tracks(self) -> ToyOptions:
        if self.truth and not self.tracks:
            raise ValueError("truth: expected tracks: true beside it")
        if self.variations is not None and not self.tracks:
            raise ValueError("variations: expected tracks: true beside it, charged and neutral constituents vary apart")
        return self


@register_source
class ToySource(Source):
    """Makes the jets chunk by chunk; a chunk depends on the seed and its number alone."""

    options: ClassVar[type[SourceOptions]] = ToyOptions
    config: ToyOptions
    description = "Synthetic one-prong and three-prong jets made in seconds (not a collision simulation)."
    classes = ("qcd", "top")

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        tracks = ("charge", *FLAGS, *TRACKS) if self.config.tracks else ()
        return ("px", "py", "pz", "energy", *tracks, *(TRUTH if self.config.truth else ()))

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        return (*super().scalar_columns, *(("event_number",) if self.config.variations else ()))

    @property
    def total(self) -> int | None:
        return self.config.jets if self.config.variations is None else None

    def provenance(self) -> dict[str, Any]:
        varied = self.config.variations
        return {
            "generator": "jetsweep toy jets (synthetic)",
            "cuts": {"top or parton pt": "550-650 GeV", "abs_eta": 2.0},
            **({} if varied is None else {"systematics": scheme(varied, "toy", PT)}),
        }

    def jets(self) -> Iterator[tuple[str, Jets]]:
        for start in range(0, self.config.jets, CHUNK):
            size = min(CHUNK, self.config.jets - start)
            rng = np.random.default_rng([self.config.seed, start // CHUNK])
            chunk = make_toy_jets(size, rng, tracks=self.config.tracks, truth=self.config.truth, start=start)
            if self.config.variations is not None:
                chunk.scalars["event_number"] = chunk.source_row
            yield from with_variations(hash_split(chunk, self.config.seed), self.config.variations, self.config.seed)


def make_toy_jets(
    size: int, rng: np.random.Generator, *, tracks: bool = False, truth: bool = False, start: int = 0
) -> Jets:
    """Make `size` jets, half of each class in random order.

    Parameters
    ----------
    size : int
        Number of jets B.
    rng : numpy.random.Generator
    tracks : bool
        Add charge, flags and impact parameters.
    truth : bool
        Add origin and vertex: those of the b are a vertex of their own (origin 3), all others primary (origin 2).
    start : int
        Number of the first jet, kept in `source_row`.
    """
    label_B = rng.permutation(np.arange(size) % 2)
    axis_B4 = _vectors(rng.uniform(*PT, size), rng.uniform(-2, 2, size), rng.uniform(-np.pi, np.pi, size), TOP_MASS)
    prongs_B34 = _decay_top(axis_B4, rng)
    parton_B = label_B == 0
    # a parton is a first prong with everything
    prongs_B34[parton_B, 0] = axis_B4[parton_B]

    num_B = 3 + rng.negative_binomial(np.where(parton_B, 6, 12), np.where(parton_B, 6 / 42, 12 / 55))
    offsets = np.concatenate([[0], np.cumsum(num_B)])
    jet_N = np.repeat(np.arange(size), num_B)
    # the three first constituents of a top start its three prongs, so that none is empty
    rank_N = np.arange(offsets[-1]) - offsets[jet_N]
    prong_N = np.where(label_B[jet_N] == 1, np.where(rank_N < 3, rank_N, rng.integers(0, 3, len(jet_N))), 0)

    share_N = rng.gamma(0.45, size=len(jet_N)) + 1e-3
    key_N = jet_N * 3 + prong_N
    share_N /= np.bincount(key_N, share_N, minlength=3 * size)[key_N]
    width_B = np.exp(rng.normal(np.where(parton_B, np.log(0.125), np.log(0.085)), np.where(parton_B, 0.5, 0.4)))
    # harder constituents sit closer to the axis
    r_N = width_B[jet_N] * rng.gamma(2.0, 0.5, len(jet_N)) / np.sqrt(0.4 + 12 * share_N)
    turn_N = rng.uniform(-np.pi, np.pi, len(jet_N))
    prong_N4 = prongs_B34[jet_N, prong_N]
    pt_N = share_N * np.hypot(prong_N4[:, 0], prong_N4[:, 1])
    eta_N = np.arcsinh(prong_N4[:, 2] / np.hypot(prong_N4[:, 0], prong_N4[:, 1])) + r_N * np.cos(turn_N)
    phi_N = np.arctan2(prong_N4[:, 1], prong_N4[:, 0]) + r_N * np.sin(turn_N)
    p4_N4 = _vectors(pt_N, eta_N, phi_N, 0.0)
    values = {name: p4_N4[:, i].astype(np.float32) for i, name in enumerate(("px", "py", "pz", "energy"))}
    if tracks:
        values |= _track_columns(label_B[jet_N], prong_N, rng)
    if truth:
        of_b_N = (label_B[jet_N] == 1) & (prong_N == 0)
        values |= {"origin": np.where(of_b_N, 3, 2).astype(np.int8), "vertex": of_b_N.astype(np.int8)}
    jets = Jets(values, offsets, label_B, source_row=start + np.arange(size)).sorted_by_pt()
    jets.scalars.update(jet_scalars(jets))
    return jets


def _track_columns(label_N: np.ndarray, prong_N: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Species in realistic parts; constituents of the top's first prong (its b) are displaced."""
    size = len(label_N)
    kind_N = rng.choice(5, size, p=[0.58, 0.12, 0.27, 0.02, 0.01])
    charged_N = (kind_N == 0) | (kind_N >= 3)
    columns = {name: kind_N == i for i, name in enumerate(FLAGS)}
    columns["charge"] = np.where(charged_N, rng.choice([-1, 1], size), 0).astype(np.int8)
    displaced_N = (label_N == 1) & (prong_N == 0)
    for name in ("d0", "dz"):
        error_N = rng.gamma(4.0, 0.01, size) * charged_N
        value_N = rng.normal(size=size) * np.where(displaced_N, 0.3, error_N) * charged_N
        columns |= {name: value_N.astype(np.float32), f"{name}_err": error_N.astype(np.float32)}
    return columns


def _decay_top(top_B4: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quarks (b, q, q) of t → bW → bqq, shape (B, 3, 4), isotropic in each rest frame."""
    size = len(top_B4)
    momentum = (TOP_MASS**2 - W_MASS**2) / (2 * TOP_MASS)
    b_B4, w_B4 = _back_to_back(momentum, W_MASS, size, rng)
    q1_B4, q2_B4 = _back_to_back(W_MASS / 2, 0.0, size, rng)
    q1_B4, q2_B4 = _boost(q1_B4, w_B4), _boost(q2_B4, w_B4)
    return np.stack([_boost(x_B4, top_B4) for x_B4 in (b_B4, q1_B4, q2_B4)], axis=1)


def _back_to_back(momentum: float, mass: float, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    direction_B3 = rng.normal(size=(size, 3))
    p_B3 = momentum * direction_B3 / np.linalg.norm(direction_B3, axis=1, keepdims=True)
    light_B4 = np.column_stack([p_B3, np.full(size, momentum)])
    return light_B4, np.column_stack([-p_B3, np.full(size, np.hypot(momentum, mass))])


def _boost(p4_B4: np.ndarray, frame_B4: np.ndarray) -> np.ndarray:
    """Carry `p4_B4` from the rest frame of `frame_B4` into the frame where that has its momentum."""
    mass_B1 = np.sqrt(frame_B4[:, 3:] ** 2 - (frame_B4[:, :3] ** 2).sum(axis=1, keepdims=True))
    dot_B1 = (p4_B4[:, :3] * frame_B4[:, :3]).sum(axis=1, keepdims=True)
    energy_B1 = (p4_B4[:, 3:] * frame_B4[:, 3:] + dot_B1) / mass_B1
    p_B3 = p4_B4[:, :3] + frame_B4[:, :3] * (p4_B4[:, 3:] + energy_B1) / (frame_B4[:, 3:] + mass_B1)
    return np.column_stack([p_B3, energy_B1])


def _vectors(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, mass: float) -> np.ndarray:
    pz = pt * np.sinh(eta)
    return np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt**2 + pz**2 + mass**2)])
