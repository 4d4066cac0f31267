"""An experiment file as it stands: fixed values and distributions, and how to draw an experiment from it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jetsweep.data.sources._base import SOURCES
from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment._compose import apply_override, apply_profile, changes, compose
from jetsweep.experiment._validate import did_you_mean, validate_tree
from jetsweep.experiment._yaml import Document, Path_, dotted, find_file
from jetsweep.experiment.constraints import OUTCOMES, parse_constraint
from jetsweep.experiment.distributions import Choice, Distribution, draw, is_distribution, is_finite, parse, probes
from jetsweep.experiment.points import check_points
from jetsweep.experiment.requirements import Unmet, requirements_of
from jetsweep.experiment.schema import Experiment
from jetsweep.tasks._base import TASKS, build_task

Ask = Callable[[str, Distribution], Any]
"""Draws the leaf of a name: the label of a `Choice`, the number of any other distribution."""


_MAX_REFUSED = 200
"""Random draws after which an option counts as one that requirements never allow."""


@dataclass(frozen=True)
class Leaf:
    """A distribution: its name, its path in the drawn tree, the path where it was written, and its mapping."""

    name: str
    path: Path_
    written: Path_
    spec: dict[str, Any]


class ExperimentTemplate:
    """A checked experiment file.

    Parameters
    ----------
    document : Document
        The tree after `extends`, profile and overrides.
    file : Path
    profile : str or None
    profile_changes : list of (path, before, after)
        What the profile changed.

    Raises
    ------
    ExperimentError
        If any value that can be drawn would make a wrong experiment.
    """

    def __init__(
        self, document: Document, file: Path, profile: str | None, profile_changes: list[tuple[str, Any, Any]]
    ) -> None:
        self.document, self.file, self.profile, self.profile_changes = document, file, profile, profile_changes
        self.space: dict[str, Distribution] = {}
        """Every leaf that may be drawn, by name; leaves of a branch are called like ``model[part].num_layers``."""
        self.leaves: dict[str, Leaf] = {}
        """Where each leaf of `space` was written."""
        self.examples: list[Experiment] = []
        """Valid experiments that together show every option and both ends of every range."""
        self._seen: dict[tuple[str, Path_], list[Any]] = {}
        self._refusal: Unmet | None = None
        self._requirements = requirements_of(document)
        self._check()
        # a plain view of what does not vary: name, search, tracking and resources are the same for all trials
        self.example = self.examples[0]
        self.search, self.tracking, self.name = self.example.search, self.example.tracking, self.example.name
        check_points(self)

    def draw(self, ask: Ask) -> Experiment:
        """Make the experiment whose leaves `ask` draws; conditional leaves are asked for only where they apply.

        Raises
        ------
        Unmet
            If `search.require` refuses the draw.
        ExperimentError
            If the draw is no valid experiment.
        """
        tree, paths = self._resolve(ask)
        for requirement in self._requirements:
            requirement.check(tree, self.document)
        return validate_tree(tree, self.document, paths)

    suggest = draw

    def concrete(self, assignment: dict[str, Any]) -> Experiment:
        """Make the experiment of given leaves (labels of choices, numbers otherwise)."""
        return self.draw(lambda name, distribution: assignment[name])

    def to_json(self) -> str:
        """The resolved file with its distributions, as JSON."""
        return json.dumps(self.document.tree, indent=1)

    def to_yaml(self) -> str:
        """The resolved file with its distributions, as YAML."""
        import io

        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.default_flow_style = None
        stream = io.StringIO()
        yaml.dump(self.document.tree, stream)
        return stream.getvalue()

    def _resolve(self, ask: Ask) -> tuple[dict[str, Any], dict[Path_, Path_]]:
        """Tree with every distribution drawn; and, by path in it, where in the document drawn branches come from."""
        tree = copy.deepcopy(self.document.tree)
        sources: dict[Path_, Path_] = {}
        pending = self._collect(tree, (), "", ())
        while pending:
            waiting = {leaf.path for leaf in pending}
            ready = next((leaf for leaf in pending if not self._waits(leaf, waiting)), None)
            if ready is None:
                leaf = pending[0]
                raise self.error(leaf, f"when: expected conditions without a circle, found {leaf.spec['when']}")
            pending.remove(ready)
            self.leaves.setdefault(ready.name, ready)
            if not self._applies(ready, tree):
                _remove(tree, ready.path)
                continue
            distribution = self._parse(ready)
            drawn = ask(ready.name, distribution)
            if isinstance(distribution, Choice):
                position = list(distribution.labels).index(drawn)
                value = copy.deepcopy(distribution.option(drawn))
                source = (*ready.written, "choice", position)
                sources[ready.path] = source
                _set(tree, ready.path, value)
                pending += self._collect(value, ready.path, f"{ready.name}[{drawn}]", source)
            else:
                _set(tree, ready.path, drawn)
        return tree, sources

    def _collect(self, node: Any, path: Path_, prefix: str, source: Path_) -> list[Leaf]:
        """Distributions below `node`, which sits at `path`; their names start with `prefix` if there is one."""
        found: list[Leaf] = []

        def walk(value: Any, below: Path_) -> None:
            if is_distribution(value):
                name = dotted((*path, *below)) if not prefix else prefix + (f".{dotted(below)}" if below else "")
                found.append(Leaf(name, (*path, *below), (*source, *below), value))
            elif isinstance(value, dict):
                for key, item in value.items():
                    walk(item, (*below, key))
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    walk(item, (*below, i))

        walk(node, ())
        return found

    def _parse(self, leaf: Leaf) -> Distribution:
        if leaf.path[:2] == ("data", "source") or leaf.path[0] in ("name", "search", "tracking", "resources"):
            place = "data.source" if leaf.path[0] == "data" else leaf.path[0]
            raise self.error(leaf, f"expected a fixed value below {place}, found a distribution")
        try:
            return parse(leaf.spec)
        except ValueError as error:
            raise self.error(leaf, str(error)) from error

    def _conditions(self, leaf: Leaf) -> dict[Path_, list[Any]]:
        when = leaf.spec.get("when", {})
        if not isinstance(when, dict):
            raise self.error(leaf, f"when: expected path: value, e.g. {{model.name: part}}, found {when!r}")
        return {
            tuple(int(part) if part.isdigit() else part for part in key.split(".")): value
            if isinstance(value, list)
            else [value]
            for key, value in when.items()
        }

    def error(self, leaf: Leaf, message: str) -> ExperimentError:
        """Error about a leaf, with the line where it was written."""
        return self.document.error(leaf.path, message, written=leaf.written)

    def _waits(self, leaf: Leaf, waiting: set[Path_]) -> bool:
        """Whether a condition concerns something that is not drawn yet."""
        for path in self._conditions(leaf):
            for other in waiting - {leaf.path}:
                shared = min(len(path), len(other))
                if path[:shared] == other[:shared]:
                    return True
        return False

    def _applies(self, leaf: Leaf, tree: dict[str, Any]) -> bool:
        for path, values in self._conditions(leaf).items():
            node: Any = tree
            for key in path:
                try:
                    # `model: pfn` stands for {name: pfn}
                    node = (node if key == "name" else None) if isinstance(node, str) else node[key]
                except (KeyError, IndexError, TypeError):
                    node = None
            self._seen.setdefault((leaf.name, path), []).append(node)
            if node not in values:
                return False
        return True

    def _check(self) -> None:
        """Validate experiments that together show every option and both ends of every range."""
        first, seen = self._probe({}, {})
        if first is None:
            assert self._refusal is not None  # nothing but a requirement refuses a draw silently
            raise ExperimentError(f"{self._refusal}; none of {_MAX_REFUSED} draws meets search.require")
        self._check_task(first)
        self._check_objectives(first)
        todo = [({name: value}, seen) for name in seen for value in probes(self.space[name])[1:]]
        opened, done = set(seen), set()
        while todo:
            fixed, base = todo.pop(0)
            *_, (name, value) = fixed.items()
            if (name, str(value)) in done:
                continue
            done.add((name, str(value)))
            _, seen = self._probe(fixed, base)
            for fresh in seen.keys() - opened:
                # a leaf of the branch that `name: value` opens: its other ends need the branch open as well
                todo += [({**fixed, fresh: other}, seen) for other in probes(self.space[fresh])[1:]]
            opened |= seen.keys()
        for requirement in self._requirements:
            requirement.check_names(self.examples, self.document)
        if first.search.sampler == "grid":
            for name, distribution in self.space.items():
                if not is_finite(distribution):
                    raise self.error(
                        self.leaves[name],
                        "expected values that a grid can list (choice, int, or uniform with a step), found a continuum",
                    )
        self._check_conditions()

    def _probe(self, fixed: dict[str, Any], base: dict[str, Any]) -> tuple[Experiment | None, dict[str, Any]]:
        """Draw an experiment with some leaves `fixed`; the others as in `base`, or at random where that is refused.

        Returns
        -------
        experiment, drawn : Experiment or None, dict
            None where no draw meets the requirements.
        """
        rng = random.Random(0)
        for attempt in range(_MAX_REFUSED):
            drawn: dict[str, Any] = {}

            def ask(name: str, leaf: Distribution, again: int = attempt, drawn: dict[str, Any] = drawn) -> Any:
                self.space.setdefault(name, leaf)
                if name in fixed:
                    drawn[name] = fixed[name]
                else:
                    drawn[name] = draw(leaf, rng) if again else base.get(name, probes(leaf)[0])
                return drawn[name]

            try:
                experiment = self.draw(ask)
            except Unmet as error:
                self._refusal = error
            else:
                self.examples.append(experiment)
                return experiment, drawn
        return None, {}

    def _check_conditions(self) -> None:
        """Refuse a `when` that no experiment can meet: a misspelt path or value."""
        for (name, path), seen in self._seen.items():
            leaf, shown = self.leaves[name], dotted(path)
            if all(value is None for value in seen):
                hint = did_you_mean(
                    shown, [dotted(known) for known in self.document.origins if len(known) == len(path)]
                )
                raise self.error(leaf, f"when: expected a key that the file sets, found {shown!r}{hint}")
            wanted = self._conditions(leaf)[path]
            drawn = self.space.get(shown)
            if (drawn is None or isinstance(drawn, Choice)) and not any(value in wanted for value in seen):
                values = sorted({str(value) for value in seen if value is not None})
                raise self.error(
                    leaf,
                    f"when: expected a value that {shown} can have ({', '.join(values)}), "
                    f"found {', '.join(map(str, wanted))}{did_you_mean(wanted[0], values)}",
                )

    def _check_task(self, experiment: Experiment) -> None:
        """Refuse a class that the source does not have; of a dataset at a path the classes are not known yet."""
        if experiment.data.source is None:
            return
        try:
            build_task(experiment.task, SOURCES.get(experiment.data.source.name)(experiment.data.source).classes)
        except JetsweepError as error:
            path, _, message = str(error).partition(": ")
            raise self.document.error(tuple(path.split(".")), message) from error

    def _check_objectives(self, experiment: Experiment) -> None:
        known = [f"val/{name}" for name in TASKS.get(experiment.task.name).task.metrics_of(experiment.task)]
        wanted: dict[Path_, str] = {("training", "monitor", "metric"): experiment.training.monitor.metric}
        for i, objective in enumerate(experiment.search.objectives):
            wanted["search", "objectives", i, "metric"] = objective.metric
        for path, metric in wanted.items():
            if metric not in known and metric != "train/loss" and (path[0], metric) != ("training", "epoch"):
                message = f"expected one of the metrics {', '.join(known)}, found {metric!r}"
                raise self.document.error(path, message + did_you_mean(metric, known))
        for i, text in enumerate(experiment.search.constraints):
            try:
                parse_constraint(text, [*known, "train/loss", *OUTCOMES])
            except ValueError as error:
                raise self.document.error(("search", "constraints", i), str(error)) from error


def _set(tree: Any, path: Path_, value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


def _remove(tree: Any, path: Path_) -> None:
    for key in path[:-1]:
        tree = tree[key]
    del tree[path[-1]]


def load_experiment(
    path: str | Path, overrides: list[str] | tuple[str, ...] = (), profile: str | None = None
) -> ExperimentTemplate:
    """Read, compose and check an experiment file.

    Parameters
    ----------
    path : str or Path
        File, or the name of one that jetsweep ships.
    overrides : list of str
        ``"a.b.c=value"``, applied last.
    profile : str or None
        One of the file's `profiles`; None takes the file as it stands.

    Raises
    ------
    ExperimentError
        One sentence: ``file:line: path: what was expected, what was found``.
    """
    file = find_file(path)
    written = compose(file)
    full, document = apply_profile(written, None), apply_profile(written, profile)
    difference = changes(full.tree, document.tree)
    for override in overrides:
        document = apply_override(document, override)
    return ExperimentTemplate(document, file, profile, difference)


def profiles_of(path: str | Path) -> list[str]:
    """Names of the profiles that a file has."""
    return list(compose(find_file(path)).tree.get("profiles", {}))
