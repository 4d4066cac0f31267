"""Settings of one trial: how it trains, what it may use, and the whole of it as one document."""

from __future__ import annotations

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
    SerializeAsAny,
    model_validator,
)

from jetsweep.data.config import DataConfig
from jetsweep.models._base import MODELS, ModelConfig
from jetsweep.tasks._base import TASKS, TaskConfig


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _rate(default: float) -> Any:
    return Field(default, gt=0.0, description="Peak learning rate.")


def _decay(default: float) -> Any:
    return Field(default, ge=0.0, description="Weight decay; never applied to biases, norms and tokens.")


class AdamWConfig(_Settings):
    """AdamW (arXiv:1711.05101)."""

    name: Literal["adamw"] = "adamw"
    lr: float = _rate(1e-3)
    weight_decay: float = _decay(0.01)
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay rates of the two moments.")
    eps: PositiveFloat = Field(1e-8, description="Added to the denominator.")


class AdamConfig(_Settings):
    """Adam (arXiv:1412.6980); weight decay enters the gradient."""

    name: Literal["adam"] = "adam"
    lr: float = _rate(1e-3)
    weight_decay: float = _decay(0.0)
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay rates of the two moments.")
    eps: PositiveFloat = Field(1e-8, description="Added to the denominator.")


class SGDConfig(_Settings):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: float = _rate(1e-2)
    weight_decay: float = _decay(0.0)
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Momentum.")
    nesterov: bool = Field(False, description="Look ahead along the momentum.")


class RAdamConfig(_Settings):
    """Rectified Adam (arXiv:1908.03265), decoupled weight decay."""

    name: Literal["radam"] = "radam"
    lr: float = _rate(1e-3)
    weight_decay: float = _decay(0.0)
    betas: tuple[float, float] = Field((0.95, 0.999), description="Decay rates of the two moments.")
    eps: PositiveFloat = Field(1e-5, description="Added to the denominator.")


class RangerConfig(_Settings):
    """RAdam inside Lookahead (arXiv:1907.08610): the optimizer of the ParticleNet and ParT recipes."""

    name: Literal["ranger"] = "ranger"
    lr: float = _rate(1e-3)
    weight_decay: float = _decay(0.0)
    betas: tuple[float, float] = Field((0.95, 0.999), description="Decay rates of the two moments.")
    eps: PositiveFloat = Field(1e-5, description="Added to the denominator.")
    lookahead_steps: PositiveInt = Field(6, description="Steps between two updates of the slow weights.")
    lookahead_alpha: float = Field(0.5, gt=0.0, le=1.0, description="Share of the way the slow weights move.")


class MuonConfig(_Settings):
    """Muon (orthogonalised momentum) for matrices of the network, AdamW for all other parameters."""

    name: Literal["muon"] = "muon"
    lr: float = _rate(2e-2)
    weight_decay: float = _decay(0.01)
    momentum: float = Field(0.95, ge=0.0, lt=1.0, description="Momentum of the matrices.")
    adamw_lr: PositiveFloat = Field(1e-3, description="Peak learning rate of the parameters that AdamW updates.")


class LionConfig(_Settings):
    """Lion, the sign of an interpolated momentum (arXiv:2302.06675)."""

    name: Literal["lion"] = "lion"
    lr: float = _rate(1e-4)
    weight_decay: float = _decay(0.1)
    betas: tuple[float, float] = Field((0.9, 0.99), description="Interpolation of the update and of the momentum.")


OptimizerConfig = Annotated[
    AdamWConfig | AdamConfig | SGDConfig | RAdamConfig | RangerConfig | MuonConfig | LionConfig,
    Field(discriminator="name"),
]


class ConstantConfig(_Settings):
    """The learning rate stays at its peak, after an optional warm-up."""

    name: Literal["constant"] = "constant"
    warmup_epochs: NonNegativeFloat = Field(0.0, description="Epochs of linear rise from 0 to the peak.")


class CosineConfig(_Settings):
    """Linear warm-up, then half a cosine down to `final_factor` at the last step."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: NonNegativeFloat = Field(0.0, description="Epochs of linear rise from 0 to the peak.")
    final_factor: float = Field(0.0, ge=0.0, le=1.0, description="Last learning rate over the peak.")


class FlatDecayConfig(_Settings):
    """Flat, then one exponential step per epoch down to `final_factor`: the recipe of ParticleNet and ParT."""

    name: Literal["flat-decay"] = "flat-decay"
    decay_fraction: float = Field(0.3, ge=0.0, le=1.0, description="Share of the epochs, rounded down, that decay.")
    final_factor: float = Field(0.01, gt=0.0, le=1.0, description="Last learning rate over the peak.")


class OneCycleConfig(_Settings):
    """Up from `start_factor` to the peak, back, and down to `final_factor` (arXiv:1708.07120), in straight lines."""

    name: Literal["one-cycle"] = "one-cycle"
    rise_fraction: float = Field(0.4, gt=0.0, lt=1.0, description="Share of the steps that rise.")
    fall_fraction: float = Field(0.4, gt=0.0, lt=1.0, description="Share of the steps that fall back to the start.")
    start_factor: float = Field(0.1, gt=0.0, le=1.0, description="First learning rate over the peak.")
    final_factor: float = Field(1e-3, ge=0.0, le=1.0, description="Last learning rate over the peak.")

    @model_validator(mode="after")
    def _fits(self) -> OneCycleConfig:
        if self.rise_fraction + self.fall_fraction > 1.0:
            total = self.rise_fraction + self.fall_fraction
            raise ValueError(f"rise_fraction + fall_fraction must be at most 1, found {total:g}")
        return self


ScheduleConfig = Annotated[
    ConstantConfig | CosineConfig | FlatDecayConfig | OneCycleConfig,
    Field(discriminator="name"),
]


class MonitorConfig(_Settings):
    """The metric that decides which epoch is best, and when to stop early."""

    metric: str = Field(
        "val/loss", description="Name of a reported metric, e.g. val/auc; epoch with mode max keeps the last."
    )
    mode: Literal["min", "max"] = Field("min", description="Whether smaller or larger is better.")
    patience: PositiveInt | None = Field(None, description="Stop after this many epochs without improvement.")
    min_delta: NonNegativeFloat = Field(0.0, description="A smaller change does not count as an improvement.")


class InitConfig(_Settings):
    """Where the first weights of a trial come from."""

    path: str = Field(
        description="Trial's or checkpoint's folder, or a file of weights as the authors of ParT and ParticleNet "
        "publish them."
    )
    classes: dict[str, str | NonNegativeInt] = Field(
        {},
        description="Output of the earlier model, by class or number, that an output of this one begins as, e.g. "
        "{top: Tbqq}; by default those of the same class, if it has all of them.",
    )
    fresh: tuple[str, ...] = Field(
        (), description="Patterns of parameter names that begin with fresh weights all the same, e.g. network.head.*"
    )


def _init_config(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


InitFrom = Annotated[InitConfig, BeforeValidator(_init_config, json_schema_input_type=str | InitConfig)]


class TrainingConfig(_Settings):
    """How one trial trains."""

    epochs: PositiveInt = Field(10, description="Epochs to train.")
    steps_per_epoch: PositiveInt | None = Field(
        None, description="Optimizer steps that count as an epoch; one pass over the training jets if not given."
    )
    batch_size: PositiveInt = Field(256, description="Jets per optimizer step, over all workers and micro-batches.")
    eval_batch_size: PositiveInt = Field(1000, description="Jets per batch in evaluation, over all workers.")
    accumulate: PositiveInt = Field(1, description="Micro-batches that one optimizer step is split into.")
    optimizer: OptimizerConfig = Field(AdamWConfig(), description="Optimizer.")
    schedule: ScheduleConfig = Field(CosineConfig(warmup_epochs=0.5), description="Course of the learning rate.")
    init_from: InitFrom | None = Field(
        None, description="Fine-tuning: begin with the weights of another trial, or with published ones."
    )
    lr_factors: dict[str, NonNegativeFloat] = Field(
        {}, description="Factor on the learning rate by pattern of parameter names, e.g. network.head.*: 50; 0 freezes."
    )
    clip_grad_norm: PositiveFloat | None = Field(None, description="Largest norm of the gradient of a step.")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Arithmetic of forward and backward.")
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    ema_decay: float | None = Field(
        None, gt=0.0, lt=1.0, description="Evaluate and save an exponential moving average of the weights."
    )
    monitor: MonitorConfig = Field(MonitorConfig(), description="Which epoch is best; early stopping.")
    ensemble_epochs: PositiveInt = Field(
        1,
        description="Best epochs, by monitor, whose mean probability is the trained model's; all if there are fewer.",
    )
    snapshot_every: PositiveInt | None = Field(
        None, description="Keep the checkpoint of every so many epochs, as population-based training needs them."
    )
    checkpoint_every_steps: PositiveInt | None = Field(
        None, description="Write a resumable checkpoint inside epochs as well, every so many steps."
    )
    deterministic: bool = Field(False, description="Refuse operations whose result varies between runs on a GPU.")
    on_out_of_memory: Literal["fail", "halve"] = Field(
        "fail", description="Device memory exhausted: fail the trial, or go on with half the micro-batch."
    )

    @model_validator(mode="after")
    def _micro_batches_are_equal(self) -> TrainingConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} does not divide batch_size={self.batch_size}")
        return self

    def num_members(self, epochs: int) -> int:
        """Networks in the trained model after so many epochs."""
        return max(1, min(self.ensemble_epochs, epochs))


NEW_NODE_S = 1800.0
"""Time that an autoscaler has for starting nodes: a cloud is slow, and may have none to give."""


class NodeGroup(_Settings):
    """Nodes of one kind that a cluster's autoscaler may start."""

    max: PositiveInt = Field(description="Most of them at once, those that are there already included.")
    cpus: NonNegativeFloat = Field(description="CPU cores of each.")
    gpus: NonNegativeFloat = Field(0.0, description="GPUs of each.")


class ResourcesConfig(_Settings):
    """What one trial may use, and how many trials run at once."""

    workers: PositiveInt = Field(1, description="Processes that train one trial together.")
    cpus_per_worker: PositiveFloat = Field(1.0, description="CPU cores of each worker.")
    gpus_per_worker: Literal["auto"] | NonNegativeFloat = Field(
        "auto", description="GPUs of each worker; auto takes one where the cluster has any now."
    )
    concurrent_trials: Literal["auto"] | PositiveInt = Field("auto", description="Trials at once; auto: what fits.")
    autoscaler: tuple[NodeGroup, ...] = Field(
        (), description="Nodes that the cluster's autoscaler may start, which Ray does not tell: [{max, cpus, gpus}]."
    )
    max_restarts: NonNegativeInt = Field(
        3, description="Times that a trial goes on from its last checkpoint after a process or node of it died."
    )
    stall_minutes: PositiveFloat | None = Field(
        None, description="A trial that ends no epoch for so long is taken for dead, and starts again as after a death."
    )


def _task_config(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    return TASKS.get(_name(value)).config.model_validate(value) if isinstance(value, dict) else value


def _model_config(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    return MODELS.get(_name(value)).config.model_validate(value) if isinstance(value, dict) else value


def _name(value: dict[str, Any]) -> str:
    name = value.get("name")
    if not isinstance(name, str):
        raise ValueError(f"expected a name, found keys {sorted(map(str, value))}")
    return name


AnyTask = Annotated[SerializeAsAny[TaskConfig], BeforeValidator(_task_config)]
AnyModel = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_model_config)]


class TrialSpec(BaseModel):
    """Everything that determines one trial; ``model_dump(mode="json")`` and `model_validate` round-trip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Name of the experiment.")
    seed: NonNegativeInt = Field(0, description="Seed of weights, order of jets and dropout.")
    data: DataConfig = Field(description="Dataset.")
    task: AnyTask = Field(description="What is learned.")
    model: AnyModel = Field(description="Architecture.")
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained.")
    resources: ResourcesConfig = Field(ResourcesConfig(), description="What one trial may use.")

    @model_validator(mode="after")
    def _model_fits_the_task(self) -> TrialSpec:
        self.task.check_trial(self)
        return self
