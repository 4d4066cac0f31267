"""What a leaf of an experiment file may be instead of a value: a distribution to draw it from."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

KINDS = ("choice", "int", "uniform", "log", "normal")
OPTIONS = ("step", "log", "when", "low", "high")

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Choice:
    """One of `options`, which may be anything; `labels` are the scalars that samplers and tables see."""

    options: tuple[Any, ...]
    labels: tuple[Scalar, ...]

    def option(self, label: Scalar) -> Any:
        """Entry that a label stands for."""
        for known, option in zip(self.labels, self.options):
            if known == label and isinstance(known, bool) == isinstance(label, bool):
                return option
        raise KeyError(label)


@dataclass(frozen=True)
class Int:
    """An integer from `low` to `high`, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False


@dataclass(frozen=True)
class Float:
    """A real number from `low` to `high`, uniform in itself or in its logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Normal:
    """A normal distribution, cut at `low` and `high` (by default four standard deviations away)."""

    mean: float
    std: float
    low: float
    high: float


Distribution = Choice | Int | Float | Normal


def is_distribution(value: Any) -> bool:
    """Whether a value of the tree describes a distribution: a mapping of nothing but its words."""
    return isinstance(value, dict) and any(kind in value for kind in KINDS) and set(value) <= {*KINDS, *OPTIONS}


def is_finite(distribution: Distribution) -> bool:
    """Whether a grid can list every value."""
    if isinstance(distribution, Float):
        return distribution.step is not None
    return isinstance(distribution, Choice) or (isinstance(distribution, Int) and not distribution.log)


def probes(distribution: Distribution) -> list[Any]:
    """Values (or labels) that stand for all others when a file is checked: every option, or both ends and a middle."""
    if isinstance(distribution, Choice):
        return list(distribution.labels)
    values = [distribution.low, distribution.high]
    if not isinstance(distribution, Int):
        # the ends may be whole numbers where only those are allowed; what lies between is not
        share = 0.6180339887498949
        step = distribution.step if isinstance(distribution, Float) else None
        values.append(distribution.low + (step or share * (distribution.high - distribution.low)))
    return list(dict.fromkeys(values))


def draw(distribution: Distribution, rng: random.Random) -> Any:
    """One value of a distribution; of a choice the label."""
    if isinstance(distribution, Choice):
        return rng.choice(distribution.labels)
    if isinstance(distribution, Normal):
        curve = NormalDist(distribution.mean, distribution.std)
        quantile = rng.uniform(curve.cdf(distribution.low), curve.cdf(distribution.high))
        value = curve.inv_cdf(min(max(quantile, 1e-12), 1 - 1e-12))
        return min(max(value, distribution.low), distribution.high)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
        # the exponential of a logarithm may leave the interval by a rounding error
        value = min(max(value, low), high)
        return round(value) if isinstance(distribution, Int) else value
    if distribution.step is None:
        return rng.uniform(low, high)
    steps = rng.randrange(int((high - low) / distribution.step + 1e-9) + 1)
    return low + steps * distribution.step


def parse(value: dict[str, Any]) -> Distribution:
    """Distribution of a mapping that `is_distribution`.

    Raises
    ------
    ValueError
        If it is not well formed; the message says what was expected and found.
    """
    # `log` is a kind by itself and an option of `int`
    kinds = [kind for kind in KINDS if kind in value and not (kind == "log" and "int" in value)]
    if len(kinds) != 1:
        raise ValueError(f"expected one of {', '.join(KINDS)}, found {' and '.join(kinds)}")
    (kind,) = kinds
    allowed = {"int": {"step", "log"}, "uniform": {"step"}, "normal": {"low", "high"}}.get(kind, set())
    for option in value:
        if option not in {kind, "when", *allowed}:
            raise ValueError(f"{kind} takes {', '.join(sorted(allowed | {'when'}))}, found {option!r}")
    if kind == "choice":
        return _choice(value["choice"])
    if kind == "int":
        return _int(value)
    low, high = _pair(kind, value[kind], "mean, std" if kind == "normal" else "low, high")
    if kind == "normal":
        return _normal(low, high, value)
    _ordered(kind, low, high)
    if kind == "log":
        if low <= 0:
            raise ValueError(f"log: expected low above 0, found {low:g}")
        return Float(low, high, log=True)
    step = value.get("step")
    if step is not None and not (_is_number(step) and 0 < step <= high - low):
        raise ValueError(f"uniform: expected a step above 0 and at most {high - low:g}, found {step!r}")
    return Float(low, high, step=None if step is None else float(step))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pair(kind: str, value: Any, names: str) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2 and all(_is_number(x) for x in value)):
        raise ValueError(f"{kind}: expected [{names}], found {_short(value)}")
    return float(value[0]), float(value[1])


def _ordered(kind: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{kind}: expected low at most high, found [{low:g}, {high:g}]")


def _int(value: dict[str, Any]) -> Int:
    ends = value["int"]
    if not (
        isinstance(ends, list) and len(ends) == 2 and all(isinstance(x, int) and not isinstance(x, bool) for x in ends)
    ):
        raise ValueError(f"int: expected [low, high] of whole numbers, found {_short(ends)}")
    low, high = ends
    _ordered("int", low, high)
    step, log = value.get("step", 1), value.get("log", False)
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise ValueError(f"int: expected a step of at least 1, found {step!r}")
    if not isinstance(log, bool):
        raise ValueError(f"int: expected log: true or false, found {log!r}")
    if log and (low < 1 or step != 1):
        raise ValueError(
            f"int: a logarithmic scale needs low of at least 1 and no step, found low {low} and step {step}"
        )
    return Int(low, high, step, log)


def _normal(mean: float, std: float, value: dict[str, Any]) -> Normal:
    if std <= 0:
        raise ValueError(f"normal: expected a standard deviation above 0, found {std:g}")
    low, high = value.get("low", mean - 4 * std), value.get("high", mean + 4 * std)
    if not (_is_number(low) and _is_number(high)):
        raise ValueError(f"normal: expected numbers for low and high, found {low!r} and {high!r}")
    _ordered("normal", low, high)
    return Normal(mean, std, float(low), float(high))


def _choice(options: Any) -> Choice:
    if not isinstance(options, list) or not options:
        raise ValueError(f"choice: expected a list with at least one entry, found {_short(options)}")
    labels: list[Scalar] = []
    for option in options:
        label = _label(option)
        same = sum(1 for known in labels if str(known).split("#")[0] == str(label))
        if same and isinstance(option, dict):
            label = f"{label}#{same + 1}"
        elif label in labels and any(known == label and type(known) is type(label) for known in labels):
            raise ValueError(f"choice: expected different entries, found {_short(option)} twice")
        labels.append(label)
    return Choice(tuple(options), tuple(labels))


def _label(option: Any) -> Scalar:
    if isinstance(option, dict) and isinstance(option.get("name"), str):
        return str(option["name"])
    if isinstance(option, dict | list):
        return json.dumps(option, separators=(",", ":"))
    scalar: Scalar = option
    return scalar


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
