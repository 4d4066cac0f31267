"""Density of features given the resonant mass: a normalising flow by the package zuko (extra `flows`)."""

# Shapes: E events, F features.

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor

from jetsweep.errors import DataError

_EDGE = 1e-3
"""Room between the outermost event and the end of a feature's range, as a share of the range."""


class FlowConfig(BaseModel):
    """Masked autoregressive spline flow (arXiv:1906.04032) and its training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transforms: PositiveInt = Field(4, description="Autoregressive transformations.")
    width: PositiveInt = Field(64, description="Width of their two hidden layers.")
    bins: PositiveInt = Field(8, description="Bins of each spline.")
    epochs: PositiveInt = Field(20, description="Passes over the side bands; the best on held-out events is kept.")
    batch_size: PositiveInt = Field(512, description="Events per step.")
    lr: PositiveFloat = Field(1e-3, description="Learning rate of Adam.")


class ConditionalFlow:
    """Features given a mass.

    Features are mapped from their range to the line by a logit, and standardised.

    Parameters
    ----------
    mass : array, shape (E,)
    features : array, shape (E, F)
    config : FlowConfig
    seed : int
        Of weights, order and the events held out (a fifth).

    Raises
    ------
    DataError
        If zuko is not installed, or fewer than 100 events are given.
    """

    def __init__(self, mass: np.ndarray, features: np.ndarray, config: FlowConfig, seed: int) -> None:
        if importlib.util.find_spec("zuko") is None:
            raise DataError("the method cathode needs zuko, not installed: pip install 'jetsweep[flows]'")
        if len(mass) < 100:
            raise DataError(f"a flow needs at least 100 events in the side bands, found {len(mass)}")
        import zuko

        low, high = features.min(axis=0), features.max(axis=0)
        room = np.maximum(_EDGE * (high - low), 1e-9)
        self.low, self.high = low - room, high + room
        line = self._to_line(features)
        self.centre, self.scale = line.mean(axis=0), line.std(axis=0)
        self.mass_centre, self.mass_scale = float(mass.mean()), float(mass.std())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = (config.width, config.width)
            self.flow: Any = zuko.flows.NSF(
                features.shape[1], 1, transforms=config.transforms, hidden_features=hidden, bins=config.bins
            )
            self._fit(self._conditions(mass), torch.from_numpy((line - self.centre) / self.scale).float(), config)

    def _fit(self, condition_E1: Tensor, x_EF: Tensor, config: FlowConfig) -> None:
        order = torch.randperm(len(x_EF))
        held, used = order[: len(order) // 5], order[len(order) // 5 :]
        optimizer = torch.optim.Adam(self.flow.parameters(), lr=config.lr)
        best, weights = float("inf"), {}
        for _ in range(config.epochs):
            for part in torch.split(used[torch.randperm(len(used))], config.batch_size):
                optimizer.zero_grad()
                loss = -self.flow(condition_E1[part]).log_prob(x_EF[part]).mean()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                value = float(-self.flow(condition_E1[held]).log_prob(x_EF[held]).mean())
            if value < best:
                best, weights = value, {name: x.clone() for name, x in self.flow.state_dict().items()}
        if not weights:
            raise DataError("the flow's density of the side bands is not finite; lower flow.lr")
        self.flow.load_state_dict(weights)

    def sample(self, mass: np.ndarray, seed: int) -> np.ndarray:
        """Features of one event at each of the masses, shape (E, F)."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            x_EF = self.flow(self._conditions(mass)).sample().numpy().astype(np.float64)
        share = 1 / (1 + np.exp(-(x_EF * self.scale + self.centre)))
        return np.asarray(self.low + share * (self.high - self.low))

    def _to_line(self, features: np.ndarray) -> np.ndarray:
        share = (features - self.low) / (self.high - self.low)
        return np.asarray(np.log(share) - np.log1p(-share))

    def _conditions(self, mass: np.ndarray) -> Tensor:
        return torch.from_numpy((mass - self.mass_centre) / self.mass_scale).float()[:, None]
