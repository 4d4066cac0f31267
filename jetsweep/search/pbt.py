"""Population-based training (Jaderberg et al., arXiv:1711.09846): weak trials go on from strong ones, changed a little.

A trial that reaches an epoch at which trials are compared, and is among the weakest that ever reached it, goes on from
the snapshot that one of the strongest kept there. So epochs are counted as in any other trial, a donor may have ended
long ago, and what was decided is in the study.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import ExperimentError
from jetsweep.experiment.distributions import Choice, Distribution, Float, Int, draw
from jetsweep.search.samplers import derived_seed
from jetsweep.search.space import decode, parameter
from jetsweep.training.exploit import Exploit, snapshot_path

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from jetsweep.experiment.schema import Experiment
    from jetsweep.experiment.template import ExperimentTemplate

EXPLOITS = "exploits"
"""User attribute of an Optuna trial: what it took from others, with its leaves from then on."""

_FACTORS = (0.8, 1.2)
_TRIES = 20
_FIXED = frozenset(
    {
        "accumulate",
        "batch_size",
        "compile",
        "ensemble_epochs",
        "epochs",
        "eval_batch_size",
        "precision",
        "snapshot_every",
        "steps_per_epoch",
    }
)
"""Settings of training that a checkpoint cannot go on without."""


@dataclass(frozen=True)
class Order:
    """What a trial is told to do.

    Parameters
    ----------
    exploit : Exploit
    leaves : dict
        Of the trial from then on.
    experiment : Experiment
        The same as a whole.
    """

    exploit: Exploit
    leaves: dict[str, Any]
    experiment: Experiment

    def record(self) -> dict[str, Any]:
        """For the study."""
        return {"epoch": self.exploit.epoch, "donor": self.exploit.donor, "leaves": self.leaves}


def changeable(template: ExperimentTemplate) -> list[str]:
    """Leaves that may change while a trial trains: numbers of training and task that no checkpoint depends on."""
    names = []
    for name, leaf in template.leaves.items():
        distribution = template.space.get(name)
        room, key = leaf.path[0], leaf.path[1] if len(leaf.path) > 1 else None
        numbers = not isinstance(distribution, Choice) or all(
            isinstance(label, int | float) and not isinstance(label, bool) for label in distribution.labels
        )
        if distribution is not None and numbers and room in ("training", "task") and key not in _FIXED:
            names.append(name)
    return names


def require_changeable(template: ExperimentTemplate) -> None:
    """Refuse population-based training that has nothing to change.

    Raises
    ------
    ExperimentError
    """
    if template.search.scheduler == "pbt" and not changeable(template):
        raise template.document.error(
            ("search", "scheduler"),
            "expected beside pbt a leaf below training or task that may change while a trial trains, such as "
            "training.optimizer.lr, found none",
        )


def leaves_of(trial: FrozenTrial, template: ExperimentTemplate, before: int | None = None) -> dict[str, Any]:
    """Leaves of a trial: those drawn, or those that it took last (before an epoch, if one is given)."""
    for record in reversed(trial.user_attrs.get(EXPLOITS, [])):
        if before is None or record["epoch"] < before:
            return dict(record["leaves"])
    drawn: dict[str, Any] = {}

    def ask(name: str, distribution: Distribution) -> Any:
        drawn[name] = decode(distribution, trial.params[parameter(name, distribution)[0]])
        return drawn[name]

    template.draw(ask)
    return drawn


def order_for(
    number: int, epoch: int, trials: Sequence[FrozenTrial], template: ExperimentTemplate, sweep_dir: Path
) -> Order | None:
    """Decide whether a trial goes on from another one.

    Parameters
    ----------
    number : int
    epoch : int
        That the trial has just done.
    trials : sequence of optuna.trial.FrozenTrial
        Of the sweep, with the value that each reported at that epoch.
    template : ExperimentTemplate
    sweep_dir : Path

    Returns
    -------
    Order or None
        None where it goes on as it is.
    """
    search = template.search
    if epoch % search.pbt.interval:
        return None
    sign = 1.0 if search.objectives[0].mode == "max" else -1.0
    values = {t.number: sign * t.intermediate_values[epoch] for t in trials if epoch in t.intermediate_values}
    ranked = sorted(values, key=lambda member: (values[member], -member))
    count = max(1, int(len(ranked) * search.pbt.quantile))
    if len(ranked) < 2 or number not in ranked[:count]:
        return None
    rng = random.Random(derived_seed(search.seed, number, f"pbt {epoch}"))
    donors = [member for member in ranked[-count:] if values[member] > values[number]]
    donors = [member for member in donors if snapshot_path(_folder(sweep_dir, member), epoch).is_dir()]
    if not donors:
        return None
    donor = rng.choice(donors)
    frozen = next(trial for trial in trials if trial.number == donor)
    leaves, experiment = _explore(leaves_of(frozen, template, epoch), template, rng)
    exploit = Exploit(epoch, donor, str(snapshot_path(_folder(sweep_dir, donor), epoch)))
    return Order(exploit, leaves, experiment)


def _folder(sweep_dir: Path, number: int) -> Path:
    return sweep_dir / "trials" / f"{number:05d}"


def _explore(
    leaves: Mapping[str, Any], template: ExperimentTemplate, rng: random.Random
) -> tuple[dict[str, Any], Experiment]:
    """The donor's leaves, changed a little; as they are where no change is a valid experiment."""
    names = changeable(template)
    for _ in range(_TRIES):
        found: dict[str, Any] = {}

        def ask(name: str, distribution: Distribution, found: dict[str, Any] = found) -> Any:
            if name not in leaves or (name in names and rng.random() < template.search.pbt.resample):
                found[name] = draw(distribution, rng)
            else:
                found[name] = perturbed(distribution, leaves[name], rng) if name in names else leaves[name]
            return found[name]

        try:
            return found, template.draw(ask)
        except ExperimentError:
            continue
    return dict(leaves), template.concrete(dict(leaves))


def perturbed(distribution: Distribution, value: Any, rng: random.Random) -> Any:
    """A value near another, inside the distribution."""
    if isinstance(distribution, Choice):
        labels = list(distribution.labels)
        place = labels.index(value) + rng.choice((-1, 1))
        return labels[min(max(place, 0), len(labels) - 1)]
    factor = rng.choice(_FACTORS)
    near = value * factor
    if isinstance(distribution, Int) or (isinstance(distribution, Float) and distribution.step is not None):
        step = distribution.step or 1
        before = round((value - distribution.low) / step)
        steps = round((near - distribution.low) / step)
        if steps == before:  # so near that it would be the same
            steps += 1 if factor > 1 else -1
        most = int((distribution.high - distribution.low) / step + 1e-9)
        near = distribution.low + min(max(steps, 0), most) * step
        return near if isinstance(distribution, Int) else round(near, 12)
    return min(max(near, distribution.low), distribution.high)
