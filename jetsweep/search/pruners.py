"""Optuna pruners by the name that an experiment file gives a scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna import pruners

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from jetsweep.experiment.schema import SearchConfig

_MIN_TRIALS = 3
"""Trials that must have reached an epoch before the median of them stops any."""


def build_pruner(search: SearchConfig, epochs: int) -> BasePruner:
    """Make the pruner of ``search.scheduler``, which judges the first objective after each epoch.

    ``asha`` is successive halving in its asynchronous form (Li et al., arXiv:1810.05934), ``hyperband`` runs brackets
    of it (Li et al., arXiv:1603.06560), ``median`` stops what is worse than the median of the others at its epoch
    (Golovin et al., KDD 2017).

    Parameters
    ----------
    search : SearchConfig
    epochs : int
        Largest number of epochs of any trial.
    """
    grace = min(search.grace_epochs, epochs)
    match search.scheduler:
        case "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=search.reduction_factor)
        case "hyperband":
            return pruners.HyperbandPruner(
                min_resource=grace, max_resource=epochs, reduction_factor=search.reduction_factor
            )
        case "median":
            return pruners.MedianPruner(n_startup_trials=_MIN_TRIALS, n_warmup_steps=grace, n_min_trials=_MIN_TRIALS)
        case _:
            return pruners.NopPruner()
