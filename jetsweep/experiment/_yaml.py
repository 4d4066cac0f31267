"""YAML 1.2 with the line of every key, so that a mistake can be shown where it was made."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jetsweep.errors import ExperimentError

Path_ = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a line of a file, or an override of the command line."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass
class Document:
    """A tree of plain mappings, lists and scalars, and the origin of each of its paths."""

    tree: dict[str, Any]
    origins: dict[Path_, Origin]

    def origin(self, path: Path_) -> Origin:
        """Origin of the nearest path that was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        raise AssertionError("a document has an origin at its top")

    def error(self, path: Path_, message: str, written: Path_ | None = None) -> ExperimentError:
        """Make the error ``file:line: path: message``; `written` is the path in the file where it is not `path`."""
        where = f"{dotted(path)}: " if path else ""
        return ExperimentError(f"{self.origin(path if written is None else written)}: {where}{message}")


def dotted(path: Path_) -> str:
    """``("search", "objectives", 0, "metric")`` as ``search.objectives[0].metric``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def shipped_folder() -> Path:
    """Folder of the search spaces that come with jetsweep: inside the wheel, or at the top of a checkout."""
    package = Path(str(resources.files("jetsweep")))
    inside = package / "_resources" / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def find_file(name: str | Path, beside: Path | None = None) -> Path:
    """Path of an experiment file: as given, beside another file, or shipped under that name.

    Raises
    ------
    ExperimentError
        If there is none; the message lists the shipped ones.
    """
    given = Path(name)
    folder = shipped_folder()
    candidates = [given if beside is None else beside.parent / given, folder / given.name]
    candidates += [path.with_name(f"{path.name}.yaml") for path in candidates if path.suffix != ".yaml"]
    for path in candidates:
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise ExperimentError(f"{name}: expected an experiment file, found none; jetsweep ships {shipped}")


def read_document(path: Path) -> Document:
    """Read one YAML file.

    Raises
    ------
    ExperimentError
        If the file cannot be read, is not YAML, repeats a key, or is not a mapping at its top.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        raw = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: cannot be read: {error}") from error
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = str(error.problem).split('"')[1]
        raise ExperimentError(f"{path}:{line}: {key}: expected each key once, found it again") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ExperimentError(
            f"{path}:{line}: expected YAML, found a mistake: {error.problem or error.context}"
        ) from error
    except YAMLError as error:
        raise ExperimentError(f"{path}: expected YAML, found a mistake: {str(error).splitlines()[0]}") from error
    if not isinstance(raw, dict):
        found = "an empty file" if raw is None else f"a {type(raw).__name__}"
        raise ExperimentError(f"{path}:1: expected a mapping with name, task, data and model, found {found}")
    origins: dict[Path_, Origin] = {(): Origin(str(path), 1)}
    tree = _plain(raw, (), str(path), origins)
    return Document(tree, origins)


def parse_value(text: str) -> Any:
    """Value of an override, read as YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _plain(YAML(typ="rt").load(text), (), "", {})
    except YAMLError as error:
        raise ExperimentError(
            f"-o …={text}: expected a YAML value, found a mistake: {str(error).splitlines()[0]}"
        ) from error


def _plain(value: Any, path: Path_, file: str, origins: dict[Path_, Origin]) -> Any:
    """Plain Python values of ruamel's, noting lines on the way."""
    lines = getattr(value, "lc", None)
    if isinstance(value, dict):
        assert lines is not None  # ruamel's round-trip collections know their lines
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                line = lines.key(key)[0] + 1
                raise ExperimentError(f"{file}:{line}: {dotted(path)}: expected keys that are words, found {key!r}")
            origins[(*path, key)] = Origin(file, lines.key(key)[0] + 1)
            plain[str(key)] = _plain(item, (*path, str(key)), file, origins)
        return plain
    if isinstance(value, list):
        assert lines is not None
        items = []
        for i, item in enumerate(value):
            origins[(*path, i)] = Origin(file, lines.item(i)[0] + 1)
            items.append(_plain(item, (*path, i), file, origins))
        return items
    if isinstance(value, bool) or value is None:
        return value
    # ruamel keeps how numbers and strings were written in subclasses
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)
