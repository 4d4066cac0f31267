"""From a concrete tree to an `Experiment`; pydantic's complaints become one sentence at the place that was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from jetsweep.data.sources._base import SOURCES
from jetsweep.errors import ExperimentError, JetsweepError
from jetsweep.experiment._yaml import Document, Path_
from jetsweep.experiment.distributions import KINDS, OPTIONS
from jetsweep.experiment.schema import Experiment
from jetsweep.models._base import MODELS
from jetsweep.models._features import COLUMNS
from jetsweep.models._jet_model import preprocessing_of
from jetsweep.registry import Registry
from jetsweep.tasks._base import TASKS

REGISTRIES: dict[Path_, Registry[Any]] = {("model",): MODELS, ("task",): TASKS, ("data", "source"): SOURCES}
"""Parts of an experiment whose settings depend on a registered name."""


def validate_tree(tree: dict[str, Any], document: Document, sources: dict[Path_, Path_]) -> Experiment:
    """Validate a tree without distributions.

    Parameters
    ----------
    tree : dict
    document : Document
        Gives the line of every value.
    sources : dict
        Where in the document a drawn branch at a path of the tree was written.

    Raises
    ------
    ExperimentError
        For the first mistake.
    """
    for path, registry in REGISTRIES.items():
        _validate_part(tree, path, registry, document, sources)
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, (), tree, document, sources) from error
    _check_features(experiment, document, sources)
    return experiment


def _check_features(experiment: Experiment, document: Document, sources: dict[Path_, Path_]) -> None:
    """Refuse a feature set that does not exist or lacks what the network asks for."""
    model = experiment.model
    try:
        preprocessing_of(model, experiment.data.max_constituents)
    except ValueError as error:
        hint = did_you_mean(model.features, COLUMNS)
        raise _at(document, ("model", "features"), sources, f"{error}{hint}") from error


def _validate_part(
    tree: dict[str, Any], path: Path_, registry: Any, document: Document, sources: dict[Path_, Path_]
) -> None:
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, str):
        node = {"name": node}
    if not isinstance(node, dict) or not isinstance(node.get("name"), str):
        if node is None:
            # a section that is not there is the business of the whole
            return
        raise _at(document, path, sources, f"expected a mapping with a name, one of {', '.join(registry.names())}")
    try:
        config = config_class(path, registry, node["name"])
    except JetsweepError as error:
        raise _at(document, (*path, "name"), sources, str(error)) from error
    try:
        config.model_validate(node)
    except ValidationError as error:
        raise _explain(error, path, tree, document, sources) from error


def config_class(path: Path_, registry: Any, name: str) -> type[BaseModel]:
    entry = registry.get(name)
    config: type[BaseModel] = entry.options if path == ("data", "source") else entry.config
    return config


def _at(document: Document, path: Path_, sources: dict[Path_, Path_], message: str) -> ExperimentError:
    """Error at a path of the tree, with the line of the branch that was drawn there."""
    for length in range(len(path), 0, -1):
        if path[:length] in sources:
            return document.error(path, message, written=(*sources[path[:length]], *path[length:]))
    return document.error(path, message)


def _explain(
    error: ValidationError, prefix: Path_, tree: dict[str, Any], document: Document, sources: dict[Path_, Path_]
) -> ExperimentError:
    # a misspelt key is the cause of the key that is missing
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = _real_path((*prefix, *first["loc"]), tree)
    message = str(first["msg"]).removeprefix("Value error, ")
    found = first.get("input")
    kind = first["type"]
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1], tree)
        hint = did_you_mean(path[-1], known)
        message = f"expected one of the keys {', '.join(known)}, found {path[-1]!r}{hint}"
    elif kind == "missing":
        message = f"expected the key {path[-1]!r}, found none"
    elif kind in ("union_tag_invalid", "literal_error"):
        context = first["ctx"]
        known_text = str(context.get("expected_tags") or context.get("expected"))
        tag = context.get("tag", found)
        words = [word.strip(" '") for word in known_text.replace(" or ", ", ").split(",")]
        hint = did_you_mean(tag, words)
        if kind == "union_tag_invalid":
            path = (*path, "name")
        message = f"expected {known_text.replace(' or ', ', ')}, found {tag!r}{hint}"
    elif message.startswith("Input should be "):
        expected = message.removeprefix("Input should be ").split(", unable to")[0].split(", got ")[0]
        message = f"expected {expected}, found {found!r}{_misspelt_distribution(found)}"
    elif kind != "value_error":
        message = f"{message[0].lower()}{message[1:]}, found {found!r}"
    return _at(document, path, sources, message)


def did_you_mean(found: object, known: Iterable[str]) -> str:
    """End of a sentence: the known word nearest to what was found, if any is near."""
    close = difflib.get_close_matches(str(found), list(known), n=1)
    return f", did you mean {close[0]!r}?" if close and close[0] != found else ""


def _misspelt_distribution(found: Any) -> str:
    """Hint for a mapping at the place of a number that was meant to be a distribution."""
    if not isinstance(found, dict):
        return ""
    hints = [did_you_mean(key, (*KINDS, *OPTIONS)) for key in found if key not in (*KINDS, *OPTIONS)]
    return next((hint for hint in hints if hint), f"; distributions are {', '.join(KINDS)}")


def _real_path(location: tuple[str | int, ...], tree: Any) -> Path_:
    """Drop from pydantic's location what is not a key: tags of unions."""
    path: list[str | int] = []
    node = tree
    for i, key in enumerate(location):
        last = i == len(location) - 1
        if isinstance(node, dict):
            if key in node:
                node = node[key]
            elif not last or key == node.get("name"):
                continue
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        elif not last:
            continue
        path.append(key)
    return tuple(path)


def _below(node: Any, key: str | int) -> Any:
    if isinstance(node, dict):
        return node.get(key)
    return node[key] if isinstance(node, list) and isinstance(key, int) and key < len(node) else None


def _known_keys(path: Path_, tree: Any) -> list[str]:
    """Keys that may stand below `path`, for the message about one that may not."""
    model: type[BaseModel] | None = Experiment
    node: Any = tree
    for depth, key in enumerate(path):
        node = _below(node, key)
        registry = REGISTRIES.get(path[: depth + 1])
        if registry is not None and isinstance(node, dict):
            model = config_class(path[: depth + 1], registry, node["name"])
        elif model is not None and key in model.model_fields:  # else a name of the user's own, of a mapping
            model = model_in(model.model_fields[str(key)].annotation, node)
    return sorted(model.model_fields) if model is not None else []


def model_in(annotation: Any, node: Any) -> type[BaseModel] | None:
    """The pydantic model of a field; of a union the one whose `name` is the node's."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [model for part in get_args(annotation) if (model := model_in(part, node)) is not None]
    name = node.get("name") if isinstance(node, dict) else None
    for model in found:
        if "name" in model.model_fields and model.model_fields["name"].default == name:
            return model
    return found[0] if found else None
