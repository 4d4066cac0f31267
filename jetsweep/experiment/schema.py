"""The whole experiment: one trial's settings, the search over them, and where results are kept."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from jetsweep.tasks._base import TASKS
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


class BudgetConfig(_Settings):
    """What a sweep may take, over all its resumptions; then it stops as with Ctrl-C."""

    hours: PositiveFloat | None = Field(None, description="Hours on the clock.")
    worker_hours: PositiveFloat | None = Field(None, description="Hours of all workers of all trials together.")


class TerminatorConfig(_Settings):
    """When a sweep has found what it can find: then no further trial begins."""

    patience: PositiveInt = Field(description="Complete trials in a row without a better one.")
    min_gain: NonNegativeFloat = Field(0.0, description="What counts as better: a gain of more than this.")


class PbtConfig(_Settings):
    """Population-based training: weak trials go on from strong ones, with settings near theirs."""

    interval: PositiveInt = Field(2, description="Epochs between two comparisons of the trials.")
    quantile: float = Field(0.25, gt=0.0, le=0.5, description="Share of trials that count as weak, and as strong.")
    resample: float = Field(0.25, ge=0.0, le=1.0, description="Probability that a leaf is drawn anew.")


class SearchConfig(_Settings):
    """How the sweep proposes and stops trials."""

    trials: PositiveInt = Field(1, description="Number of trials.")
    sampler: Literal["tpe", "random", "gp", "cmaes", "nsga2", "grid", "qmc"] = Field(
        "tpe", description="How parameters are proposed."
    )
    scheduler: Literal["asha", "hyperband", "median", "pbt", "none"] = Field(
        "asha", description="How weak trials are stopped early; none where there are several objectives."
    )
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
    reduction_factor: int = Field(3, ge=2, description="ASHA and HyperBand keep one in so many trials at each rung.")
    pbt: PbtConfig = Field(PbtConfig(), description="How population-based training changes trials; scheduler pbt.")
    budget: BudgetConfig = Field(BudgetConfig(), description="What the sweep may take; it can be resumed with more.")
    terminator: TerminatorConfig | None = Field(None, description="End the sweep when it finds no better trials.")
    deterministic: bool = Field(
        False,
        description="Propose trials in generations, so that a sweep that was interrupted gives exactly the trials of "
        "one that was not; a scheduler then needs resources.concurrent_trials: 1.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fitting_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        several, pbt = len(values.get("objectives", ())) > 1, values.get("scheduler") == "pbt"
        # what PBT ends with is not what was drawn, so nothing can be learned from it about what to draw
        return {**({"scheduler": "none"} if several else {}), **({"sampler": "random"} if pbt else {}), **values}

    @model_validator(mode="after")
    def _is_possible(self) -> SearchConfig:
        if len(self.objectives) > 1 and self.scheduler != "none":
            raise ValueError(f"scheduler: expected none with several objectives, found {self.scheduler}")
        if len(self.objectives) > 1 and self.terminator is not None:
            raise ValueError("terminator: expected a single objective, found several")
        if self.scheduler == "pbt" and self.sampler not in ("random", "qmc", "grid"):
            raise ValueError(
                "sampler: expected one that does not learn (random, qmc, grid) beside pbt, which changes settings "
                f"while trials train, found {self.sampler}"
            )
        if self.deterministic and self.budget != BudgetConfig():
            raise ValueError("deterministic: expected no budget of hours beside it, which no two runs spend alike")
        return self


class TrackingConfig(_Settings):
    """Where runs are kept."""

    experiment: str | None = Field(
        None, description="MLflow experiment; the name of the file's experiment if not given."
    )
    uri: str | None = Field(None, description="MLflow tracking URI; a SQLite file beside the sweeps if not given.")


def _measures_systematics(task: Any) -> bool:
    return task in TASKS.names() and "systematic_efficiencies" in TASKS.get(task).config.model_fields


class Experiment(TrialSpec):
    """An experiment without distributions: what one trial runs, and the sweep it belongs to."""

    search: SearchConfig = Field(SearchConfig(), description="How trials are proposed and stopped.")
    tracking: TrackingConfig = Field(TrackingConfig(), description="Where runs are kept.")

    @model_validator(mode="before")
    @classmethod
    def _measured_on_request(cls, values: Any) -> Any:
        """A systematic uncertainty that the search or the monitor names is measured by the task."""
        if not isinstance(values, dict):
            return values
        task, named = values.get("task"), str([values.get("search"), values.get("training")])
        task = {"name": task} if isinstance(task, str) else task
        wanted = {float(x) for x in re.findall(r"val/systematic_uncertainty_at_(0?\.\d+)", named)}
        if not wanted or not isinstance(task, dict) or not _measures_systematics(task.get("name")):
            return values
        asked = task.get("systematic_efficiencies", ())
        if not isinstance(asked, (list, tuple)):
            return values
        return {**values, "task": {**task, "systematic_efficiencies": [*asked, *sorted(wanted - set(asked))]}}

    @model_validator(mode="after")
    def _is_repeatable(self) -> Experiment:
        search, at_once = self.search, self.resources.concurrent_trials
        if search.deterministic and search.scheduler != "none" and at_once != 1:
            raise ValueError(
                "resources.concurrent_trials: expected 1, since search.deterministic with scheduler "
                f"{search.scheduler} judges trials in the order in which they end, found {at_once}"
            )
        return self

    def trial_spec(self) -> TrialSpec:
        """The part that determines a trial."""
        return TrialSpec.model_validate(self.model_dump(mode="json", include=set(TrialSpec.model_fields)))
