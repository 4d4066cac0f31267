"""The whole experiment: one trial's settings, the search over them, and where results are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from jetsweep.training.config import TrialSpec


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Settings):
    """A metric to make small or large."""

    metric: str = Field("val/auc", description="Reported metric, e.g. val/auc or val/rejection_at_0.5.")
    mode: Literal["min", "max"] = Field("max", description="Whether smaller or larger is better.")


class SearchConfig(_Settings):
    """How the sweep proposes and stops trials."""

    trials: PositiveInt = Field(1, description="Number of trials.")
    sampler: Literal["tpe", "random", "gp", "cmaes", "nsga2", "grid", "qmc"] = Field(
        "tpe", description="How parameters are proposed."
    )
    scheduler: Literal["asha", "median", "none"] = Field("asha", description="How weak trials are stopped early.")
    objectives: tuple[Objective, ...] = Field((Objective(),), min_length=1, description="What is optimised.")
    seed: NonNegativeInt = Field(0, description="Seed of the sampler.")
    grace_epochs: PositiveInt = Field(1, description="Epochs that every trial gets before it may be stopped.")
    reduction_factor: int = Field(3, ge=2, description="ASHA keeps one in so many trials at each rung.")
    brackets: PositiveInt = Field(1, description="Brackets of asynchronous HyperBand; 1 is plain ASHA.")


class TrackingConfig(_Settings):
    """Where runs are kept."""

    experiment: str | None = Field(
        None, description="MLflow experiment; the name of the file's experiment if not given."
    )
    uri: str | None = Field(None, description="MLflow tracking URI; a SQLite file beside the sweeps if not given.")


class Experiment(TrialSpec):
    """An experiment without distributions: what one trial runs, and the sweep it belongs to."""

    search: SearchConfig = Field(SearchConfig(), description="How trials are proposed and stopped.")
    tracking: TrackingConfig = Field(TrackingConfig(), description="Where runs are kept.")

    def trial_spec(self) -> TrialSpec:
        """The part that determines a trial."""
        return TrialSpec.model_validate(self.model_dump(mode="json", include=set(TrialSpec.model_fields)))
