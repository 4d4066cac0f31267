"""What every architecture shares: its config base, its registration, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import nn

from jetsweep.physics.lund import UNCUT, LundCuts
from jetsweep.registry import Registry

JET_VARIABLES = ("high-level", "scalars")
"""Feature sets of variables of the jet, without constituents."""
JetScaling = Literal["standard", "robust"]
"""Of variables of the jet: less the mean over the standard deviation, or less the median over interquartile range."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"expected each scalar once, found {name!r} again")
    return names


ScalarNames = Annotated[tuple[str, ...], AfterValidator(_each_once)]
"""Names of scalars, each once."""


class ModelConfig(BaseModel):
    """Base of every architecture's config; `name` selects the architecture."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    outputs: ClassVar[str] = "logits"
    """What the network returns: "logits" (B, C), a "reconstruction" (`jetsweep.models.vae.Reconstruction`), or a
    "density" (`jetsweep.models._density.Density`)."""

    name: str
    features: str = Field(
        "kin", description="Feature set of the constituents (or of the jet): see jetsweep.models._features."
    )
    jet_axis: Literal["sum", "stored"] = Field(
        "sum", description="Jet pT, energy and axis: of the constituents' sum, or as stored (JetClass)."
    )
    binary_output: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="Two-class problems end in two softmax outputs or in one sigmoid output."
    )

    @property
    def named_scalars(self) -> tuple[str, ...]:
        """What the feature set ``scalars`` consists of, for architectures that read it."""
        return ()

    @property
    def jet_scaling(self) -> JetScaling:
        """How variables of the jet are scaled."""
        return "standard"

    @property
    def lund_cuts(self) -> LundCuts:
        """What the Lund trees of the feature sets ``lund2`` … are cut at."""
        return UNCUT

    def require_packages(self) -> None:
        """Raise a `JetsweepError` where the network needs an optional package that is not installed."""
        require_packages([self.name])


class Network(Protocol):
    """An architecture: a module that names the tensors it wants.

    `inputs` lists keyword names of `forward`, out of: ``features`` (B, P, F), ``mask`` (B, P) bool, ``p4`` (B, P, 4)
    GeV, ``points`` (B, P, 2) = (deta, dphi), ``z`` (B, P) momentum fractions, ``angles`` (B, P, 2), ``jet_features``
    (B, F), ``track_mask`` (B, P) bool, ``flow`` (B, P, 6), ``neighbours`` (B, P, 3) int64 slot numbers,
    ``rows`` (B,) int64 numbers of the jets. An architecture that takes either constituents or variables of the jet has
    `jet_inputs` as well, which it wants with the feature sets `JET_VARIABLES`.
    """

    inputs: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, num_features: int, num_classes: int) -> None: ...


class ModelEntry:
    """A registered architecture: the config class and the module class."""

    def __init__(self, config: type[ModelConfig], network: type[nn.Module]) -> None:
        self.config = config
        self.network = network

    def __repr__(self) -> str:
        return f"{self.network.__module__}.{self.network.__name__}"


MODELS: Registry[ModelEntry] = Registry("model", "jetsweep.models")
N = TypeVar("N", bound=type[nn.Module])


def register(config: type[ModelConfig]) -> Callable[[N], N]:
    """Decorate the network that `config` describes, under the default of `config.name`."""

    def decorate(network: N) -> N:
        MODELS.add(config.model_fields["name"].default)(ModelEntry(config, network))
        return network

    return decorate


def inputs_of(config: ModelConfig) -> tuple[str, ...]:
    """Names of the tensors that the network of `config` wants with its feature set."""
    network: Any = MODELS.get(config.name).network
    names: tuple[str, ...] = network.inputs
    return getattr(network, "jet_inputs", names) if config.features in JET_VARIABLES else names


def build_network(config: ModelConfig, num_features: int, num_classes: int) -> nn.Module:
    """Make the network that `config` describes, with fresh weights."""
    network: nn.Module = MODELS.get(config.name).network(config, num_features, num_classes)
    return network


def require_packages(names: Iterable[str]) -> None:
    """Raise a `JetsweepError` where an architecture among `names` needs an optional package that is not installed."""
    for name in sorted(set(names)):
        require = getattr(MODELS.get(name).network, "require_packages", None)
        if require is not None:
            require()


def create_model(name: str, num_features: int = 7, num_classes: int = 2, **config: Any) -> nn.Module:
    """Make a network by name, with its published configuration unless `config` says otherwise.

    Parameters
    ----------
    name : str
        One of `list_models()`.
    num_features : int
        Features per constituent (or per jet for hldnn).
    num_classes : int
        Number of outputs.
    **config
        Fields of the architecture's config.

    Returns
    -------
    nn.Module
        Called with the tensors named in its `inputs`, returns logits of shape (B, num_classes).
    """
    return build_network(MODELS.get(name).config(**config), num_features, num_classes)


def list_models() -> list[str]:
    """Names of all registered architectures."""
    return MODELS.names()
