"""Optuna samplers by the name that an experiment file uses."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from jetsweep.experiment.schema import SearchConfig

LEARNS_FROM_PRUNED = frozenset({"tpe", "cmaes", "random", "grid", "qmc"})
"""Samplers that use, or do not need, the values of trials that were stopped; the others need a value for NaN."""

USES_CONSTRAINTS = frozenset({"tpe", "gp", "nsga2"})
"""Samplers that keep away from infeasible trials; the others warn of a constraint."""


def build_sampler(search: SearchConfig) -> BaseSampler:
    """Make the sampler of ``search.sampler``, seeded by ``search.seed``.

    `grid` queues its points itself (`jetsweep.search.space.grid_points`), so any sampler serves it.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    seed, samplers = search.seed, optuna.samplers
    with warnings.catch_warnings():
        # GP, QMC and grouped TPE have been "experimental" for years; the user chose them by name
        warnings.simplefilter("ignore", ExperimentalWarning)
        match search.sampler:
            case "tpe":
                # grouped: joint models of the leaves that a branch has; liar: parallel trials differ
                return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            case "gp":
                return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return samplers.CmaEsSampler(
                    seed=seed,
                    warn_independent_sampling=False,
                    consider_pruned_trials=search.scheduler != "none" and len(search.objectives) == 1,
                )
            case "nsga2":
                return samplers.NSGAIISampler(seed=seed)
            case "qmc":
                return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case _:
                return samplers.RandomSampler(seed=seed)
