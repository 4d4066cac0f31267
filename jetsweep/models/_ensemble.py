"""Several networks of one architecture as one network: its class probabilities are the mean of theirs."""

# Shapes: M members, B jets, C outputs.

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NETWORK = "network."
_MEMBERS = f"{_NETWORK}ensemble_members."
"""Begins the name of a member's weight in a `JetModel`'s state."""


def mean_logits(logits_MBC: Sequence[Tensor]) -> Tensor:
    """Logits whose probabilities are the mean of the members' probabilities.

    Parameters
    ----------
    logits_MBC : sequence of Tensor, each of shape (..., C)
        Logits of C classes, or for C = 1 the logit of one of two classes.

    Returns
    -------
    Tensor, shape (..., C), float32
        Softmax, or for C = 1 sigmoid, gives the mean; as long as the logits are finite, so is this.
    """
    stacked = torch.stack([logits.float() for logits in logits_MBC])
    if stacked.shape[-1] == 1:
        return _mean_log_odds(stacked)
    return torch.logsumexp(F.log_softmax(stacked, dim=-1), dim=0) - math.log(len(stacked))


def _mean_log_odds(logits: Tensor) -> Tensor:
    """Logit of the mean of sigmoids over the first dimension."""
    return torch.logsumexp(F.logsigmoid(logits), dim=0) - torch.logsumexp(F.logsigmoid(-logits), dim=0)


class Ensemble(nn.Module):
    """Networks that see the same tensors; the mean of their probabilities is the prediction.

    Parameters
    ----------
    members : iterable of nn.Module
        Of one architecture, which returns logits (B, C) or a `jetsweep.models.gn2.TrackOutputs`.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.ensemble_members = nn.ModuleList(members)
        self.fixed_slots = getattr(self.ensemble_members[0], "fixed_slots", False)

    def forward(self, **tensors: Tensor) -> Any:
        """Logits (B, C) of the mean probability; of track heads the same for origins and common vertices."""
        outputs = [member(**tensors) for member in self.ensemble_members]
        if isinstance(outputs[0], Tensor):
            return mean_logits(outputs)
        return outputs[0]._replace(
            logits=mean_logits([x.logits for x in outputs]),
            origin=mean_logits([x.origin for x in outputs]),
            same_vertex=_mean_log_odds(torch.stack([x.same_vertex.float() for x in outputs])),
        )


def join_weights(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """State of a `JetModel` whose network is the ensemble, from those of its members; of one member its own.

    Preprocessing is fitted before training and never trained, so the first member's is that of all.
    """
    if len(members) == 1:
        return dict(members[0])
    joined = {name: tensor for name, tensor in members[0].items() if not name.startswith(_NETWORK)}
    for i, weights in enumerate(members):
        for name, tensor in weights.items():
            if name.startswith(_NETWORK):
                joined[f"{_MEMBERS}{i}.{name.removeprefix(_NETWORK)}"] = tensor
    return joined


def split_weights(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """States of the members, the reverse of `join_weights`."""
    number = num_members(weights)
    if number == 1:
        return [dict(weights)]
    shared = {name: tensor for name, tensor in weights.items() if not name.startswith(_MEMBERS)}
    members = [dict(shared) for _ in range(number)]
    for name, tensor in weights.items():
        if name.startswith(_MEMBERS):
            index, _, rest = name.removeprefix(_MEMBERS).partition(".")
            members[int(index)][_NETWORK + rest] = tensor
    return members


def num_members(weights: Mapping[str, Tensor]) -> int:
    """Networks in the state of a `JetModel`: 1 where it is no ensemble."""
    numbers = {name.removeprefix(_MEMBERS).partition(".")[0] for name in weights if name.startswith(_MEMBERS)}
    return len(numbers) or 1
