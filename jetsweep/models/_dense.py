"""Dense stacks shared by the deep-set and high-level networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

Initialiser = Callable[[Tensor], Tensor]

INITIALISERS: dict[str, Initialiser] = {
    "he-uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "glorot-uniform": nn.init.xavier_uniform_,
    "glorot-normal": nn.init.xavier_normal_,
}


def dense_stack(sizes: Sequence[int], initialiser: str, dropout: float = 0.0) -> nn.Sequential:
    """Linear and ReLU for each step of `sizes`, dropout after each, biases zero.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input and of every layer.
    initialiser : str
        Key of `INITIALISERS`.
    dropout : float
        Probability of dropping an activation.
    """
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers += [initialised(nn.Linear(num_in, num_out), initialiser), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def initialised(linear: nn.Linear, initialiser: str) -> nn.Linear:
    """Set fresh weights by name and zero biases."""
    INITIALISERS[initialiser](linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
