"""Learning rates over the peak, as functions of the step alone: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from jetsweep.training.config import ConstantConfig, CosineConfig, FlatDecayConfig, OneCycleConfig, ScheduleConfig


def learning_rate_factor(config: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Factor on the peak learning rate.

    Parameters
    ----------
    config : ScheduleConfig
    step : int
        Optimizer steps done so far, from 0.
    steps_per_epoch, epochs : int

    Returns
    -------
    float
        At least 0. Warm-up gives its first step ``1 / warm-up steps``, so that no step is wasted.
    """
    total = steps_per_epoch * epochs
    match config:
        case ConstantConfig():
            return _warmup(step, round(config.warmup_epochs * steps_per_epoch))
        case CosineConfig():
            warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
            if step < warmup:
                return _warmup(step, warmup)
            progress = (step - warmup) / max(1, total - warmup)
            cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
            return config.final_factor + (1.0 - config.final_factor) * cosine
        case FlatDecayConfig():
            decaying = int(config.decay_fraction * epochs)
            # weaver's milestones: epoch epochs - decaying is the first that decays, the last has the full factor
            done = min(max(0, step // steps_per_epoch - (epochs - decaying) + 1), decaying)
            return float(config.final_factor ** (done / decaying)) if decaying else 1.0
        case OneCycleConfig():
            top, foot = config.rise_fraction * total, (config.rise_fraction + config.fall_fraction) * total
            if step < top:
                return config.start_factor + (1.0 - config.start_factor) * step / top
            if step < foot:
                return 1.0 + (config.start_factor - 1.0) * (step - top) / (foot - top)
            tail = min(1.0, (step - foot) / max(1.0, total - 1 - foot))
            return config.start_factor + (config.final_factor - config.start_factor) * tail


def _warmup(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / steps) if steps else 1.0
