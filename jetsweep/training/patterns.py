"""Patterns of parameter names, as in ``network.blocks.*``; one that matches nothing is a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from jetsweep.errors import JetsweepError


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether any of the patterns (``*``, ``?``, ``[…]``) matches a dotted name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def require_matches(key: str, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Refuse patterns that match none of `names`.

    Parameters
    ----------
    key : str
        Where the patterns stand in the experiment file.
    patterns, names : iterable of str

    Raises
    ------
    JetsweepError
        With the nearest name.
    """
    known = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise JetsweepError(f"{key}: {pattern!r} matches no parameter{_nearest(pattern, known)}")


def _nearest(pattern: str, names: list[str]) -> str:
    """What may have been meant: the beginning of a name for a pattern that ends in a star, else a whole name."""
    words = pattern.split(".")
    candidates = dict.fromkeys(names)
    if pattern.endswith("*"):
        depth = len(words) - 1
        candidates = dict.fromkeys(
            ".".join([*name.split(".")[:depth], "*"]) for name in names if name.count(".") >= depth
        )
    close = difflib.get_close_matches(pattern, candidates, n=1, cutoff=0.5)
    if close:
        return f", did you mean {close[0]!r}?"
    tops = dict.fromkeys(".".join([*name.split(".")[:2], "*"]) for name in names)
    return f"; there are {', '.join(tops)}"
