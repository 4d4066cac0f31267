"""Losses of a jet's tracks: where each comes from, and which pairs come from one vertex (ATL-PHYS-PUB-2022-027)."""

# Shapes: B jets, P slots, O origins.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jetsweep.losses.ranks import mean_over_ranks

HEAVY_FLAVOUR = (3, 5)
"""First and last origin that count twice in pairs: from b, from b to c, from c."""


def divisor(count: Tensor) -> Tensor:
    """What a rank's sum is divided by, so that the mean over ranks is the global sum over the global count.

    1 in all where nothing was counted.
    """
    mean = mean_over_ranks(count)
    return torch.where(mean > 0, mean, 1.0)


def origin_loss(logits: Tensor, origin: Tensor, tracks: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the batch's tracks of known origin.

    Parameters
    ----------
    logits : Tensor, shape (B, P, O)
    origin : Tensor, shape (B, P), int64
        Negative where it is not known.
    tracks : Tensor, shape (B, P), bool
    weight : Tensor, shape (B,), optional
        Per-jet weight.

    Returns
    -------
    Tensor, shape ()
        0 without any such track.
    """
    known_BP = tracks & (origin >= 0)
    target_BP = torch.where(known_BP, origin, -100)
    loss_BP = F.cross_entropy(logits.float().transpose(1, 2), target_BP, ignore_index=-100, reduction="none")
    if weight is not None:
        loss_BP = loss_BP * weight[:, None]
    return torch.where(known_BP, loss_BP, 0.0).sum() / divisor(known_BP.sum())


def true_pairs(vertex: Tensor, tracks: Tensor) -> tuple[Tensor, Tensor]:
    """Ordered pairs of different tracks, and those of one known vertex.

    Parameters
    ----------
    vertex : Tensor, shape (B, P), int64
        Vertex number within the jet; negative where there is none.
    tracks : Tensor, shape (B, P), bool

    Returns
    -------
    pair, same : Tensor, shape (B, P, P), bool
    """
    different = ~torch.eye(tracks.shape[1], dtype=torch.bool, device=tracks.device)
    pair_BPP = tracks[:, :, None] & tracks[:, None, :] & different
    same_BPP = pair_BPP & (vertex[:, :, None] == vertex[:, None, :]) & (vertex >= 0)[:, :, None]
    return pair_BPP, same_BPP


def vertex_loss(logits: Tensor, vertex: Tensor, origin: Tensor, tracks: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of ordered pairs of tracks, divided by the number of pairs that share a vertex.

    Pairs of which both tracks come from heavy flavour count twice.

    Parameters
    ----------
    logits : Tensor, shape (B, P, P)
    vertex, origin : Tensor, shape (B, P), int64
        Negative where not known.
    tracks : Tensor, shape (B, P), bool
    weight : Tensor, shape (B,), optional
        Per-jet weight.

    Returns
    -------
    Tensor, shape ()
        Where the batch has no pair that shares a vertex, the sum is divided by 1.
    """
    pair_BPP, same_BPP = true_pairs(vertex, tracks)
    loss_BPP = F.binary_cross_entropy_with_logits(logits.float(), same_BPP.float(), reduction="none")
    heavy_BP = (origin >= HEAVY_FLAVOUR[0]) & (origin <= HEAVY_FLAVOUR[1])
    loss_BPP = torch.where(heavy_BP[:, :, None] & heavy_BP[:, None, :], 2 * loss_BPP, loss_BPP)
    if weight is not None:
        loss_BPP = loss_BPP * weight[:, None, None]
    return torch.where(pair_BPP, loss_BPP, 0.0).sum() / divisor(same_BPP.sum())


def found_vertices(logits: Tensor, tracks: Tensor) -> Tensor:
    """Vertices as connected components of the pairs that either order's logit joins.

    Parameters
    ----------
    logits : Tensor, shape (B, P, P)
    tracks : Tensor, shape (B, P), bool

    Returns
    -------
    Tensor, shape (B, P), int64
        Smallest slot of each track's vertex; -1 where a slot is no track.
    """
    pair_BPP, _ = true_pairs(torch.zeros_like(tracks, dtype=torch.long), tracks)
    joined_BPP = pair_BPP & ((logits > 0) | (logits.transpose(1, 2) > 0))
    length = tracks.shape[1]
    vertex_BP = torch.arange(length, device=tracks.device).expand_as(tracks)
    while True:
        nearest_BP = torch.where(joined_BPP, vertex_BP[:, None, :], length).amin(dim=2)
        lower_BP = torch.minimum(vertex_BP, nearest_BP)
        if torch.equal(lower_BP, vertex_BP):
            return torch.where(tracks, vertex_BP, -1)
        vertex_BP = lower_BP
