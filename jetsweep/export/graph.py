"""A trained model as a function of padded tensors: what is written into an ONNX file."""

# Shapes: B jets, P constituent slots, F constituent columns, S jet scalars, K scores.

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from jetsweep.data.batch import Batch, Ragged
from jetsweep.errors import JetsweepError
from jetsweep.tasks._base import Task, build_task
from jetsweep.training.checkpoint import LoadedModel

CONSTITUENTS, MASK, SCALARS, SCORES = "constituents", "mask", "jet", "scores"


@dataclass(frozen=True)
class PaddedGroup:
    """Constituents that are padded already, in the place of a ragged group.

    Parameters
    ----------
    x_BPF : Tensor, shape (B, P, F)
    mask_BP : Tensor, shape (B, P), bool
    columns : tuple of str
    """

    x_BPF: Tensor
    mask_BP: Tensor
    columns: tuple[str, ...]

    def pad(self, length: int) -> tuple[Tensor, Tensor]:
        """All slots: a graph whose number of slots is free cannot cut them to `length`, so its callers do."""
        return self.x_BPF, self.mask_BP


class PaddedModel(nn.Module):
    """Scores of padded jets: the preprocessing, the network and the task's predictions in one graph.

    Parameters
    ----------
    loaded : LoadedModel

    Raises
    ------
    JetsweepError
        If the network reads what is derived from the constituents outside the graph.

    Attributes
    ----------
    columns : tuple of str
        Of the input ``constituents`` (B, P, F), which goes with ``mask`` (B, P); without any there are no such inputs.
    scalars : tuple of str
        Of the input ``jet`` (B, S): the stored axis, or variables that are computed before the network.
    scores : tuple of str
        Of the output (B, K).
    """

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.network_name = loaded.spec.model.name
        derived = tuple(loaded.model.preprocessing.group_columns)
        if derived:
            raise JetsweepError(
                f"{self.network_name} cannot be written as ONNX: its inputs ({', '.join(derived)}) are computed "
                "from the jets on the host"
            )
        self.model = loaded.model
        self.task: Task = build_task(loaded.spec.task, loaded.classes)
        self.columns = loaded.model.preprocessing.constituent_columns
        self.scalars = loaded.model.preprocessing.scalar_columns
        self.max_constituents = loaded.model.preprocessing.max_constituents
        self.scores = self.task.prediction_names(loaded.spec.model.binary_output)
        self.eval()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the tensors that `forward` takes, in order."""
        return (*((CONSTITUENTS, MASK) if self.columns else ()), *((SCALARS,) if self.scalars else ()))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Scores, shape (B, K), float32, of the tensors named in `input_names`."""
        given = dict(zip(self.input_names, inputs))
        groups = {}
        if self.columns:
            padded = PaddedGroup(given[CONSTITUENTS], given[MASK], self.columns)
            groups[CONSTITUENTS] = cast(Ragged, padded)  # the model only pads it
        scalars = dict(zip(self.scalars, given[SCALARS].unbind(dim=-1))) if self.scalars else {}
        rows_B = torch.zeros(inputs[0].shape[0], dtype=torch.int64)
        outputs = self.model(Batch(groups, scalars, {}, None, rows_B))
        outputs = getattr(outputs, "logits", outputs)  # auxiliary outputs stay behind
        return torch.stack(list(self.task.predictions(outputs).values()), dim=-1).float()

    def inputs_of(self, batch: Batch) -> tuple[Tensor, ...]:
        """Tensors for `forward` from a batch of a loader, on the host."""
        tensors: list[Tensor] = []
        if self.columns:
            tensors += batch.groups[CONSTITUENTS].pad(self.max_constituents)
        if self.scalars:
            tensors.append(torch.stack([batch.scalars[name] for name in self.scalars], dim=-1))
        return tuple(tensors)

    def feed(self, inputs: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
        """The same by name, for onnxruntime."""
        return {name: x.numpy() for name, x in zip(self.input_names, inputs)}
