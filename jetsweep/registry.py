"""One small registry for models, tasks and sources: a name is a file, and one import loads one entry."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from jetsweep.errors import JetsweepError

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries of one kind, found by file name (``models/my_net.py`` is ``my-net``) or entry point.

    Parameters
    ----------
    kind : str
        Word for messages, e.g. ``"model"``.
    package : str
        Package whose public modules are the built-in entries, e.g. ``"jetsweep.models"``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Decorate the entry called `name`; a second claim to a name is an error."""

        def register(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {self._entries[name]} and {entry}")
            self._entries[name] = entry
            return entry

        return register

    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.package)}

    def names(self) -> list[str]:
        """Names of all entries, without importing any."""
        package = importlib.import_module(self.package)
        files = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
        return sorted({name.replace("_", "-") for name in files} | set(self._plugins()) | set(self._entries))

    def get(self, name: str) -> T:
        """Import and return the entry called `name`.

        Raises
        ------
        JetsweepError
            If there is none, or if a plug-in cannot be imported.
        """
        if name in self._entries:
            return self._entries[name]
        if name not in self.names():
            close = difflib.get_close_matches(name, self.names(), n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise JetsweepError(f"unknown {self.kind} {name!r}; there are {', '.join(self.names())}{hint}")
        plugins = self._plugins()
        if name in plugins:
            try:
                self._entries.setdefault(name, plugins[name].load())
            except Exception as error:
                where = plugins[name].value
                raise JetsweepError(f"{self.kind} {name!r} from {where} cannot be imported: {error}") from error
        else:
            importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        if name not in self._entries:
            raise AssertionError(f"{self.package}.{name.replace('-', '_')} does not register {name!r}")
        return self._entries[name]
