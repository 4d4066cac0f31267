"""A network with its preprocessing: ragged jets in, logits out. Training, prediction and export share it."""

from __future__ import annotations

from torch import Tensor, nn

from jetsweep.data.batch import Batch
from jetsweep.errors import JetsweepError
from jetsweep.models._base import ModelConfig, build_network, inputs_of
from jetsweep.models._ensemble import Ensemble
from jetsweep.models._features import Preprocessing


class JetModel(nn.Module):
    """Preprocessing followed by a network.

    Parameters
    ----------
    preprocessing : Preprocessing
    network : nn.Module
        Called with the tensors that it names in `inputs`.
    """

    def __init__(self, preprocessing: Preprocessing, network: nn.Module) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the jets in `batch`, shape (B, C)."""
        logits: Tensor = self.network(**self.preprocessing(batch))
        return logits


def preprocessing_of(config: ModelConfig, max_constituents: int) -> Preprocessing:
    """From jets to the tensors that the network of `config` wants.

    Raises
    ------
    ValueError
        If the feature set does not exist or does not suit the architecture.
    """
    return Preprocessing(
        config.features,
        inputs_of(config),
        max_constituents,
        config.jet_axis,
        config.named_scalars,
        config.jet_scaling,
        config.lund_cuts,
    )


def build_jet_model(config: ModelConfig, num_outputs: int, max_constituents: int, num_members: int = 1) -> JetModel:
    """Make the network that `config` describes, with fresh weights and the preprocessing of its feature set.

    Parameters
    ----------
    config : ModelConfig
    num_outputs : int
        Number of outputs C.
    max_constituents : int
        Constituent slots P.
    num_members : int
        Networks; of more than one the `Ensemble`.

    Raises
    ------
    JetsweepError
        If the feature set does not exist or does not suit the architecture.
    """
    try:
        preprocessing = preprocessing_of(config, max_constituents)
    except ValueError as error:
        raise JetsweepError(f"model.features of {config.name}: {error}") from error
    networks = [build_network(config, preprocessing.num_features, num_outputs) for _ in range(num_members)]
    return JetModel(preprocessing, networks[0] if num_members == 1 else Ensemble(networks))
