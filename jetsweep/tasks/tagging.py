"""Jet tagging, binary and multi-class: weighted cross-entropy, exact rejections, ROC and score plots."""

# Shapes: B jets of a batch, J jets of a split, C outputs, K classes.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from jetsweep.data.batch import Batch
from jetsweep.errors import DataError, JetsweepError
from jetsweep.losses.classification import classification_loss, cross_entropy_per_jet
from jetsweep.metrics import classification as metric
from jetsweep.metrics.ensembles import combine_probabilities
from jetsweep.tasks._base import TASKS, Evaluator, Gather, Task, TaskConfig, TaskEntry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jetsweep.tasks._report import Cell, Section, SplitResults, Table

SYSTEMATIC = "systematic_uncertainty_at_"
"""Begins the name of a metric that is measured only where it is asked for."""

_LEAST = 1e-38
"""Of a probability whose logarithm is taken in single precision."""


class TaggingConfig(TaskConfig):
    """Settings of the task `tagging`."""

    name: Literal["tagging"] = "tagging"
    signal: str | None = Field(
        None, description="Class counted as signal; two classes: the dataset's second class if not given."
    )
    background: str | None = Field(
        None,
        description="Multi-class: rejections use p_S/(p_S + p_B) against this class, e.g. QCD; the first if not given.",
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Share of each target spread over all classes.")
    class_weights: dict[str, float] = Field({}, description="Factor on the loss of a class; 1 where not named.")
    use_weights: bool = Field(True, description="Multiply the loss and the metrics by the dataset's per-jet weights.")
    efficiencies: tuple[float, ...] = Field(
        (0.3, 0.5, 0.8), description="Signal efficiencies at which the background rejection is reported."
    )

    systematic_efficiencies: tuple[float, ...] = Field(
        (),
        description="Signal efficiencies at which the total relative systematic uncertainty of the rejection is "
        "measured after every epoch, on varied samples of the validation split; those of search.objectives are added.",
    )

    @field_validator("efficiencies", "systematic_efficiencies")
    @classmethod
    def _inside_zero_one(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            if not 0.0 < value < 1.0:
                raise ValueError(f"a signal efficiency must be inside (0, 1), found {value}")
        return values


def signal_score(probability: np.ndarray, signal: int, background: int) -> np.ndarray:
    """One-against-one discriminant p_S / (p_S + p_B) of jets with class probabilities, shape (J,).

    For two classes it is p_S itself. Jets with both probabilities zero get 1/2.
    """
    p_s, p_b = probability[:, signal], probability[:, background]
    score: np.ndarray = np.divide(p_s, p_s + p_b, out=np.full_like(p_s, 0.5), where=(p_s + p_b) > 0)
    return score


class Tagging(Task):
    """Tell classes of jets apart.

    Parameters
    ----------
    config : TaggingConfig
    classes : sequence of str
        The dataset's class names in label order.

    Raises
    ------
    JetsweepError
        If `signal`, `background` or a class weight names a class that the dataset lacks, or there is only one class.
    """

    combinations: ClassVar[tuple[str, ...]] = ("mean", "median")

    def __init__(self, config: TaggingConfig, classes: Sequence[str]) -> None:
        self.config = config
        self.classes = tuple(classes)
        if len(self.classes) < 2:
            raise JetsweepError(f"task.name: tagging needs at least two classes, the dataset has {list(self.classes)}")
        self.signal = self._index(
            "signal", config.signal, default=len(self.classes) - 1 if len(self.classes) == 2 else 1
        )
        self.background = self._index("background", config.background, default=0 if self.signal != 0 else 1)
        if self.signal == self.background:
            raise JetsweepError(
                f"task.background: expected another class than the signal {self.classes[self.signal]!r}"
            )
        factors = np.ones(len(self.classes), dtype=np.float32)
        for name, factor in config.class_weights.items():
            factors[self._index("class_weights", name, default=0)] = factor
        self.class_weights = torch.from_numpy(factors) if config.class_weights else None

    def _index(self, field: str, name: str | None, default: int) -> int:
        if name is None:
            return default
        if name not in self.classes:
            raise JetsweepError(
                f"task.{field}: expected one of the dataset's classes {list(self.classes)}, found {name!r}"
            )
        return self.classes.index(name)

    def num_outputs(self, binary_output: str) -> int:
        return 1 if len(self.classes) == 2 and binary_output == "sigmoid" else len(self.classes)

    def output_names(self, binary_output: str) -> tuple[str, ...]:
        return self.classes if self.num_outputs(binary_output) > 1 else (self.classes[self.signal],)

    def orient(self, label: Tensor, outputs: Tensor) -> Tensor:
        """A single output is the logit of the signal class, whichever index that has."""
        return (label == self.signal).long() if outputs.shape[1] == 1 else label

    def loss_weight(self, batch: Batch) -> Tensor | None:
        """Per-jet weight of the batch, dataset weight times class weight, or None when all are 1."""
        weight = batch.weight if self.config.use_weights else None
        if self.class_weights is None:
            return weight
        by_class = self.class_weights.to(batch.targets["label"].device)[batch.targets["label"]]
        return by_class if weight is None else weight * by_class

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        label = self.orient(batch.targets["label"], outputs)
        loss = classification_loss(
            outputs, label, weight=self.loss_weight(batch), label_smoothing=self.config.label_smoothing
        )
        return loss, {"loss": loss.detach()}

    def check_split(self, split: str, num_jets: int, class_counts: Mapping[str, int]) -> None:
        super().check_split(split, num_jets, class_counts)
        wanted = (self.classes[self.signal], self.classes[self.background])
        if not all(class_counts.get(name, 0) for name in wanted):
            found = ", ".join(f"{count:,} {name}" for name, count in class_counts.items())
            raise DataError(f"the split {split!r}: expected jets of {wanted[0]!r} and of {wanted[1]!r}, found {found}")

    def evaluator(self) -> TaggingEvaluator:
        return TaggingEvaluator(self)

    def class_evaluator(self) -> TaggingEvaluator:
        """An evaluator that takes logits of the classes alone."""
        return self.evaluator()

    def combine(
        self, members: Sequence[Mapping[str, np.ndarray]], how: str
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics and arrays of the mean or median probability of each class; see `combine_probabilities`."""
        first, evaluator = members[0], self.class_evaluator()
        probability = combine_probabilities([arrays["probability"] for arrays in members], how)
        weight = torch.from_numpy(first["weight"]) if "weight" in first else None
        batch = Batch({}, {}, {"label": torch.from_numpy(first["label"])}, weight, torch.from_numpy(first["rows"]))
        evaluator.update(torch.from_numpy(probability).clamp(min=_LEAST).log(), batch)
        return evaluator.compute(lambda array: array), evaluator.arrays()

    def combine_predictions(self, members: Sequence[Mapping[str, np.ndarray]], how: str) -> dict[str, np.ndarray]:
        """The mean or median probability of each class."""
        names = [f"score_{name}" for name in self.classes]
        columns = [np.stack([member[name] for name in names], axis=1) for member in members]
        return dict(zip(names, combine_probabilities(columns, how).T, strict=True))

    @classmethod
    def metrics_of(cls, config: TaggingConfig) -> tuple[str, ...]:
        names = ["loss", "accuracy", "auc"]
        for efficiency in config.efficiencies:
            names += [f"rejection_at_{efficiency:g}", f"rejection_at_{efficiency:g}_error"]
        return (*names, *(f"{SYSTEMATIC}{efficiency:g}" for efficiency in config.systematic_efficiencies))

    def figures(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Figure]:
        from jetsweep.tasks._tagging_figures import roc_figure, score_figure

        signal, background = self.classes[self.signal], self.classes[self.background]
        score = signal_score(arrays["probability"], self.signal, self.background)
        return {
            "roc": roc_figure({f"{signal} vs {background}": self._roc(arrays)}),
            "score": score_figure(score, arrays["label"], self.classes, arrays.get("weight"), signal=signal),
        }

    def comparison_figures(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Figure]:
        from jetsweep.tasks._tagging_figures import roc_figure

        return {"roc-comparison": roc_figure({label: self._roc(of_model) for label, of_model in arrays.items()})}

    def report_sections(self, results: SplitResults) -> list[Section]:
        from jetsweep.tasks._report import Part, Section
        from jetsweep.tasks._tagging_figures import roc_figure

        shown = {results.label: results.best} | dict(results.compared)
        figures = self.figures(results.best)
        parts = (
            Part(
                "roc",
                "Background rejection against signal efficiency; bands: binomial error.",
                roc_figure({label: self._roc(arrays) for label, arrays in shown.items()}),
            ),
            Part("rejections", "Binomial errors; εS is the signal efficiency.", table=self._rejections(shown)),
            Part("score", f"Distribution of the discriminant of {results.label}.", figures["score"]),
        )
        signal, background = self.classes[self.signal], self.classes[self.background]
        return [Section("Tagging", parts, f"{signal} against {background}, {results.split} split.")]

    def _rejections(self, shown: Mapping[str, Mapping[str, np.ndarray]]) -> Table:
        from jetsweep.tasks._report import Table

        names = [f"1/εB at εS = {efficiency:g}" for efficiency in self.config.efficiencies]
        rows: list[tuple[Cell, ...]] = []
        for label, arrays in shown.items():
            roc = self._roc(arrays)
            found = [metric.background_rejection(roc, efficiency)[:2] for efficiency in self.config.efficiencies]
            rows.append((label, roc.area, *(x for pair in found for x in pair)))
        columns = [x for name in names for x in (name, f"{name}_error")]
        return Table(("trial", "AUC", *columns), tuple(rows))

    def _roc(self, arrays: Mapping[str, np.ndarray]) -> metric.RocCurve:
        """Signal against background; jets of further classes are left out."""
        label, weight = arrays["label"], arrays.get("weight")
        score = signal_score(arrays["probability"], self.signal, self.background)
        pair = (label == self.signal) | (label == self.background)
        return metric.roc_curve(score[pair], label[pair] == self.signal, None if weight is None else weight[pair])

    def probability(self, logits: Tensor) -> Tensor:
        """Class probabilities of logits (B, C) in the order of `classes`, shape (B, K), float64."""
        if logits.shape[1] > 1:
            return logits.double().softmax(dim=1)
        p_signal = logits[:, 0].double().sigmoid()
        p_other = (-logits[:, 0].double()).sigmoid()
        return torch.stack([p_other, p_signal] if self.signal == 1 else [p_signal, p_other], dim=1)

    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        probability = self.probability(outputs.float())
        return {f"score_{name}": probability[:, i] for i, name in enumerate(self.classes)}


class TaggingEvaluator(Evaluator):
    """Keeps probabilities and labels of a whole split; metrics see every jet once."""

    def __init__(self, task: Tagging) -> None:
        self.task = task
        self._columns: dict[str, list[np.ndarray]] = {}
        self._gathered: dict[str, np.ndarray] = {}

    def update(self, outputs: Tensor, batch: Batch) -> None:
        logits, label = outputs.detach().float(), batch.targets["label"]
        per_jet = cross_entropy_per_jet(logits, self.task.orient(label, logits), self.task.config.label_smoothing)
        loss_weight = self.task.loss_weight(batch)
        columns = {
            "rows": batch.rows,
            "probability": self.task.probability(logits),
            "label": label,
            "loss": per_jet if loss_weight is None else per_jet * loss_weight,
        }
        if batch.weight is not None and self.task.config.use_weights:
            columns["weight"] = batch.weight
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column.cpu().numpy())

    def compute(self, gather: Gather) -> dict[str, float]:
        columns = {name: gather(np.concatenate(parts)) for name, parts in self._columns.items()}
        order = np.argsort(columns["rows"], kind="stable")
        self._gathered = {name: column[order] for name, column in columns.items()}
        probability, label, weight = (
            self._gathered["probability"],
            self._gathered["label"],
            self._gathered.get("weight"),
        )
        if not np.isfinite(probability).all():
            return dict.fromkeys(self.task.metric_names(), float("nan"))
        task = self.task
        pair = (label == task.signal) | (label == task.background)
        pair_weight = None if weight is None else weight[pair]
        score = signal_score(probability[pair], task.signal, task.background)
        if not 0 < (label[pair] == task.signal).sum() < pair.sum():
            found = sorted({task.classes[i] for i in np.unique(label)})
            raise DataError(
                f"tagging metrics need jets of {task.classes[task.signal]!r} and {task.classes[task.background]!r} "
                f"in the split, found only {found}; make the dataset with more jets or another split"
            )
        roc = metric.roc_curve(score, label[pair] == task.signal, pair_weight)
        values = {
            "loss": float(self._gathered["loss"].mean()),
            "accuracy": metric.accuracy(probability.argmax(axis=1), label, weight),
            "auc": roc.area if len(task.classes) == 2 else metric.one_vs_one_auc(probability, label, weight),
        }
        for efficiency in task.config.efficiencies:
            rejection, error, _ = metric.background_rejection(roc, efficiency)
            values[f"rejection_at_{efficiency:g}"] = rejection
            values[f"rejection_at_{efficiency:g}_error"] = error
        return values

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(self._gathered)


TASKS.add("tagging")(TaskEntry(TaggingConfig, Tagging))
