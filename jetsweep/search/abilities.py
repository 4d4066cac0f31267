"""What each sampler can do; who only reads results needs no Optuna for it."""

LEARNS_FROM_PRUNED = frozenset({"tpe", "cmaes", "random", "grid", "qmc"})
"""Samplers that use, or do not need, the values of trials that were stopped; the others need a value for NaN."""

USES_CONSTRAINTS = frozenset({"tpe", "gp", "nsga2"})
"""Samplers that keep away from infeasible trials; the others warn of a constraint."""
