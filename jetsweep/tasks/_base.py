"""What a task is: the loss, the metrics and the figures of one kind of learning."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from jetsweep.data.batch import Batch
from jetsweep.data.pairing import PairingConfig
from jetsweep.data.reweight import ReweightConfig
from jetsweep.data.selection import Selection
from jetsweep.errors import DataError, JetsweepError
from jetsweep.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jetsweep.tasks._report import Section, SplitResults

Gather = Callable[[np.ndarray], np.ndarray]
"""Concatenates an array over all ranks along its first axis, in rank order; the identity for one rank."""


class TaskConfig(BaseModel):
    """Base of every task's config; `name` selects the task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    """What the network may return; see `jetsweep.models._base.ModelConfig.outputs`."""

    uses_track_heads: ClassVar[bool] = False
    """Whether the network must return `jetsweep.models.gn2.TrackOutputs`."""

    name: str

    def check_trial(self, spec: Any) -> None:
        """Refuse a network or a way of training that the task cannot be learned with.

        Parameters
        ----------
        spec : TrialSpec

        Raises
        ------
        ValueError
        """
        model = spec.model
        if model.outputs not in self.outputs:
            raise ValueError(
                f"model: task {self.name} expects an architecture that returns {' or '.join(self.outputs)}, found "
                f"{model.name}, which returns {model.outputs}"
            )
        if spec.training.ensemble_epochs > 1 and model.outputs != "logits":
            raise ValueError(
                f"training.ensemble_epochs: expected 1 beside task {self.name}, since a {model.outputs} has no mean as "
                f"probabilities have; found {spec.training.ensemble_epochs}"
            )
        found = getattr(model, "track_heads", False)
        if self.uses_track_heads and not found:
            raise ValueError(
                f"model: task {self.name} expects gn2 or gn2x with track_heads: true, found {model.name}"
                + (" without" if hasattr(model, "track_heads") else "")
            )
        if found and not self.uses_track_heads:
            raise ValueError(f"model.track_heads: expected false beside task {self.name}, found true")


@dataclass(frozen=True)
class Phase:
    """One optimiser's turn within a step; a GAN has two, everything else one.

    Parameters
    ----------
    name : str
    parameters : callable
        Takes a parameter's dotted name, tells whether this phase's optimiser updates it.
    every : int
        The phase runs on steps divisible by this number.
    """

    name: str = "main"
    parameters: Callable[[str], bool] = field(default=lambda name: True)
    every: int = 1


@dataclass(frozen=True)
class Stream:
    """Where the jets of one data stream come from.

    The loop adds up the losses of ranks and micro-batches in proportion to their jets of `main`. Of another stream the
    parts may hold one jet more or less than their share: a sum over its jets, divided by ``ratio * len(main)``, adds up
    exactly; a mean does so only where batches divide evenly.

    Parameters
    ----------
    split : str
    selection : Selection, optional
        Classes that are read; all without it.
    ratio : float
        Jets of this stream for each jet of `main`; a batch has ``round(ratio * batch_size)`` of them.
    pairing : PairingConfig, optional
        Draw partners of the jets of `main`; without it the stream has an order of its own. See
        `jetsweep.data.pairing.PairedLoader` for which jet is whose partner; a `ratio` above 1 must then be an integer.
    reweight : ReweightConfig, optional
        Of this stream's jets, e.g. to the spectrum of the background (a class of the same dataset).
    dataset : str
        Read the experiment's dataset, or that of `data.outliers`, whose labels count its own classes.

    Raises
    ------
    DataError
        If the ratio is not possible, or jets would be both paired and reweighted.
    """

    split: str = "train"
    selection: Selection | None = None
    ratio: float = 1.0
    pairing: PairingConfig | None = None
    reweight: ReweightConfig | None = None
    dataset: Literal["main", "outliers"] = "main"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ratio) and self.ratio > 0):
            raise DataError(f"ratio of a stream: expected a number above 0, found {self.ratio}")
        if self.pairing is not None and self.ratio > 1 and self.ratio != round(self.ratio):
            raise DataError(f"ratio of a paired stream: expected at most 1 or an integer, found {self.ratio:g}")
        if self.pairing is not None and self.reweight is not None:
            raise DataError("a stream is either paired, which gives it the spectrum of main, or reweighted, found both")


class Evaluator(ABC):
    """Collects one split's outputs and computes metrics of the whole split, exact over all ranks."""

    @abstractmethod
    def update(self, outputs: Any, batch: Batch) -> None:
        """Take one batch's outputs (already on any device)."""

    @abstractmethod
    def compute(self, gather: Gather) -> dict[str, float]:
        """Metrics by name without the split, e.g. ``{"loss": …, "auc": …, "rejection_at_0.5": …}``."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """After `compute`: the gathered per-jet arrays that figures and predictions need, in order of `rows`."""


class Task(ABC):
    """One kind of learning on one dataset.

    Parameters
    ----------
    config : TaskConfig
    classes : sequence of str
        The dataset's class names in the order of its label indices.
    """

    streams: tuple[str, ...] = ("main",)
    """Names of the data streams a step draws one batch of each from; outlier exposure adds a second."""

    constituents: ClassVar[tuple[str, ...]] = ()
    """Columns of the constituents that the loss and the metrics need, beyond the model's."""

    config: Any
    phases: Sequence[Phase] = (Phase(),)
    scalars: tuple[str, ...] = ()
    """Scalar columns the task needs in each batch, beyond what the model's features need."""

    combinations: ClassVar[tuple[str, ...]] = ()
    """Ways to combine what several models say about the same jets, out of `jetsweep.metrics.ensembles.HOWS`."""

    epoch: float = 0.0
    """Optimizer steps done over steps per epoch; the training loop sets it before every step."""

    @abstractmethod
    def __init__(self, config: Any, classes: Sequence[str]) -> None: ...

    def stream(self, name: str) -> Stream:
        """Where a stream's jets come from: those of `main` from the split `train`, others from that of their name."""
        return Stream("train" if name == "main" else name)

    @abstractmethod
    def num_outputs(self, binary_output: str) -> int:
        """Number of outputs C the network must have."""

    def output_names(self, binary_output: str) -> tuple[str, ...]:
        """What each of the network's outputs stands for, so that another model can begin as this one."""
        return tuple(str(i) for i in range(self.num_outputs(binary_output)))

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of the batch and its named parts (detached scalars)."""

    def training_loss(
        self, phase: str, module: nn.Module, batches: Mapping[str, Batch]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one phase; tasks with several phases or streams override it."""
        batch = batches["main"]
        return self.loss(module(batch), batch)

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Make a fresh evaluator for one pass over one split."""

    @classmethod
    @abstractmethod
    def metrics_of(cls, config: Any) -> tuple[str, ...]:
        """Names `Evaluator.compute` returns, so that a misspelt objective is refused before anything runs."""

    def check_split(self, split: str, num_jets: int, class_counts: Mapping[str, int]) -> None:
        """Refuse a split that this task can learn or measure nothing on.

        Raises
        ------
        DataError
        """
        if num_jets == 0:
            raise DataError(f"the split {split!r} is empty, expected at least one jet")

    def metric_names(self) -> tuple[str, ...]:
        """Names that this task's evaluator computes."""
        return self.metrics_of(self.config)

    def combine(
        self, members: Sequence[Mapping[str, np.ndarray]], how: str
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics and arrays, as of `Evaluator`, of several models' combined prediction of a split.

        Parameters
        ----------
        members : sequence of mappings
            `Evaluator.arrays` of each model, of the same jets.
        how : str
            One of `combinations`.
        """
        raise NotImplementedError

    def combine_predictions(self, members: Sequence[Mapping[str, np.ndarray]], how: str) -> dict[str, np.ndarray]:
        """Columns of a prediction file, as of `predictions`, of several models' combined prediction of a batch.

        Raises
        ------
        JetsweepError
            If they cannot be combined without the rest of the split.
        """
        raise JetsweepError(f"task {self.config.name!r}: predictions of several models cannot be combined")

    @abstractmethod
    def figures(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Figure]:
        """Plots of one split from `Evaluator.arrays`, by file name without extension."""

    def comparison_figures(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Figure]:
        """Plots that show several models on one split; `arrays` as for `figures`, by the model's label."""
        return {}

    def report_sections(self, results: SplitResults) -> list[Section]:
        """Sections of the report of a sweep: by default the figures of its best trial."""
        from jetsweep.tasks._report import Part, Section

        made = {**self.figures(results.best), **self.comparison_figures(results.compared)}
        parts = tuple(Part(name, name.replace("-", " ").capitalize() + ".", figure) for name, figure in made.items())
        return [Section(f"Best trial on {results.split}", parts, f"Figures of {results.label}.")]

    def predictions(self, outputs: Any) -> dict[str, Tensor]:
        """Columns of a prediction file, each of shape (B,), from a batch's outputs.

        Raises
        ------
        JetsweepError
            If the task has nothing to say about single rows.
        """
        raise JetsweepError(f"task {self.config.name!r} has no per-jet predictions")

    def prediction_names(self, binary_output: str) -> tuple[str, ...]:
        """Names of the columns of `predictions`."""
        return tuple(self.predictions(torch.zeros(1, self.num_outputs(binary_output))))


@dataclass(frozen=True)
class TaskEntry:
    """A registered task: the config class and the task class."""

    config: type[TaskConfig]
    task: type[Task]


TASKS: Registry[TaskEntry] = Registry("task", "jetsweep.tasks")


def build_task(config: TaskConfig, classes: Sequence[str]) -> Task:
    """Make the task that `config` describes."""
    return TASKS.get(config.name).task(config, classes)
