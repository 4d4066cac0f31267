"""`search.start`: given points to run first, and the trials of an earlier sweep as knowledge."""

from __future__ import annotations

import difflib
import math
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment._compose import changes
from jetsweep.experiment._yaml import dotted
from jetsweep.experiment.constraints import parse_constraint
from jetsweep.experiment.points import AT, resolve_point, value_of
from jetsweep.search.abilities import LEARNS_FROM_PRUNED, USES_CONSTRAINTS
from jetsweep.search.best import FROM_SWEEP, is_own
from jetsweep.search.constraints import VIOLATIONS, measured, read_result, violations_of
from jetsweep.search.space import QUANTILE, decode, encode, parameter
from jetsweep.search.study import STUDY_FILE

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from jetsweep.experiment.schema import Experiment
    from jetsweep.experiment.template import ExperimentTemplate

FROM_TRIAL, START_POINT = "from_trial", "start_point"
"""User attributes: number of a taken trial in its own sweep; position of a given point."""

_UNTOUCHED = ("name", "seed", "tracking", "resources", "search")
"""Parts of an experiment that do not change what its objectives mean."""


@dataclass
class WarmStart:
    """What a study was given.

    Parameters
    ----------
    points : int
        Points that wait to be run first.
    sweep : Path or None
        Earlier sweep.
    taken : int
        Trials taken from it.
    left_out : Counter
        Trials that were not, by reason.
    differences : set of str
        Settings in which the trials that were taken differ from this experiment.
    """

    points: int = 0
    sweep: Path | None = None
    taken: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    differences: set[str] = field(default_factory=set)

    def sentences(self) -> list[str]:
        """What a user is told before the first trial."""
        said = [f"{_plural(self.points, 'given point')} will run first"] if self.points else []
        if self.sweep is not None:
            said.append(f"{_plural(self.taken, 'trial')} of {self.sweep.name} taken as known")
        if self.left_out:
            reasons = "; ".join(f"{number}: {reason}" for reason, number in self.left_out.most_common())
            said.append(f"{_plural(sum(self.left_out.values()), 'trial')} left out ({reasons})")
        if self.differences:
            said.append(f"they differ from this experiment in {', '.join(sorted(self.differences))}")
        return said


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


class _LeftOut(Exception):
    """A trial of the earlier sweep that this study cannot use; the message is the reason."""


def find_earlier(template: ExperimentTemplate, runs_root: Path) -> Path | None:
    """Folder of `search.start.sweep`: a name below `runs_root`, or a path; None where the file names none.

    Raises
    ------
    ExperimentError
        If there is no such sweep.
    """
    name = template.search.start.sweep
    if name is None:
        return None
    for folder in (runs_root / name, Path(name)):
        if (folder / STUDY_FILE).is_file():
            return folder
    known = sorted(path.parent.name for path in runs_root.glob(f"*/{STUDY_FILE}"))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise template.document.error(
        (*AT, "sweep"), f"expected a sweep below {runs_root} or the folder of one, found {name!r}{hint}"
    )


def warm_start(study: Study, template: ExperimentTemplate, runs_root: Path) -> WarmStart:
    """Put given points and an earlier sweep's trials into a study.

    Points wait in the study and are asked for before anything is proposed. Trials that are taken carry the user
    attribute `from_sweep`; they are no trials of this sweep (`jetsweep.search.best.own_trials`). What the study has
    already is not put into it again, so a resumed sweep may call this too.

    Parameters
    ----------
    study : optuna.Study
    template : ExperimentTemplate
    runs_root : Path
        Folder of sweeps.

    Raises
    ------
    ExperimentError
        If there is no such sweep, or it is one of other objectives.
    """
    report = WarmStart()
    earlier = find_earlier(template, runs_root)
    known = study.get_trials(deepcopy=False)
    if earlier is not None:
        report.sweep = earlier.resolve()
        have = {t.user_attrs[FROM_TRIAL] for t in known if t.user_attrs.get(FROM_SWEEP) == report.sweep.name}
        if not have:
            _take(study, template, earlier, report)
        report.taken = report.taken or len(have)
    queued = {t.user_attrs.get(START_POINT) for t in known}
    for i in range(len(template.search.start.points)):
        if i not in queued:
            point = resolve_point(template, i)
            leaves = {name: (template.space[name], value) for name, value in point.items()}
            params = {parameter(name, leaf)[0]: encode(leaf, value) for name, (leaf, value) in leaves.items()}
            study.enqueue_trial(params, user_attrs={START_POINT: i})
            report.points += 1
    return report


def _take(study: Study, template: ExperimentTemplate, folder: Path, report: WarmStart) -> None:
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState

    from jetsweep.experiment.template import load_experiment

    try:
        old = load_experiment(folder / "experiment.yaml")
    except JetsweepError as error:
        raise template.document.error((*AT, "sweep"), f"expected a sweep of this version, found {error}") from error
    positions = _positions(template, old)
    found: list[FrozenTrial] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        for trial in read_study(folder):
            try:
                found.append(_translate(trial, template, old, positions, folder, report))
            except _LeftOut as reason:
                report.left_out[str(reason)] += 1
        sign = -1.0 if template.search.objectives[0].mode == "max" else 1.0
        found.sort(key=lambda t: sign * t.values[0] if t.state == TrialState.COMPLETE else math.inf)
        limit = template.search.start.trials
        if limit is not None and len(found) > limit:
            report.left_out[f"search.start.trials is {limit}"] += len(found) - limit
            found = found[:limit]
        study.add_trials(found)
    report.taken = len(found)


def read_study(folder: Path) -> list[FrozenTrial]:
    """Trials of a sweep's study by number, without changing it."""
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path = str(folder / STUDY_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        return optuna.load_study(study_name=None, storage=storage).get_trials()


def _positions(template: ExperimentTemplate, old: ExperimentTemplate) -> list[int]:
    """Place of each objective of this sweep among those of the old one."""
    known = [objective.metric for objective in old.search.objectives]
    wanted = [objective.metric for objective in template.search.objectives]
    if not set(wanted) <= set(known):
        raise template.document.error(
            (*AT, "sweep"), f"expected a sweep with the objectives {', '.join(wanted)}, found {', '.join(known)}"
        )
    return [known.index(metric) for metric in wanted]


def _translate(
    trial: FrozenTrial,
    template: ExperimentTemplate,
    old: ExperimentTemplate,
    positions: list[int],
    folder: Path,
    report: WarmStart,
) -> FrozenTrial:
    """An earlier trial with the names and distributions of this space.

    Raises
    ------
    _LeftOut
        If it cannot have them, or has nothing to tell.
    """
    from optuna.trial import create_trial

    outcome = _outcome(trial, template, positions, folder)
    values, differences = _values(trial, template, old)
    leaves = {name: template.space[name] for name in values}
    forms = {name: parameter(name, leaf) for name, leaf in leaves.items()}
    taken = create_trial(
        params={forms[name][0]: encode(leaf, values[name]) for name, leaf in leaves.items()},
        distributions=dict(forms.values()),
        user_attrs={
            FROM_SWEEP: folder.resolve().name,
            FROM_TRIAL: trial.number,
            VIOLATIONS: outcome.get("constraints", {}),
        },
        **outcome,
    )
    report.differences |= differences
    return taken


def _outcome(trial: FrozenTrial, template: ExperimentTemplate, positions: list[int], folder: Path) -> dict[str, Any]:
    """State, values and constraints of an earlier trial, in this sweep's terms."""
    from optuna.trial import TrialState

    search, because = template.search, trial.user_attrs.get("stopped_because")
    if trial.state == TrialState.RUNNING:  # its sweep was stopped, and may still be resumed
        because = "interrupted"
    if not is_own(trial):
        raise _LeftOut("known from elsewhere to that sweep too")
    if because in ("budget", "patience") and trial.values is not None:
        constraints = {}
        if search.constraints:
            trial_dir = folder / "trials" / f"{trial.number:05d}"
            result = read_result(trial_dir)
            if result is None:
                raise _LeftOut("its results are gone, so search.constraints cannot be judged")
            bounds = [parse_constraint(text) for text in search.constraints]
            violations = violations_of(bounds, {**result["best"], **measured(result)})
            constraints = violations if search.sampler in USES_CONSTRAINTS else {}
        values = [trial.values[i] for i in positions]
        return {"state": TrialState.COMPLETE, "values": values, "constraints": constraints}
    if because in ("scheduler", "interrupted", "diverged") and search.sampler not in LEARNS_FROM_PRUNED:
        raise _LeftOut(f"did not train to its end, and {search.sampler} learns from complete trials only")
    if because == "diverged":
        return {"state": TrialState.PRUNED, "constraints": {"diverged": 1.0}}
    if because in ("scheduler", "interrupted") and trial.intermediate_values:
        if len(positions) > 1 or positions[0] != 0:
            raise _LeftOut("stopped early, before all objectives were known")
        reported = trial.intermediate_values
        return {"state": TrialState.PRUNED, "value": reported[max(reported)], "intermediate_values": reported}
    raise _LeftOut("has no result")


def _values(
    trial: FrozenTrial, template: ExperimentTemplate, old: ExperimentTemplate
) -> tuple[dict[str, Any], set[str]]:
    """Leaves of this space with an earlier trial's values, and settings in which the two experiments differ."""
    drawn = {}
    for optuna_name, value in trial.params.items():
        name = optuna_name.removesuffix(QUANTILE)
        if name not in old.space:
            raise _LeftOut(f"{name} is no leaf of its own file")
        drawn[name] = decode(old.space[name], value)
    try:
        before = _settings(old.concrete(drawn))
    except (ExperimentError, KeyError) as error:
        raise _LeftOut("is no valid experiment of its own file") from error
    used: dict[str, Any] = {}

    def ask(name: str, distribution: Any) -> Any:
        value = drawn[name] if name in drawn else _fixed(before, template.leaves[name].path, name)
        try:
            used[name] = value_of(distribution, value)
        except ValueError as error:
            raise _LeftOut(f"{name} is outside its range") from error
        return used[name]

    try:
        now = _settings(template.draw(ask))
    except ExperimentError as error:
        raise _LeftOut("is not allowed by this file") from error
    unknown = sorted(name for name in drawn if name not in used)
    if unknown:
        raise _LeftOut(f"{unknown[0]} is no leaf of this space")
    rows = changes(before, now)
    return used, {f"{path} ({_short(a)} → {_short(b)})" for path, a, b in rows}


def _fixed(settings: Mapping[str, Any], path: tuple[str | int, ...], name: str) -> Any:
    """What an experiment had, fixed, where this space has a leaf."""
    node: Any = settings
    for key in path:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            raise _LeftOut(f"it has no {dotted(path)}") from None
    return node


def _settings(experiment: Experiment) -> dict[str, Any]:
    return {k: v for k, v in experiment.model_dump(mode="json").items() if k not in _UNTOUCHED}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 30 else f"{text[:29]}…"
