"""Settings of the task `anomaly`: what is background, the terms of the loss, what is measured on which signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from jetsweep.data.pairing import PairingConfig
from jetsweep.data.reweight import ReweightConfig
from jetsweep.losses.annealing import AnnealingConfig, ConstantAnnealing
from jetsweep.losses.kl import KLConvention
from jetsweep.losses.outlier_exposure import ExposureKind
from jetsweep.tasks._anomaly_jets import DECORRELATED, OF_AUTOENCODERS
from jetsweep.tasks._anomaly_scores import check_scores
from jetsweep.tasks._base import TaskConfig

if TYPE_CHECKING:
    from jetsweep.metrics import MassJsd

ScoreName = Literal[
    "loss",
    "reconstruction",
    "kl",
    "mse",
    "mae",
    "mu2",
    "mu2_over_sigma2",
    "negative_elbo",
    "iwae",
    "emd",
    "latent_density",
    "negative_log_density",
    "energy",
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KLConfig(_Settings):
    """The divergence of the posterior from the prior in the loss."""

    beta: NonNegativeFloat = Field(0.1, description="Weight of the term.")
    convention: KLConvention = Field("mean", description="Over the latents: mean as in VAE-Jet, or the textbook's sum.")
    free_bits: NonNegativeFloat = Field(0.0, description="Nat per latent that cost nothing (arXiv:1606.04934).")
    annealing: AnnealingConfig = Field(ConstantAnnealing(), description="Course of the weight over epochs.")


class DiscoConfig(_Settings):
    """Distance correlation of each jet's loss with its mass (DisCo-VAE, arXiv:2001.05310, arXiv:2007.01850)."""

    weight: NonNegativeFloat = Field(100.0, description="Weight of the term (lambda).")
    power: PositiveFloat = Field(1.0, description="1: the square of the usual distance correlation; else that to it.")
    of: Literal["loss", "reconstruction", "score"] = Field(
        "loss",
        description="What is decorrelated from the mass: the annealed loss with its latent noise, as published, its "
        "reconstruction error, or the loss without noise and annealing, which jets are scored by; of a density model "
        "its energy, -ln p.",
    )
    annealing: AnnealingConfig = Field(ConstantAnnealing(), description="Course of the weight over epochs.")


class ExposureConfig(_Settings):
    """Jets of other classes that shall be unlike the background (OE-VAE, arXiv:1812.04606, arXiv:2007.01850)."""

    classes: tuple[str, ...] = Field(min_length=1, description="Classes that are outliers.")
    dataset: Literal["main", "outliers"] = Field("main", description="Of the dataset itself, or of data.outliers.")
    kind: ExposureKind = Field(
        "mse-margin", description="What is compared, and how; energy, -ln p, of density models alone."
    )
    weight: NonNegativeFloat = Field(2.0, description="Weight of the term (lambda).")
    margin: PositiveFloat | None = Field(
        None, description="Lead beyond which there is nothing to gain; 1 if not given. Of the margin kinds alone."
    )
    ratio: PositiveFloat = Field(1.0, description="Outliers for each background jet of a batch.")
    pairing: PairingConfig | None = Field(None, description="Draw outliers alike in mass (or mass and pT).")
    reweight: ReweightConfig | None = Field(None, description="Of outliers, e.g. to the background's mass spectrum.")
    annealing: AnnealingConfig = Field(ConstantAnnealing(), description="Course of the weight over epochs.")

    @model_validator(mode="after")
    def _margin_has_a_hinge(self) -> ExposureConfig:
        if self.margin is not None and not self.kind.endswith("-margin"):
            raise ValueError(f"margin: expected none beside kind: {self.kind}, which has no margin")
        if self.pairing is not None and self.reweight is not None:
            raise ValueError(
                "expected pairing or reweight, found both: partners have the background's spectrum already"
            )
        return self


class MassJsdConfig(_Settings):
    """Conventions of the Jensen-Shannon divergence between mass spectra before and after a cut."""

    bins: PositiveInt = Field(50, description="Bins of equal width.")
    low: NonNegativeFloat = Field(0.0, description="Lower end, GeV.")
    high: PositiveFloat = Field(500.0, description="Upper end, GeV.")
    base: Literal["2", "e"] = Field("2", description="Base of the logarithm.")
    reference: Literal["all", "failed"] = Field("all", description="Compared with all jets, or those that fail.")

    @model_validator(mode="after")
    def _ascends(self) -> MassJsdConfig:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, found {self.low:g} and {self.high:g}")
        return self

    def measure(self) -> MassJsd:
        """The measure with these conventions."""
        from jetsweep.metrics import MassJsd

        return MassJsd(self.bins, self.low, self.high, self.base, False, self.reference)


class AnomalyConfig(TaskConfig):
    """Settings of the task `anomaly`."""

    outputs: ClassVar[tuple[str, ...]] = ("reconstruction", "density")

    name: Literal["anomaly"] = "anomaly"
    background: tuple[str, ...] = Field(min_length=1, description="Classes that are trained on, e.g. [qcd].")
    contamination: dict[str, NonNegativeFloat] = Field(
        {}, description="Signal over background, by class, of jets mixed into the training background."
    )
    kl: KLConfig | None = Field(
        None, description="KL term of a VAE, by default with beta: 0.1; other networks have none."
    )
    disco: DiscoConfig | None = Field(None, description="Decorrelation from the mass; none if not given.")
    exposure: ExposureConfig | None = Field(None, description="Outlier exposure; none if not given.")
    use_weights: bool = Field(True, description="Weigh jets in the loss and in the metrics as the dataset does.")
    scores: tuple[ScoreName, ...] = Field(
        ("loss", "reconstruction", "kl"), min_length=1, description="Scores of every jet; larger is more anomalous."
    )
    main_score: str = Field(
        "loss",
        description="The score that is measured, by default loss, or the first of scores that lack it; with _cdf its "
        "quantile among background of the same mass.",
    )
    select_on: tuple[str, ...] = Field(
        (), description="Signals that may be used for choosing: metrics for objectives and the best epoch."
    )
    report_on: tuple[str, ...] | None = Field(
        None, description="Signals that are only reported; if not given all that are neither above nor trained on."
    )
    background_efficiencies: tuple[float, ...] = Field(
        (0.1,), min_length=1, description="Background efficiencies at which mass sculpting is measured."
    )
    min_background: PositiveInt = Field(100, description="Background jets that a cut must leave for its SIC to count.")
    mass_jsd: MassJsdConfig = Field(MassJsdConfig(), description="Conventions of the mass JSD.")

    @model_validator(mode="after")
    def _roles_are_disjoint(self) -> AnomalyConfig:
        roles = {"background": self.background, "select_on": self.select_on, "report_on": self.report_on or ()}
        seen: dict[str, str] = {}
        for role, names in roles.items():
            for name in names:
                if name in seen:
                    again = "twice" if seen[name] == role else f"in {seen[name]} too"
                    why = "; what is used for choosing cannot measure the choice" if role == "report_on" else ""
                    raise ValueError(f"{role}: expected each class in one place, found {name!r} {again}{why}")
                seen[name] = role
        if self.exposure is not None and self.exposure.dataset == "main":
            trained = sorted(set(self.exposure.classes) & {*self.background, *self.contamination})
            if trained:
                raise ValueError(f"exposure.classes: expected other classes than the background, found {trained[0]!r}")
        both = sorted(set(self.contamination) & set(self.background))
        if both:
            raise ValueError(f"contamination: expected other classes than the background, found {both[0]!r}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _first_score_is_main(cls, values: Any) -> Any:
        scores = values.get("scores") if isinstance(values, dict) else None
        if isinstance(scores, (list, tuple)) and scores and "loss" not in scores and "main_score" not in values:
            return {**values, "main_score": scores[0]}
        return values

    @model_validator(mode="after")
    def _scores_are_known(self) -> AnomalyConfig:
        if self.main_score.removesuffix(DECORRELATED) not in self.scores:
            known = ", ".join(self.scores)
            raise ValueError(
                f"main_score: expected one of scores ({known}), or that with _cdf; found {self.main_score!r}"
            )
        for value in self.background_efficiencies:
            if not 0.0 < value < 1.0:
                raise ValueError(f"background_efficiencies: expected numbers inside (0, 1), found {value:g}")
        return self

    def check_trial(self, spec: Any) -> None:
        """Refuse a network without what the loss or a score needs.

        Raises
        ------
        ValueError
        """
        super().check_trial(spec)
        model, training = spec.model, spec.training
        if model.outputs == "density":
            self._check_density(spec)
        else:
            self._check_autoencoder(model)
        check_scores(self.scores, model)
        if self.disco is not None and (training.accumulate > 1 or training.on_out_of_memory == "halve"):
            raise ValueError(
                "training.accumulate: expected 1 and on_out_of_memory: fail beside task.disco, since the correlation "
                "is that of the whole batch"
            )

    def _check_autoencoder(self, model: Any) -> None:
        if self.kl is not None and self.kl.beta and not model.variational:
            raise ValueError(
                "task.kl.beta: expected 0 beside model.variational: false, which has no posterior; found "
                f"{self.kl.beta:g}"
            )
        if self.exposure is not None:
            kind = self.exposure.kind
            if kind.startswith("energy"):
                raise ValueError(f"task.exposure.kind: {kind} needs a density model, found {model.name}")
            if kind.startswith("kl") and not model.variational:
                raise ValueError("task.exposure.kind: kl-margin needs model.variational: true, found false")
            if kind.startswith(("mse", "mae")) and not model.has_order:
                raise ValueError(
                    f"task.exposure.kind: {kind} compares slot by slot, found model.reconstruction: "
                    f"{model.reconstruction}, whose output has no order; use kl-margin"
                )
        if self.disco is not None and self.disco.of == "score" and not model.decode_mean:
            raise ValueError("task.disco.of: score needs model.decode_mean: true, found false")

    def _check_density(self, spec: Any) -> None:
        name = spec.model.name
        if self.kl is not None and self.kl.beta:
            raise ValueError(
                f"task.kl.beta: expected no task.kl beside model {name}, which has no posterior; found {self.kl.beta:g}"
            )
        if self.exposure is not None and not self.exposure.kind.startswith("energy"):
            raise ValueError(
                f"task.exposure.kind: expected energy-margin or energy-sigmoid beside model {name}, which reconstructs "
                f"nothing; found {self.exposure.kind}"
            )
        if self.disco is not None and self.disco.of == "reconstruction":
            raise ValueError(
                f"task.disco.of: expected loss or score beside model {name}, which reconstructs nothing; "
                "found reconstruction"
            )
        objectives = getattr(spec, "search", None)
        named = {"training.monitor.metric": spec.training.monitor.metric}
        named |= {
            f"search.objectives.{i}.metric": objective.metric
            for i, objective in enumerate(objectives.objectives if objectives else ())
        }
        for key, metric in named.items():
            if metric.removeprefix("val/") in OF_AUTOENCODERS:
                raise ValueError(f"{key}: {metric} is of auto-encoders alone, found model {name}")
