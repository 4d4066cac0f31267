"""Telling data of a signal region from a template of its background: the classifier of CWoLa and CATHODE."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from jetsweep.metrics import roc_curve, sic_curve
from jetsweep.tasks._base import TASKS, Gather, TaskEntry
from jetsweep.tasks.tagging import Tagging, TaggingConfig, TaggingEvaluator, signal_score


class WeakSupervisionConfig(TaggingConfig):
    """Settings of the task `weak-supervision`."""

    name: Literal["weak-supervision"] = "weak-supervision"  # type: ignore[assignment]
    signal: str | None = Field("data", description="Class of the data.")
    background: str | None = Field("template", description="Class of the template.")
    min_background: PositiveInt = Field(100, description="Background that a cut must leave for its SIC to count.")


class WeakSupervision(Tagging):
    """Tagging of data against a template, measured by its significance improvement.

    In `val` the metrics compare data and template, so they know no truth; in `test` the labels are the truth
    (`jetsweep.data.sources.resonance`).

    Parameters
    ----------
    config : WeakSupervisionConfig
    classes : sequence of str
    """

    config: WeakSupervisionConfig

    def evaluator(self) -> WeakSupervisionEvaluator:
        return WeakSupervisionEvaluator(self)

    @classmethod
    def metrics_of(cls, config: TaggingConfig) -> tuple[str, ...]:
        return (*super().metrics_of(config), "max_sic")


class WeakSupervisionEvaluator(TaggingEvaluator):
    """Tagging's metrics and the largest significance improvement of any cut."""

    task: WeakSupervision

    def compute(self, gather: Gather) -> dict[str, float]:
        values = super().compute(gather)
        score = signal_score(self._gathered["probability"], self.task.signal, self.task.background)
        if not np.isfinite(score).all():
            return values
        is_signal = self._gathered["label"] == self.task.signal
        return values | {"max_sic": sic_curve(roc_curve(score, is_signal), self.task.config.min_background).maximum.sic}


TASKS.add("weak-supervision")(TaskEntry(WeakSupervisionConfig, WeakSupervision))
