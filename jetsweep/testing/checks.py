"""Properties of networks on sets of constituents, as short functions that raise AssertionError.

A network is called with the keyword tensors of `jetsweep.models._base.Network`; a tagger is any function of
four-vectors and mask, e.g. what `on_four_vectors` makes of a network.
"""

# Shapes: B jets, P slots, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jetsweep.models._features import Preprocessing

Tagger = Callable[[Tensor, Tensor], Tensor]
OF_THE_JET = ("jet_features", "rows")
"""Tensors without a dimension of slots."""
SLOT_NUMBERS = {"neighbours"}
"""Tensors that name slots of their own jet."""


def on_four_vectors(network: Any, features: str) -> Tagger:
    """Tagger of four-vectors (B, P, 4) and mask (B, P): `network`, evaluating, behind the feature set `features`."""

    def tagger(p4_BP4: Tensor, mask_BP: Tensor) -> Tensor:
        preprocessing = Preprocessing(features, network.inputs, p4_BP4.shape[1])
        with _evaluating(network):
            outputs: Tensor = network(**preprocessing.from_padded(p4_BP4, mask_BP))
        return outputs

    return tagger


def check_permutation_invariance(
    network: nn.Module, tensors: Mapping[str, Tensor], seed: int = 0, atol: float = 1e-5
) -> None:
    """Raise if the order of a jet's slots, padding included, changes the output."""
    mask_BP = tensors["mask"]
    order_BP = torch.rand(mask_BP.shape, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    shuffled = {name: _take(x, order_BP) if name not in OF_THE_JET else x for name, x in tensors.items()}
    for name in SLOT_NUMBERS & tensors.keys():
        new_BP, old = order_BP.argsort(dim=1), shuffled[name]
        new = new_BP.gather(1, old.clamp(min=0).flatten(1)).view_as(old)
        shuffled[name] = torch.where(old >= 0, new, old)
    with _evaluating(network):
        _same(network(**shuffled), network(**tensors), atol, "the order of constituents changes the output")


def check_padding_invariance(
    network: nn.Module, tensors: Mapping[str, Tensor], extra: int = 5, atol: float = 1e-5
) -> None:
    """Raise if slots without a constituent, whatever they hold, change the output."""
    mask_BP = F.pad(tensors["mask"], (0, extra), value=False)
    with _evaluating(network):
        before = network(**tensors)
        for junk in (1e4, math.nan):
            wide = {name: x if name in OF_THE_JET else _widen(x, extra, junk, mask_BP) for name, x in tensors.items()}
            _same(network(**wide), before, atol, f"{extra} more empty slots holding {junk} change the output")


def check_batch_independence(network: nn.Module, tensors: Mapping[str, Tensor], atol: float = 1e-5) -> None:
    """Raise if a jet's output depends on the other jets of its batch."""
    with _evaluating(network):
        together = network(**tensors)
        for row in range(len(together)):
            alone = network(**{name: x[row : row + 1] for name, x in tensors.items()})
            _same(alone, together[row : row + 1], atol, f"jet {row} alone differs from the same jet in its batch")


def check_finite_gradients(network: nn.Module, tensors: Mapping[str, Tensor], label_B: Tensor) -> None:
    """Raise if a parameter gets no gradient, or one that is not finite, from the cross-entropy in training mode."""
    network.train()
    network.zero_grad()
    F.cross_entropy(network(**tensors), label_B).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def check_irc_safety(
    tagger: Tagger,
    p4_BP4: Tensor,
    mask_BP: Tensor,
    fraction: float = 0.3,
    softness: float = 1e-7,
    atol: float = 1e-5,
) -> None:
    """Raise if a collinear splitting or a soft emission changes the output.

    Parameters
    ----------
    tagger : callable
    p4_BP4 : Tensor, shape (B, P, 4), GeV
    mask_BP : Tensor, shape (B, P), bool
        At least one constituent per jet.
    fraction : float
        The hardest constituent splits into this and the rest.
    softness : float
        Momentum of the added particle, half a unit in phi from the hardest constituent, over that one's.
    atol : float
    """
    before = tagger(p4_BP4, mask_BP)
    hardest_B = torch.where(mask_BP, p4_BP4[..., 3], -torch.inf).argmax(dim=1)
    rows_B = torch.arange(len(p4_BP4))
    hard_B4 = p4_BP4[rows_B, hardest_B]
    wide_mask_BP = F.pad(mask_BP, (0, 1), value=True)

    split_BP4 = torch.cat([p4_BP4, fraction * hard_B4[:, None]], dim=1)
    split_BP4[rows_B, hardest_B] = (1 - fraction) * hard_B4
    _same(tagger(split_BP4, wide_mask_BP), before, atol, "a collinear splitting changes the output")

    soft_BP4 = torch.cat([p4_BP4, softness * _rotated(hard_B4, 0.5)[:, None]], dim=1)
    _same(tagger(soft_BP4, wide_mask_BP), before, atol, "a soft emission changes the output")


def check_rotation_invariance(
    tagger: Tagger, p4_BP4: Tensor, mask_BP: Tensor, angle: float = 2.0, atol: float = 1e-4
) -> None:
    """Raise if a rotation of every jet about the beam by `angle` (radians) changes the output."""
    rotated = tagger(_rotated(p4_BP4, angle), mask_BP)
    _same(rotated, tagger(p4_BP4, mask_BP), atol, f"a rotation by {angle} about the beam changes the output")


def check_boost_invariance(
    tagger: Tagger, p4_BP4: Tensor, mask_BP: Tensor, rapidity: float = 0.5, atol: float = 1e-4
) -> None:
    """Raise if a boost along the beam by `rapidity` changes the output."""
    px, py, pz, energy = p4_BP4.unbind(dim=-1)
    cosh, sinh = math.cosh(rapidity), math.sinh(rapidity)
    boosted_BP4 = torch.stack([px, py, cosh * pz + sinh * energy, cosh * energy + sinh * pz], dim=-1)
    boosted = tagger(boosted_BP4, mask_BP)
    _same(boosted, tagger(p4_BP4, mask_BP), atol, f"a boost by {rapidity} along the beam changes the output")


def check_lorentz_invariance(
    network: Any,
    features: str,
    p4_BP4: Tensor,
    mask_BP: Tensor,
    rapidity: float = 0.5,
    seed: int = 0,
    atol: float = 1e-4,
) -> None:
    """Raise if a rotation and a boost in directions drawn at random change the output.

    Parameters
    ----------
    network : nn.Module
        Fixed four-vectors that it holds, a buffer ``references`` (S, 4), are transformed with the constituents.
    features : str
        Feature set.
    p4_BP4 : Tensor, shape (B, P, 4), GeV
    mask_BP : Tensor, shape (B, P), bool
    rapidity : float
        Of the boost.
    seed : int
        Of the directions.
    atol : float
    """
    tagger = on_four_vectors(network, features)
    before = tagger(p4_BP4, mask_BP)
    matrix_44 = _lorentz_transformation(rapidity, seed)
    with _transformed_references(network, matrix_44):
        after = tagger((p4_BP4.double() @ matrix_44.T).to(p4_BP4.dtype), mask_BP)
    _same(after, before, atol, f"a rotation and a boost by {rapidity} change the output")


def _lorentz_transformation(rapidity: float, seed: int) -> Tensor:
    """Boost after a rotation, both in directions drawn at random, as a matrix on (px, py, pz, E)."""
    source = torch.Generator().manual_seed(seed)
    rotation_33, _ = torch.linalg.qr(torch.randn(3, 3, generator=source, dtype=torch.float64))
    rotation_33 = rotation_33 * torch.linalg.det(rotation_33)  # no mirror
    axis_3 = F.normalize(torch.randn(3, generator=source, dtype=torch.float64), dim=0)
    boost_44 = torch.eye(4, dtype=torch.float64)
    boost_44[:3, :3] += (math.cosh(rapidity) - 1) * torch.outer(axis_3, axis_3)
    boost_44[:3, 3] = boost_44[3, :3] = math.sinh(rapidity) * axis_3
    boost_44[3, 3] = math.cosh(rapidity)
    rotation_44 = torch.eye(4, dtype=torch.float64)
    rotation_44[:3, :3] = rotation_33
    return boost_44 @ rotation_44


@contextmanager
def _transformed_references(network: Any, matrix_44: Tensor) -> Iterator[None]:
    """The network's fixed four-vectors, if it has any, transformed for a while."""
    before = getattr(network, "references", None)
    if before is None:
        yield
        return
    network.references = (before.double() @ matrix_44.T).to(before.dtype)
    try:
        yield
    finally:
        network.references = before


@contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    """Evaluation mode without gradients for a while."""
    before = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(before)


def _take(x: Tensor, order_BP: Tensor) -> Tensor:
    return x[torch.arange(len(x))[:, None], order_BP]


def _widen(x: Tensor, extra: int, junk: float, mask_BP: Tensor) -> Tensor:
    if x.dtype == torch.bool:
        return F.pad(x, (0, extra), value=False)
    if not x.dtype.is_floating_point:
        junk = 0 if math.isnan(junk) else int(junk)
    wide = F.pad(x, (0, 0) * (x.dim() - 2) + (0, extra), value=junk)
    return torch.where(mask_BP.view(*mask_BP.shape, *[1] * (x.dim() - 2)), wide, junk)


def _rotated(p4: Tensor, angle: float) -> Tensor:
    px, py, pz, energy = p4.unbind(dim=-1)
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack([cos * px - sin * py, sin * px + cos * py, pz, energy], dim=-1)


def _same(found: Tensor, expected: Tensor, atol: float, message: str) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=atol, msg=lambda details: f"{message}: {details}")
