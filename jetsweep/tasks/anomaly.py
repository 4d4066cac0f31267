"""Anomalous jets: an auto-encoder learns the background, and what it reproduces badly is anomalous (arXiv:2007.01850);
or a model learns the background's density, and what is improbable is anomalous.

Labels choose which jets are trained on and group the jets of metrics; they enter neither the loss nor the scaling, and
early stopping and the choice of models only for signals in `select_on`.
"""

# Shapes: B jets of a batch, J jets of a split, L latents.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from jetsweep.data.batch import Batch
from jetsweep.data.selection import Selection
from jetsweep.errors import DataError, JetsweepError
from jetsweep.losses.annealing import AnnealingConfig, annealing_weight
from jetsweep.losses.disco import distance_correlation
from jetsweep.losses.kl import kl_per_jet, kl_per_latent
from jetsweep.losses.outlier_exposure import ExposureKind, outlier_exposure
from jetsweep.losses.reconstruction import reconstruction_error
from jetsweep.models._density import Density
from jetsweep.tasks._anomaly_config import AnomalyConfig, ExposureConfig, KLConfig
from jetsweep.tasks._anomaly_evaluator import AnomalyEvaluator, metric_names
from jetsweep.tasks._anomaly_jets import MIN_JETS, SCORE, AnomalyJets
from jetsweep.tasks._anomaly_scores import SCORES, total_loss
from jetsweep.tasks._base import TASKS, Stream, Task, TaskEntry

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from jetsweep.tasks._report import Section, SplitResults

OUTLIERS = "outliers"
"""Name of the second stream."""


class Anomaly(Task):
    """Learn the background alone, score every jet.

    Parameters
    ----------
    config : AnomalyConfig
    classes : sequence of str
        The dataset's class names in label order.

    Raises
    ------
    JetsweepError
        If a setting names a class that the dataset lacks.
    """

    combinations: ClassVar[tuple[str, ...]] = ("mean", "median", "std")
    config: AnomalyConfig

    def __init__(self, config: AnomalyConfig, classes: Sequence[str]) -> None:
        self.config, self.classes = config, tuple(classes)
        self.kl = config.kl or KLConfig()
        exposed = config.exposure.classes if config.exposure and config.exposure.dataset == "main" else ()
        for key, names in {
            "background": config.background,
            "contamination": tuple(config.contamination),
            "select_on": config.select_on,
            "report_on": config.report_on or (),
            "exposure.classes": exposed,
        }.items():
            for name in names:
                if name not in self.classes:
                    raise JetsweepError(
                        f"task.{key}: expected classes of the dataset {list(self.classes)}, found {name!r}"
                    )
        taken = {*config.background, *config.contamination, *config.select_on, *exposed}
        others = tuple(name for name in self.classes if name not in taken)
        self.reported = others if config.report_on is None else config.report_on
        self.scalars = ("jet_mass", "jet_pt")
        self.streams = ("main", OUTLIERS) if config.exposure is not None else ("main",)

    def stream(self, name: str) -> Stream:
        if name == "main":
            return Stream(selection=Selection(self.config.background, tuple(self.config.contamination.items())))
        exposure = self._exposure
        return Stream(
            selection=Selection(exposure.classes),
            ratio=exposure.ratio,
            pairing=exposure.pairing,
            reweight=exposure.reweight,
            dataset=exposure.dataset,
        )

    @property
    def _exposure(self) -> ExposureConfig:
        assert self.config.exposure is not None
        return self.config.exposure

    def num_outputs(self, binary_output: str) -> int:
        return 0

    def weight(self, annealing: AnnealingConfig) -> float:
        """Factor of a term at this moment; published tables hold for whole epochs."""
        return annealing_weight(annealing, int(self.epoch) if annealing.name == "published" else self.epoch)

    def loss_per_jet(self, outputs: Any) -> Tensor:
        """Reconstruction error plus the annealed divergence, or what a density lowers, shape (B,)."""
        if isinstance(outputs, Density):
            return outputs.loss
        kl = self.kl
        error_B: Tensor = outputs.training_error
        if outputs.log_variance is None:
            return error_B
        divergence_B = kl_per_jet(outputs.mean, outputs.log_variance, kl.convention, kl.free_bits)
        return error_B + kl.beta * self.weight(kl.annealing) * divergence_B

    def jet_weight(self, batch: Batch) -> Tensor | None:
        """Per-jet weight, None where all are 1."""
        return batch.weight if self.config.use_weights else None

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        per_jet_B, weight_B = self.loss_per_jet(outputs), self.jet_weight(batch)
        total = _mean(per_jet_B, weight_B)
        parts = {name: _mean(part_B, weight_B) for name, part_B in self._parts(outputs).items()}
        if "latent_nll" in parts:  # of parameters of its own, so that its size does not matter to the others
            total = total + parts["latent_nll"]
        if self.config.disco is not None:
            disco, mass_B = self.config.disco, batch.scalars["jet_mass"]
            decorrelated_B = self._decorrelated(disco.of, outputs)
            parts["disco"] = distance_correlation(decorrelated_B, mass_B, weight_B, disco.power)
            total = total + disco.weight * self.weight(disco.annealing) * parts["disco"]
        return total, {"loss": total.detach(), **{name: part.detach() for name, part in parts.items()}}

    def _parts(self, outputs: Any) -> dict[str, Tensor]:
        """Terms of the loss before their weights, each of shape (B,)."""
        if isinstance(outputs, Density):
            parts = {"energy": outputs.energy, "sample_energy": outputs.sample_energy}
        else:
            parts = {"reconstruction": outputs.training_error, "latent_nll": outputs.latent_nll}
            if outputs.log_variance is not None:
                parts["kl"] = kl_per_jet(outputs.mean, outputs.log_variance, self.kl.convention)
        return {name: part_B for name, part_B in parts.items() if part_B is not None}

    def _decorrelated(self, of: str, outputs: Any) -> Tensor:
        """What shall not tell the mass, shape (B,)."""
        if isinstance(outputs, Density):
            return outputs.energy
        match of:
            case "loss":
                return self.loss_per_jet(outputs)
            case "reconstruction":
                error_B: Tensor = outputs.training_error
                return error_B
            case _:
                return total_loss(outputs._replace(error=outputs.error_of_mean), self.kl)

    def training_loss(
        self, phase: str, module: nn.Module, batches: Mapping[str, Batch]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = module(batches["main"])
        total, parts = self.loss(outputs, batches["main"])
        if self.config.exposure is None:
            return total, parts
        term = self.exposure(outputs, module(batches[OUTLIERS]), batches[OUTLIERS])
        exposure = self.config.exposure
        total = total + exposure.weight * self.weight(exposure.annealing) * term
        return total, {**parts, "loss": total.detach(), "exposure": term.detach()}

    def exposure(self, background: Any, outliers: Any, batch: Batch) -> Tensor:
        """Outlier exposure of a batch of outliers; what ranks and micro-batches add up to is that of the whole batch.

        Parameters
        ----------
        background, outliers : Reconstruction or Density
        batch : Batch
            The outliers; ``targets["pair"]`` names the row of the background jet of each. Without it they are spread
            evenly over the background.
        """
        config = self._exposure
        background_B, outliers_R = (_compared(config.kind, outputs) for outputs in (background, outliers))
        num_background = len(background_B)
        if not len(batch):  # a rank whose share of few outliers is none
            nothing: Tensor = 0.0 * outliers_R.sum()
            return nothing
        pair_R = batch.targets.get("pair")
        if pair_R is None:
            pair_R = torch.arange(len(batch), device=outliers_R.device) * num_background // len(batch)
        term = outlier_exposure(
            config.kind, background_B.index_select(0, pair_R), outliers_R, config.margin or 1.0, self.jet_weight(batch)
        )
        return term * len(batch) / (config.ratio * num_background)

    def evaluator(self) -> AnomalyEvaluator:
        return AnomalyEvaluator(self)

    def combine(
        self, members: Sequence[Mapping[str, np.ndarray]], how: str
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics and arrays of the mean, median or standard deviation of each score of this task over the models.

        Scores of two models have different scales, so each is standardised first on the background of these jets
        (`jetsweep.metrics.ensembles.standardise`). Metrics are those of scores; an ensemble has no loss.
        """
        return AnomalyEvaluator(self).combine(members, how)

    def combine_predictions(self, members: Sequence[Mapping[str, np.ndarray]], how: str) -> dict[str, np.ndarray]:
        raise JetsweepError(
            "task anomaly: scores of several models are combined on the scale of a split's background, and predict "
            "looks at no label; use jetsweep evaluate --ensemble, whose SPLIT.npz holds the combined scores"
        )

    @classmethod
    def metrics_of(cls, config: AnomalyConfig) -> tuple[str, ...]:
        return metric_names(config)

    def check_split(self, split: str, num_jets: int, class_counts: Mapping[str, int]) -> None:
        super().check_split(split, num_jets, class_counts)
        num_background = sum(class_counts.get(name, 0) for name in self.config.background)
        wanted = ", ".join(self.config.background)
        if num_background == 0:
            raise DataError(f"the split {split!r} has no jets of the background ({wanted}), expected at least one")
        if split == "train":
            return
        smallest = min(self.config.background_efficiencies)
        least = max(self.config.min_background, round(MIN_JETS / smallest))
        if num_background < least:
            raise DataError(
                f"the split {split!r} has {num_background} background jets ({wanted}): expected at least {least} for a "
                f"cut at the background efficiency {smallest:g} and min_background: {self.config.min_background}"
            )
        for name in self.config.select_on:
            if not class_counts.get(name, 0):
                raise DataError(f"the split {split!r} has no jets of {name!r}, which task.select_on names")

    def jets(self, arrays: Mapping[str, np.ndarray]) -> AnomalyJets:
        """The evaluator's arrays with the roles of this task's classes."""
        signals = (*self.config.select_on, *self.reported)
        return AnomalyJets.of(arrays, self.classes, self.config.background, signals, self.config.main_score)

    def figures(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Figure]:
        from jetsweep.tasks._anomaly_figures import anomaly_figures

        return anomaly_figures(self.jets(arrays))

    def report_sections(self, results: SplitResults) -> list[Section]:
        from jetsweep.tasks._anomaly_report import anomaly_sections

        return anomaly_sections(results, self.jets)

    def prediction_names(self, binary_output: str) -> tuple[str, ...]:
        return tuple(f"{SCORE}{name}" for name in self.config.scores)

    def predictions(self, outputs: Any) -> dict[str, Tensor]:
        return {f"{SCORE}{name}": SCORES[name].of(outputs, self.kl) for name in self.config.scores}

    def validation_loss(self, outputs: Any) -> Tensor:
        """What `val/loss` is the mean of, shape (B,): no annealing, no free bits, no penalty."""
        return total_loss(outputs, self.kl)


def _compared(kind: ExposureKind, outputs: Any) -> Tensor:
    """What outliers shall have more of than the background, shape (B,), or (B, L) of latents."""
    measure = kind.split("-")[0]
    match measure:
        case "energy":
            energy_B: Tensor = outputs.energy
            return energy_B
        case "kl":
            return kl_per_latent(outputs.mean, outputs.log_variance)
        case _:
            return reconstruction_error(outputs.target, outputs.output, outputs.mask, measure)  # type: ignore[arg-type]


def _mean(x_B: Tensor, weight_B: Tensor | None) -> Tensor:
    return x_B.mean() if weight_B is None else (weight_B * x_B).mean()


TASKS.add("anomaly")(TaskEntry(AnomalyConfig, Anomaly))
