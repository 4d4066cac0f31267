"""Optuna samplers by the name that an experiment file uses, and the one that makes their proposals repeatable."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna import samplers
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

    from jetsweep.experiment.schema import SearchConfig


class RepeatableSampler(BaseSampler):
    """Proposes from the seed, the trial's number and what the study knows, and from nothing else.

    Optuna's samplers carry a random state from one proposal to the next, which dies with the process. Here every
    proposal is made by a sampler of its own, so a sweep that was interrupted goes on as if it had not been.

    Parameters
    ----------
    search : SearchConfig
    """

    def __init__(self, search: SearchConfig) -> None:
        self.search = search
        self._joint = (-1, build_sampler(search, search.seed))

    def _for(self, trial: FrozenTrial, part: str) -> BaseSampler:
        return build_sampler(self.search, derived_seed(self.search.seed, trial.number, part))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._joint = (trial.number, self._for(trial, ""))
        return self._joint[1].infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        number, sampler = self._joint  # grouped TPE keeps the groups that it inferred
        assert number == trial.number
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._for(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._for(trial, "before").before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._for(trial, "after").after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Nothing: there is no state to change."""


def derived_seed(base: int, number: int, part: str) -> int:
    """Seed of one proposal, below 2^31."""
    digest = hashlib.sha256(f"jetsweep proposal {base} {number} {part}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def build_sampler(search: SearchConfig, seed: int) -> BaseSampler:
    """Make a sampler of the kind ``search.sampler``.

    `grid` queues its points itself (`jetsweep.search.space.grid_points`), so any sampler serves it.
    """
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
                return samplers.QMCSampler(
                    seed=search.seed,  # one sequence for the whole sweep
                    scramble=True,
                    independent_sampler=samplers.RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                )
            case _:
                return samplers.RandomSampler(seed=seed)
