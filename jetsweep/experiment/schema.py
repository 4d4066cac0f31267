"""The whole experiment: one trial's settings, the search over them, and where results are kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

from jetsweep.training.config import TrialSpec


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Settings):
    """A metric to make small or large."""

    metric: str = Field("val/auc", description="Reported metric, e.g. val/auc or val/rejection_at_0.5.")
    mode: Literal["min", "max"] = Field("max", description="Whether smaller or larger is better.")


class StartConfig(_Settings):
    """What the search knows before its first trial."""

    points: tuple[dict[str, Any], ...] = Field(
        (),
        description="Trials to run first: values by leaf, e.g. {training.optimizer.lr: 1e-3, model: part}; "
        "leaves that a point does not name are proposed by the sampler.",
    )
    sweep: str | None = Field(
        None, description="Earlier sweep, a name or a folder, whose trials the sampler learns from; none is repeated."
    )
    trials: PositiveInt | None = Field(
        None, description="Take at most so many trials of that sweep, the best first; all if not given."
    )


class RepeatsConfig(_Settings):
    """After the sweep: the best configurations again with other seeds, because one run is no result."""

    seeds: PositiveInt = Field(5, description="Runs of each configuration, each with a seed of its own.")
    best: PositiveInt = Field(1, description="How many of the best configurations are run again.")


def _repeats(value: Any) -> Any:
    return {"seeds": value} if isinstance(value, int) and not isinstance(value, bool) else value


Repeats = Annotated[RepeatsConfig, BeforeValidator(_repeats, json_schema_input_type=PositiveInt | RepeatsConfig)]


class SearchConfig(_Settings):
    """How the sweep proposes and stops trials."""

    trials: PositiveInt = Field(1, description="Number of trials.")
    sampler: Literal["tpe", "random", "gp", "cmaes", "nsga2", "grid", "qmc"] = Field(
        "tpe", description="How parameters are proposed."
    )
    scheduler: Literal["asha", "median", "none"] = Field("asha", description="How weak trials are stopped early.")
    objectives: tuple[Objective, ...] = Field((Objective(),), min_length=1, description="What is optimised.")
    constraints: tuple[str, ...] = Field(
        (),
        description="Bounds on the outcome that a trial must meet to count as best: NAME < NUMBER with <, <=, > or >=; "
        "NAME is a metric such as val/auc, or parameters, train_seconds, inference_us_per_jet.",
        examples=[["parameters < 1e6", "val/loss < 0.5"]],
    )
    require: tuple[str, ...] = Field(
        (),
        description="Statements about the experiment that every draw must meet, e.g. "
        "model.embed_dims[-1] % model.num_heads == 0; where a branch lacks a key they are not applied.",
        examples=[["training.batch_size >= 2 * training.accumulate"]],
    )
    start: StartConfig = Field(StartConfig(), description="Points to begin with, and an earlier sweep to learn from.")
    repeats: Repeats | None = Field(
        None, description="Run the best configurations again with other seeds; a number is so many seeds of the best."
    )
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
