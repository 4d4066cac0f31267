"""An experiment file as it stands: fixed values and distributions, and how to draw an experiment from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jetsweep.data.sources._base import SOURCES
from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment._compose import apply_override, apply_profile, changes, compose
from jetsweep.experiment._validate import did_you_mean, validate_tree
from jetsweep.experiment._yaml import Document, Path_, dotted, find_file
from jetsweep.experiment.distributions import Choice, Distribution, is_distribution, is_finite, parse, probes
from jetsweep.experiment.schema import Experiment
from jetsweep.tasks._base import TASKS, build_task

Ask = Callable[[str, Distribution], Any]
"""Draws the leaf of a name: the label of a `Choice`, the number of any other distribution."""


@dataclass(frozen=True)
class _Leaf:
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
        self._leaves: dict[str, _Leaf] = {}
        self._seen: dict[tuple[str, Path_], list[Any]] = {}
        self._check()
        # a plain view of what does not vary: name, search, tracking and resources are the same for all trials
        self.example = self.draw(lambda name, distribution: probes(distribution)[0])
        self.search, self.tracking, self.name = self.example.search, self.example.tracking, self.example.name

    def draw(self, ask: Ask) -> Experiment:
        """Make the experiment whose leaves `ask` draws; conditional leaves are asked for only where they apply."""
        tree, paths = self._resolve(ask)
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
                raise self._error(leaf, f"when: expected conditions without a circle, found {leaf.spec['when']}")
            pending.remove(ready)
            self._leaves.setdefault(ready.name, ready)
            if not self._applies(ready, tree):
                _remove(tree, ready.path)
                continue
            distribution = self._parse(ready)
            drawn = ask(ready.name, distribution)
            if isinstance(distribution, Choice):
                position = list(distribution.labels).index(drawn)
                value = copy.deepcopy(distribution.option(drawn))
                source = (*sources.get(ready.path, ready.path), "choice", position)
                sources[ready.path] = source
                _set(tree, ready.path, value)
                pending += self._collect(value, ready.path, f"{ready.name}[{drawn}]", source)
            else:
                _set(tree, ready.path, drawn)
        return tree, sources

    def _collect(self, node: Any, path: Path_, prefix: str, source: Path_) -> list[_Leaf]:
        """Distributions below `node`, which sits at `path`; their names start with `prefix` if there is one."""
        found: list[_Leaf] = []

        def walk(value: Any, below: Path_) -> None:
            if is_distribution(value):
                name = dotted((*path, *below)) if not prefix else prefix + (f".{dotted(below)}" if below else "")
                found.append(_Leaf(name, (*path, *below), (*source, *below), value))
            elif isinstance(value, dict):
                for key, item in value.items():
                    walk(item, (*below, key))
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    walk(item, (*below, i))

        walk(node, ())
        return found

    def _parse(self, leaf: _Leaf) -> Distribution:
        if leaf.path[:2] == ("data", "source") or leaf.path[0] in ("name", "search", "tracking", "resources"):
            place = "data.source" if leaf.path[0] == "data" else leaf.path[0]
            raise self._error(leaf, f"expected a fixed value below {place}, found a distribution")
        try:
            return parse(leaf.spec)
        except ValueError as error:
            raise self._error(leaf, str(error)) from error

    def _conditions(self, leaf: _Leaf) -> dict[Path_, list[Any]]:
        when = leaf.spec.get("when", {})
        if not isinstance(when, dict):
            raise self._error(leaf, f"when: expected path: value, e.g. {{model.name: part}}, found {when!r}")
        return {
            tuple(int(part) if part.isdigit() else part for part in key.split(".")): value
            if isinstance(value, list)
            else [value]
            for key, value in when.items()
        }

    def _error(self, leaf: _Leaf, message: str) -> ExperimentError:
        """Error about a leaf, with the line where it was written."""
        return self.document.error(leaf.path, message, written=leaf.written)

    def _waits(self, leaf: _Leaf, waiting: set[Path_]) -> bool:
        """Whether a condition concerns something that is not drawn yet."""
        for path in self._conditions(leaf):
            for other in waiting - {leaf.path}:
                shared = min(len(path), len(other))
                if path[:shared] == other[:shared]:
                    return True
        return False

    def _applies(self, leaf: _Leaf, tree: dict[str, Any]) -> bool:
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
        first = self._probe({})
        self._check_task(first)
        self._check_objectives(first)
        todo = [(name, value) for name in self.space for value in probes(self.space[name])[1:]]
        done = set()
        while todo:
            name, value = todo.pop(0)
            if (name, str(value)) in done:
                continue
            done.add((name, str(value)))
            before = set(self.space)
            self._probe({name: value})
            for fresh in set(self.space) - before:
                # a leaf of the branch that `name: value` opens: its other ends need the branch open as well
                for other in probes(self.space[fresh])[1:]:
                    self._probe({name: value, fresh: other})
                    done.add((fresh, str(other)))
        if first.search.sampler == "grid":
            for name, distribution in self.space.items():
                if not is_finite(distribution):
                    raise self._error(
                        self._leaves[name],
                        "expected values that a grid can list (choice, int, or uniform with a step), found a continuum",
                    )
        self._check_conditions()

    def _probe(self, fixed: dict[str, Any]) -> Experiment:
        def ask(name: str, distribution: Distribution) -> Any:
            self.space.setdefault(name, distribution)
            return fixed[name] if name in fixed else probes(distribution)[0]

        return self.draw(ask)

    def _check_conditions(self) -> None:
        """Refuse a `when` that no experiment can meet: a misspelt path or value."""
        for (name, path), seen in self._seen.items():
            leaf, shown = self._leaves[name], dotted(path)
            if all(value is None for value in seen):
                hint = did_you_mean(
                    shown, [dotted(known) for known in self.document.origins if len(known) == len(path)]
                )
                raise self._error(leaf, f"when: expected a key that the file sets, found {shown!r}{hint}")
            wanted = self._conditions(leaf)[path]
            drawn = self.space.get(shown)
            if (drawn is None or isinstance(drawn, Choice)) and not any(value in wanted for value in seen):
                values = sorted({str(value) for value in seen if value is not None})
                raise self._error(
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
            if metric not in known and metric != "train/loss":
                message = f"expected one of the metrics {', '.join(known)}, found {metric!r}"
                raise self.document.error(path, message + did_you_mean(metric, known))


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
