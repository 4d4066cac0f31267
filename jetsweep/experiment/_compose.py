"""One document from several: `extends`, profiles and overrides, with every origin kept."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from jetsweep.errors import ExperimentError
from jetsweep.experiment._yaml import Document, Origin, Path_, dotted, find_file, parse_value, read_document
from jetsweep.experiment.distributions import is_distribution


def compose(path: Path) -> Document:
    """Read a file on top of the files that it extends, later ones over earlier ones, each file once.

    Raises
    ------
    ExperimentError
        If a file is missing or wrong, or extends itself.
    """
    chain: dict[Path, Document] = {}
    _read_chain(path, (), chain)
    base, *others = chain.values()
    for document in others:
        base = merge(base, document)
    return base


def _read_chain(path: Path, below: tuple[Path, ...], chain: dict[Path, Document]) -> None:
    """Add a file's ancestors and then itself; an ancestor that two share stands below both."""
    document = read_document(path)
    if path.resolve() in below:
        raise document.error(("extends",), f"expected another file, found a circle back to {path}")
    parents = document.tree.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not (isinstance(parents, list) and all(isinstance(parent, str) for parent in parents)):
        raise document.error(("extends",), f"expected a file name or a list of them, found {parents!r}")
    for i, name in enumerate(parents):
        try:
            found = find_file(name, beside=path)
        except ExperimentError as error:
            raise document.error(("extends",), str(error), written=("extends", i)) from error
        if found.resolve() not in chain:
            _read_chain(found, (*below, path.resolve()), chain)
    chain[path.resolve()] = document


def merge(base: Document, top: Document) -> Document:
    """`top` over `base`: mappings are merged key by key; a distribution, or another `name`, replaces the whole."""
    tree: dict[str, Any] = {
        key: _merge_trees(base.tree[key], top.tree[key])
        if key in base.tree and key in top.tree
        else top.tree.get(key, base.tree.get(key))
        for key in {**base.tree, **top.tree}  # the experiment's own name selects nothing
    }
    origins = {**base.origins, **top.origins}
    origins[()] = top.origins[()]
    return Document(tree, origins)


def _merge_trees(base: Any, top: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(top, dict)) or is_distribution(base) or is_distribution(top):
        return top
    if "name" in top and "name" in base and top["name"] != base["name"]:
        return top
    return {
        key: _merge_trees(base[key], top[key]) if key in base and key in top else top.get(key, base.get(key))
        for key in {**base, **top}
    }


def apply_profile(document: Document, name: str | None) -> Document:
    """Take `profiles` out of the document and put one of them on top.

    Parameters
    ----------
    document : Document
    name : str or None
        A profile; None or ``"full"`` leaves the file as it stands.
    """
    profiles = document.tree.get("profiles", {})
    if not (isinstance(profiles, dict) and all(isinstance(profile, dict) for profile in profiles.values())):
        raise document.error(("profiles",), "expected a mapping of profile names to overrides")
    bare = Document({key: value for key, value in document.tree.items() if key != "profiles"}, document.origins)
    if name is None or (name == "full" and "full" not in profiles):
        return bare
    if name not in profiles:
        known = ["full", *profiles]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise document.error(("profiles",), f"expected one of the profiles {', '.join(known)}, found {name!r}{hint}")
    below = len(("profiles", name))
    origins = {path[below:]: origin for path, origin in document.origins.items() if path[:below] == ("profiles", name)}
    return merge(bare, Document(profiles[name], {**origins, (): document.origins[()]}))


def apply_override(document: Document, text: str) -> Document:
    """Set one key from ``a.b.c=value``; the value is YAML and may be a distribution."""
    key, equals, value = text.partition("=")
    origin = Origin(f"-o {text}")
    if not equals or not key.strip():
        raise ExperimentError(f"-o {text}: expected key=value, e.g. training.epochs=3")
    path = tuple(
        int(part) if part.isdigit() else part for part in key.strip().replace("[", ".").replace("]", "").split(".")
    )
    tree = _with_value(document.tree, path, parse_value(value), origin, path)
    kept = {known: where for known, where in document.origins.items() if known[: len(path)] != path}
    return Document(tree, {**kept, path: origin})


def _with_value(node: Any, path: Path_, value: Any, origin: Origin, whole: Path_) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(key, int):
        if not isinstance(node, list) or key >= len(node):
            raise ExperimentError(f"{origin}: {dotted(whole)}: expected a position in a list, found {key}")
        return [
            _with_value(item, tuple(rest), value, origin, whole) if i == key else item for i, item in enumerate(node)
        ]
    if is_distribution(node) or not isinstance(node, dict | None):
        # the override goes into something that was drawn or a plain value: `model: pfn` becomes {name: pfn}
        node = {"name": node} if isinstance(node, str) else {}
    node = node or {}
    return {**node, key: _with_value(node.get(key), tuple(rest), value, origin, whole)}


def changes(before: Any, after: Any, path: Path_ = ()) -> list[tuple[str, Any, Any]]:
    """Leaves that differ between two trees: (path, before, after), None where there was nothing."""
    if (
        isinstance(before, dict)
        and isinstance(after, dict)
        and not is_distribution(before)
        and not is_distribution(after)
    ):
        rows = []
        for key in {**before, **after}:
            rows += changes(before.get(key), after.get(key), (*path, key))
        return rows
    return [] if before == after else [(dotted(path), before, after)]
