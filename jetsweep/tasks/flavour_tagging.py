"""Jet tagging with two auxiliary tasks on the jet's tracks: their origin and their vertices (GN2, GN2X)."""

# Shapes: B jets of a batch, P slots, J jets of a split.

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jetsweep.data.batch import Batch
from jetsweep.losses.ranks import mean_over_ranks
from jetsweep.losses.tracks import found_vertices, origin_loss, true_pairs, vertex_loss
from jetsweep.tasks._base import TASKS, Gather, TaskEntry
from jetsweep.tasks.tagging import Tagging, TaggingConfig, TaggingEvaluator

COUNTS = ("tracks_known", "tracks_right", "pairs_same", "pairs_found", "pairs_right")


class FlavourTaggingConfig(TaggingConfig):
    """Settings of the task `flavour-tagging`."""

    uses_track_heads: ClassVar[bool] = True

    name: Literal["flavour-tagging"] = "flavour-tagging"  # type: ignore[assignment]
    origin_weight: float = Field(0.5, ge=0.0, description="Factor on the loss of track origins (GN2X: 0.33).")
    vertex_weight: float = Field(1.5, ge=0.0, description="Factor on the loss of track vertices (GN2X: 0.75).")
    combine: Literal["sum", "geometric-mean"] = Field(
        "sum", description="The loss is the weighted sum of the three, or their geometric mean without factors."
    )


class FlavourTagging(Tagging):
    """Tell classes of jets apart, and learn from their tracks.

    The dataset's constituents need the columns `origin` and `vertex`, negative where they are not known; the
    model needs track heads.

    Parameters
    ----------
    config : FlavourTaggingConfig
    classes : sequence of str

    Raises
    ------
    JetsweepError
        As `Tagging`.
    """

    constituents: ClassVar[tuple[str, ...]] = ("origin", "vertex")
    config: FlavourTaggingConfig

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        origin_BP, vertex_BP = track_targets(batch, outputs.tracks.shape[1])
        weight_B = self.loss_weight(batch)
        jet, _ = super().loss(outputs.logits, batch)
        origin = origin_loss(outputs.origin, origin_BP, outputs.tracks, weight_B)
        vertex = vertex_loss(outputs.same_vertex, vertex_BP, origin_BP, outputs.tracks, weight_B)
        if self.config.combine == "sum":
            total = jet + self.config.origin_weight * origin + self.config.vertex_weight * vertex
        else:
            total = geometric_mean(jet, origin, vertex)
        parts = {"loss": total, "jet_loss": jet, "origin_loss": origin, "vertex_loss": vertex}
        return total, {name: part.detach() for name, part in parts.items()}

    def evaluator(self) -> FlavourTaggingEvaluator:
        return FlavourTaggingEvaluator(self)

    def class_evaluator(self) -> TaggingEvaluator:
        return TaggingEvaluator(self)

    @classmethod
    def metrics_of(cls, config: TaggingConfig) -> tuple[str, ...]:
        return (*super().metrics_of(config), "origin_accuracy", "vertex_pair_efficiency", "vertex_pair_purity")

    def predictions(self, outputs: Any) -> dict[str, Tensor]:
        if isinstance(outputs, Tensor):  # logits alone
            return super().predictions(outputs)
        vertex_BP = found_vertices(outputs.same_vertex, outputs.tracks)
        slot_P = torch.arange(vertex_BP.shape[1], device=vertex_BP.device)
        # a component is named by its first track, and is a vertex if another track has that name
        size_BP = (vertex_BP[:, :, None] == slot_P).sum(dim=1)
        return super().predictions(outputs.logits) | {"num_vertices": (size_BP > 1).sum(dim=1)}


class FlavourTaggingEvaluator(TaggingEvaluator):
    """Tagging's metrics, with the loss of the jet's class alone, and those of the tracks."""

    def update(self, outputs: Any, batch: Batch) -> None:
        super().update(outputs.logits, batch)
        origin_BP, vertex_BP = track_targets(batch, outputs.tracks.shape[1])
        known_BP = outputs.tracks & (origin_BP >= 0)
        pair_BPP, same_BPP = true_pairs(vertex_BP, outputs.tracks)
        found_BPP = pair_BPP & (outputs.same_vertex > 0)
        counts = (
            known_BP,
            known_BP & (outputs.origin.argmax(dim=-1) == origin_BP),
            same_BPP.flatten(1),
            found_BPP.flatten(1),
            (found_BPP & same_BPP).flatten(1),
        )
        for name, count in zip(COUNTS, counts):
            self._columns.setdefault(name, []).append(count.sum(dim=1).cpu().numpy())

    def compute(self, gather: Gather) -> dict[str, float]:
        values = super().compute(gather)
        known, right, same, found, both = (float(self._gathered[name].sum()) for name in COUNTS)
        return values | {
            "origin_accuracy": right / known if known else float("nan"),
            "vertex_pair_efficiency": both / same if same else float("nan"),
            "vertex_pair_purity": both / found if found else float("nan"),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: column for name, column in super().arrays().items() if name not in COUNTS}


def track_targets(batch: Batch, slots: int) -> tuple[Tensor, Tensor]:
    """Origin and vertex of the first `slots` constituents, each of shape (B, P), int64."""
    group = batch.groups["constituents"]
    columns = [group.columns.index(name) for name in FlavourTagging.constituents]
    x_BPF, mask_BP = group.pad(slots)
    origin_BP, vertex_BP = torch.where(mask_BP[..., None], x_BPF[..., columns], -1.0).long().unbind(dim=-1)
    return origin_BP, vertex_BP


def geometric_mean(*losses: Tensor) -> Tensor:
    """Geometric mean of losses, with the gradient of that of the global batch's on every rank."""
    values = mean_over_ranks(torch.stack([loss.detach() for loss in losses])).clamp(min=1e-12)
    mean = values.log().mean().exp()
    return (mean / (len(losses) * values) * torch.stack(losses)).sum()


TASKS.add("flavour-tagging")(TaskEntry(FlavourTaggingConfig, FlavourTagging))
