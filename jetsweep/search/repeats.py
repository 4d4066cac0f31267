"""`search.repeats`: the best configurations again with other seeds, and what their results say together."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetsweep.search.best import ranked

if TYPE_CHECKING:
    from jetsweep.experiment.schema import Experiment, SearchConfig
    from jetsweep.search.trials import Trial

FOLDER, REPEAT_FILE = "repeats", "repeat.json"
"""Folder of a sweep beside its ``trials``, and the file in each run's folder that says what it repeats."""

COVERAGE = 0.6827
"""Probability that an interval is made for: one standard deviation of a normal distribution to both sides."""


@dataclass(frozen=True)
class Repeat:
    """One run to make.

    Parameters
    ----------
    origin : int
        Number of the trial whose configuration is run again.
    index : int
        Which of its repetitions, from 0.
    seed : int
    experiment : Experiment
        The origin's but for `seed`: same jets, same split, other weights, order of jets and dropout.
    """

    origin: int
    index: int
    seed: int
    experiment: Experiment


def repeats(trials: Sequence[Trial], search: SearchConfig) -> Iterator[Repeat]:
    """Runs that `search.repeats` asks for, the best configuration first.

    The trial itself is not among them: it was chosen because it did well, and would pull every mean its way. All
    configurations get the same seeds, so that they can be compared seed by seed.

    Parameters
    ----------
    trials : sequence of Trial
        All of the sweep.
    search : SearchConfig
    """
    if search.repeats is None:
        return
    for trial in ranked(trials, search.objectives)[: search.repeats.best]:
        for index, seed in enumerate(seeds(trial.experiment.seed, search.repeats.seeds)):
            yield Repeat(trial.number, index, seed, trial.experiment.model_copy(update={"seed": seed}))


def seeds(base: int, count: int) -> list[int]:
    """Different seeds, none of them `base`; the same for the same arguments, and the first ones of any longer list."""
    found: list[int] = []
    i = 0
    while len(found) < count:
        digest = hashlib.sha256(f"jetsweep repeat {base} {i}".encode()).digest()
        seed = int.from_bytes(digest[:4]) >> 1  # below 2^31, which every library takes
        i += 1
        if seed != base and seed not in found:
            found.append(seed)
    return found


def write_repeat(folder: Path, repeat: Repeat) -> None:
    """Say in a run's folder what it repeats, before it begins; `jetsweep.tracking.repeats` reads it back."""
    from jetsweep.training.checkpoint import write_file  # with torch, which tables do without

    said = {"origin": repeat.origin, "index": repeat.index, "seed": repeat.seed}
    write_file(folder / REPEAT_FILE, json.dumps(said).encode())


@dataclass(frozen=True)
class Spread:
    """What several runs of one configuration say about a number.

    Parameters
    ----------
    values : tuple of float
        In the order of the runs; may be infinite, as a rejection without background is.
    median : float
    mean, std : float
        NaN if a value is infinite; `std`, with n - 1 in the denominator, also for a single run.
    low, high : float
        Interval that holds the result of one more run with probability `coverage`.
    coverage : float
        68 %; less where there are so few runs that even their whole range holds less.
    """

    values: tuple[float, ...]
    median: float
    mean: float
    std: float
    low: float
    high: float
    coverage: float


def spread(values: Sequence[float]) -> Spread | None:
    """Summarise runs; NaN is left out, and nothing is left of nothing.

    The interval assumes no distribution: one more run than the n there are falls below the k-th smallest of them with
    probability k / (n + 1). The interval ends where this is 16 % and 84 %, between two runs if need be, which errs to
    the wide side for heavy tails. Fewer than six runs cannot bound 68 %: the interval is then their range, which holds
    (n - 1) / (n + 1).

    Parameters
    ----------
    values : sequence of float
        One per run.
    """
    known = tuple(value for value in values if not math.isnan(value))
    if not known:
        return None
    n, ordered, tail = len(known), sorted(known), (1 - COVERAGE) / 2
    enough = tail * (n + 1) >= 1
    finite = all(map(math.isfinite, known))
    return Spread(
        known,
        _between(ordered, (n + 1) / 2),
        statistics.fmean(known) if finite else math.nan,
        statistics.stdev(known) if finite and n > 1 else math.nan,
        _between(ordered, tail * (n + 1) if enough else 1.0),
        _between(ordered, (1 - tail) * (n + 1) if enough else float(n)),
        COVERAGE if enough else (n - 1) / (n + 1),
    )


def _between(ordered: Sequence[float], rank: float) -> float:
    """The value of a rank, from 1; between two ranks on the straight line."""
    below = min(max(math.floor(rank), 1), len(ordered))
    low, high = ordered[below - 1], ordered[min(below, len(ordered) - 1)]
    share = rank - below
    return low if low == high or share <= 0 else low + share * (high - low)
