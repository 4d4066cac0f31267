"""A tiny language for statements about an experiment: ``model.embed_dim % model.num_heads == 0``.

Numbers, words in quotes, ``true`` and ``false``; dotted keys of the experiment, with ``[i]`` for places in lists;
``+ - * / // %``, comparisons, ``and or not`` and parentheses. Nothing can be called, and nothing but the experiment
can be reached.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jetsweep.experiment._yaml import Path_, dotted

Value = int | float | str | bool

MAX_LENGTH, MAX_DEPTH = 500, 40

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_EQUALITY: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_BOOLS = {"true": True, "false": False}


@dataclass(frozen=True)
class Expression:
    """A parsed statement.

    Parameters
    ----------
    text : str
    names : tuple of paths
        Keys of the experiment that it mentions, each once.
    tree : ast.expr
        Holds nothing but what the language has.
    """

    text: str
    names: tuple[Path_, ...]
    tree: ast.expr

    def holds(self, lookup: Callable[[Path_], Any]) -> bool:
        """Whether the statement is true.

        Parameters
        ----------
        lookup : callable
            Value of a path: a number, a word or a boolean.

        Raises
        ------
        ValueError
            If it has no truth value: a division by zero, a word in arithmetic, a number where true or false belongs.
        """
        try:
            return _truth(_evaluate(self.tree, lookup), self.tree)
        except (ZeroDivisionError, OverflowError) as error:
            problem = "a division by zero" if isinstance(error, ZeroDivisionError) else "a number that is too large"
            raise ValueError(f"expected a statement that is true or false, found {problem}") from error


def parse_expression(text: str) -> Expression:
    """Parse a statement.

    Raises
    ------
    ValueError
        If it is none of the language; the message says what was expected and found.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expected at most {MAX_LENGTH} characters, found {len(text)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own remarks about style
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f"expected a statement such as model.embed_dim % model.num_heads == 0, found {text!r}"
            + (f" ({reason})" if reason else "")
        ) from error
    names: dict[Path_, None] = {}
    _check(tree, names, 0)
    if isinstance(tree, ast.Constant | ast.BinOp):
        raise ValueError(f"expected a statement that is true or false, found {text!r}")
    return Expression(text, tuple(names), tree)


def _check(node: ast.expr, names: dict[Path_, None], depth: int) -> None:
    """Refuse whatever the language does not have, and collect names."""
    if depth > MAX_DEPTH:
        raise ValueError(f"expected a statement at most {MAX_DEPTH} levels deep")
    match node:
        case ast.BoolOp(values=parts) | ast.Compare(comparators=parts):
            if isinstance(node, ast.Compare):
                for sign in node.ops:
                    if type(sign) not in _EQUALITY | _ORDER:
                        raise _unknown(node)
                _check(node.left, names, depth + 1)
            for part in parts:
                _check(part, names, depth + 1)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            _check(left, names, depth + 1)
            _check(right, names, depth + 1)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, names, depth + 1)
        case ast.Constant(value=bool() | int() | float() | str()):
            pass
        case ast.Name(id="true" | "false"):
            pass
        case ast.Name() | ast.Attribute() | ast.Subscript():
            names[_path(node, depth)] = None
        case _:
            raise _unknown(node)


def _unknown(node: ast.expr) -> ValueError:
    return ValueError(
        "expected keys, numbers, words in quotes, + - * / // %, comparisons, and, or, not and parentheses, found "
        f"{ast.unparse(node)!r}"
    )


def _path(node: ast.expr, depth: int = 0) -> Path_:
    """Path of a dotted name; ``model.embed_dims[-1]`` ends in a place of a list."""
    if depth > MAX_DEPTH:
        raise ValueError(f"expected a key at most {MAX_DEPTH} levels deep")
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=name):
            return (*_path(value, depth + 1), name)
        case ast.Subscript(value=value, slice=ast.Constant(value=int(place))) if not isinstance(place, bool):
            return (*_path(value, depth + 1), place)
        case ast.Subscript(value=value, slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(place)))) if (
            not isinstance(place, bool)
        ):
            return (*_path(value, depth + 1), -place)
        case _:
            raise _unknown(node)


def _evaluate(node: ast.expr, lookup: Callable[[Path_], Any]) -> Value:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id="true" | "false" as word):
            return _BOOLS[word]
        case ast.BoolOp(op=sign, values=parts):
            wanted = isinstance(sign, ast.Or)
            return wanted if any(_truth(_evaluate(part, lookup), part) is wanted for part in parts) else not wanted
        case ast.Compare(left=left, ops=signs, comparators=parts):
            sides = [left, *parts]
            values = [_evaluate(side, lookup) for side in sides]
            return all(_compare(sign, values[i], values[i + 1], sides[i], sides[i + 1]) for i, sign in enumerate(signs))
        case ast.BinOp(left=left, op=sign, right=right):
            value = _ARITHMETIC[type(sign)](_number(left, lookup), _number(right, lookup))
            assert isinstance(value, int | float)
            return value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(_evaluate(operand, lookup), operand)
        case ast.UnaryOp(op=sign, operand=operand):
            value = _number(operand, lookup)
            return -value if isinstance(sign, ast.USub) else value
        case _:
            path = _path(node)
            value = lookup(path)
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"expected {dotted(path)} to be a number, a word or true or false, found {value!r}")
            return value


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(node: ast.expr, lookup: Callable[[Path_], Any]) -> int | float:
    value = _evaluate(node, lookup)
    if not _is_number(value):
        raise ValueError(f"expected {ast.unparse(node)} to be a number, found {value!r}")
    assert not isinstance(value, str)
    return value


def _truth(value: Value, node: ast.expr) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected {ast.unparse(node)} to be true or false, found {value!r}")
    return value


def _compare(sign: ast.cmpop, left: Value, right: Value, left_node: ast.expr, right_node: ast.expr) -> bool:
    if type(sign) in _EQUALITY:
        return _EQUALITY[type(sign)](left, right)
    both_numbers, both_words = _is_number(left) and _is_number(right), isinstance(left, str) and isinstance(right, str)
    if not (both_numbers or both_words):
        raise ValueError(
            f"expected {ast.unparse(left_node)} and {ast.unparse(right_node)} to be two numbers, "
            f"found {left!r} and {right!r}"
        )
    return _ORDER[type(sign)](left, right)
