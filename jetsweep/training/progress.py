"""Where training stands, and the ways in which it ends between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from jetsweep.training.reporter import Metrics


class Diverged(Exception):
    """The loss is no longer finite; `step` counts from 1."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} is not finite at step {step}")
        self.step = step


class Asked(Exception):
    """Somebody wants training to save and end."""


@dataclass
class Progress:
    """Where training stands; saved in every checkpoint, together with the weights it determines all that follows."""

    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best: Metrics = field(default_factory=dict)
    epochs_without_gain: int = 0
    stopped_because: str = ""
    sums: dict[str, float] = field(default_factory=dict)
    """Running sums of the epoch over all ranks: loss parts times jets."""
