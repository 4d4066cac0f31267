"""`search.constraints`: bounds on what a trial turns out to be, such as ``parameters < 1e6``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

PARAMETERS, SECONDS, INFERENCE = "parameters", "train_seconds", "inference_us_per_jet"
OUTCOMES = (PARAMETERS, SECONDS, INFERENCE)
"""What may be bounded besides the metrics of the validation split."""

_PATTERN = re.compile(r"\s*(?P<name>[A-Za-z][\w./-]*)\s*(?P<sign><=|>=|<|>)\s*(?P<bound>[-+]?[\d.][\w.+-]*)\s*")
_ON_THE_BOUND = 1e-12
"""Violation of a strict bound that is exactly met: samplers take zero for feasible."""
_UNBOUNDED = 1e6


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric or on `OUTCOMES`.

    Parameters
    ----------
    text : str
    name : str
    sign : "<", "<=", ">" or ">="
    bound : float
    """

    text: str
    name: str
    sign: str
    bound: float

    def violation(self, value: float) -> float:
        """By how much a value is on the wrong side, in units of the bound's size; zero or less where it is met.

        Samplers add violations up, so parameters and divergences must be of the same order. A value that is not a
        number meets no bound; its violation is 1.
        """
        if math.isnan(value):
            return 1.0
        distance = value - self.bound if self.sign.startswith("<") else self.bound - value
        scaled = distance / abs(self.bound) if self.bound else distance
        scaled = min(max(scaled, -_UNBOUNDED), _UNBOUNDED)
        return _ON_THE_BOUND if scaled == 0 and not self.sign.endswith("=") else scaled


def parse_constraint(text: str, known: Iterable[str] | None = None) -> Constraint:
    """Parse ``NAME < NUMBER``, with <, <=, > or >=.

    Parameters
    ----------
    text : str
    known : iterable of str, optional
        Names that may be bounded.

    Raises
    ------
    ValueError
        If it is no bound; the message says what was expected and found.
    """
    match = _PATTERN.fullmatch(text)
    try:
        bound = float(match["bound"]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise ValueError(f"expected a name, one of < <= > >=, and a number, e.g. parameters < 1e6, found {text!r}")
    name = match["name"]
    if known is not None and name not in (words := list(known)):
        from jetsweep.experiment._validate import did_you_mean

        raise ValueError(f"expected one of {', '.join(words)}, found {name!r}{did_you_mean(name, words)}")
    return Constraint(text, name, match["sign"], bound)
