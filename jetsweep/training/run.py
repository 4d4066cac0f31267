"""One trial from its spec to its result: data, model, loop, evaluation, files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jetsweep.training.config import TrialSpec
from jetsweep.training.reporter import Reporter, silent

if TYPE_CHECKING:
    from jetsweep.training.world import World

StoppedBecause = Literal["budget", "patience", "diverged", "asked"]


@dataclass(frozen=True)
class TrainResult:
    """How a trial ended; also ``result.json`` in its folder.

    Parameters
    ----------
    stopped_because : str
        "budget" (all epochs done), "patience" (early stopping), "diverged" (NaN or infinite loss), "asked" (reporter).
    epoch : int
        Completed epochs.
    best : dict
        Metrics of the best epoch, with ``epoch``, as reported.
    test : dict
        ``test/<metric>`` of the best checkpoint; empty without a test split or when stopped by "asked" or "diverged".
    error : str or None
        One sentence when diverged.
    parameters : int
        Trainable parameters of the network.
    seconds : float
        Training time over all interruptions, without the final evaluation.
    timing : dict
        ``inference_us_per_jet`` (median of warm batches), ``inference_batch`` and ``device``.
    """

    stopped_because: StoppedBecause
    epoch: int
    best: dict[str, float | int | str]
    test: dict[str, float]
    error: str | None
    parameters: int
    seconds: float
    timing: dict[str, float | int | str] = field(default_factory=dict)


def train(
    spec: TrialSpec,
    workdir: Path,
    data_root: Path,
    reporter: Reporter = silent,
    *,
    world: World | None = None,
    resume: bool = True,
) -> TrainResult:
    """Train one trial in this process.

    Parameters
    ----------
    spec : TrialSpec
    workdir : Path
        The trial's folder: ``experiment.json``, ``checkpoints/{last,best}/``, ``history.jsonl``,
        ``evaluation/{val,test}.npz`` and ``result.json`` go there.
    data_root : Path
        Folder of made datasets.
    reporter : Reporter
        Called by rank 0 after every epoch; its answer True ends training.
    world : World, optional
        This process's place among several; a single process if not given.
    resume : bool
        Continue from ``checkpoints/last`` where there is one.

    Returns
    -------
    TrainResult

    Raises
    ------
    JetsweepError
        If data, task, model or machine do not allow the trial; a NaN loss is no error but "diverged".
    """
    raise NotImplementedError
