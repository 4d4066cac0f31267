"""`search.require`: statements about an experiment that every draw must meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment._validate import REGISTRIES, config_class, did_you_mean, model_in
from jetsweep.experiment._yaml import Document, Path_, dotted
from jetsweep.experiment.expressions import Expression, parse_expression
from jetsweep.experiment.schema import Experiment

AT: Path_ = ("search", "require")


class Unmet(ExperimentError):
    """A draw that a requirement refuses; another one may do."""


class _Absent(Exception):
    """The drawn branch has no such key."""


class _Null(_Absent):
    """The key is there without a value."""


@dataclass
class Requirement:
    """One statement, and which of its names any draw has had so far.

    Parameters
    ----------
    expression : Expression
    path : tuple
        Where the file says it.
    """

    expression: Expression
    path: Path_
    found: set[Path_] = field(default_factory=set)

    def check(self, tree: dict[str, Any], document: Document) -> None:
        """Look at a drawn tree, before it is validated: what is drawn again need not be valid.

        A requirement about a key that the drawn branch does not have, or that is null, is not applied.

        Raises
        ------
        Unmet
            If the draw does not meet it.
        ExperimentError
            If the statement has no truth value.
        """
        values: dict[Path_, Any] = {}
        for name in self.expression.names:
            try:
                values[name] = value_at(tree, name)
                self.found.add(name)
            except _Null:
                self.found.add(name)
            except _Absent:
                continue
        if len(values) < len(self.expression.names):
            return
        try:
            holds = self.expression.holds(values.__getitem__)
        except ValueError as error:
            raise document.error(self.path, f"{self.expression.text}: {error}") from error
        if not holds:
            found = ", ".join(f"{dotted(name)} = {value!r}" for name, value in values.items())
            raise Unmet(str(document.error(self.path, f"expected {self.expression.text}, found {found or 'false'}")))

    def check_names(self, experiments: Iterable[Experiment], document: Document) -> None:
        """Refuse a name that no draw has had.

        Raises
        ------
        ExperimentError
            With the nearest key that exists.
        """
        for name in self.expression.names:
            if name not in self.found:
                known = dict.fromkeys(key for e in experiments for key in _keys(e.model_dump(mode="json")))
                shown = dotted(name)
                hint = did_you_mean(shown, known) or ("" if "." in shown else "; words are written in quotes")
                raise document.error(
                    self.path, f"{self.expression.text}: expected a key of the experiment, found {shown!r}{hint}"
                )


def requirements_of(document: Document) -> list[Requirement]:
    """Parse the requirements of a file; what is no list of texts is left to the validation of the whole.

    Raises
    ------
    ExperimentError
        If one is no statement.
    """
    search = document.tree.get("search")
    texts = search.get("require", []) if isinstance(search, dict) else []
    requirements = []
    for i, text in enumerate(texts if isinstance(texts, list) else []):
        if isinstance(text, str):
            try:
                requirements.append(Requirement(parse_expression(text), (*AT, i)))
            except ValueError as error:
                raise document.error((*AT, i), str(error)) from error
    return requirements


def value_at(tree: dict[str, Any], path: Path_) -> Any:
    """Value of a path in a tree without distributions; where the tree is silent, the default that validation would set.

    Raises
    ------
    _Absent
        If there is none.
    _Null
        If it is null.
    """
    node: Any = tree
    model: type[BaseModel] | None = Experiment
    for depth, key in enumerate(path):
        node, annotation = _child(node, model, key), _annotation(model, key)
        here = path[: depth + 1]
        if here in REGISTRIES and isinstance(node, str):
            node = {"name": node}  # `model: pfn`
        if here in REGISTRIES and isinstance(node, dict):
            try:
                model = config_class(here, REGISTRIES[here], str(node.get("name")))
            except JetsweepError as error:  # validation has the better words
                raise _Absent from error
        else:
            model = model_in(annotation, node) if annotation is not None else None
    if node is None:
        raise _Null
    return node


def _child(node: Any, model: type[BaseModel] | None, key: str | int) -> Any:
    if isinstance(node, list | tuple) and isinstance(key, int):
        if -len(node) <= key < len(node):
            return node[key]
        raise _Absent
    if isinstance(node, dict) and key in node:
        return node[key]
    if isinstance(node, BaseModel) and key in type(node).model_fields:
        return getattr(node, str(key))
    if isinstance(node, dict) and model is not None and key in model.model_fields:
        default = model.model_fields[str(key)].get_default(call_default_factory=True, validated_data={})
        if default is not PydanticUndefined:
            return default
    raise _Absent


def _annotation(model: type[BaseModel] | None, key: str | int) -> Any:
    return model.model_fields[key].annotation if model is not None and key in model.model_fields else None


def _keys(node: Any, path: Path_ = ()) -> list[str]:
    """Dotted paths of all leaves."""
    if isinstance(node, dict):
        return [key for name, item in node.items() for key in _keys(item, (*path, name))]
    return [dotted(path)]
