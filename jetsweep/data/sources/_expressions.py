"""A tiny language for statements about columns: ``jet_pt > 500 and abs(jet_eta) < 2``. Nothing is handed to eval."""

# Shapes: R rows of a slice.

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jetsweep.errors import DataError

MAX_LENGTH = 2_000
Lookup = Callable[[str], np.ndarray]

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.BitAnd: lambda a, b: np.logical_and(a, b), ast.BitOr: lambda a, b: np.logical_or(a, b),
}  # fmt: skip
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: np.logical_not, ast.Invert: np.logical_not,
}  # fmt: skip
_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs), "sqrt": (1, np.sqrt), "log": (1, np.log), "exp": (1, np.exp), "cos": (1, np.cos),
    "sin": (1, np.sin), "cosh": (1, np.cosh), "sinh": (1, np.sinh), "hypot": (2, np.hypot),
    "tanh": (1, np.tanh), "minimum": (2, np.minimum), "maximum": (2, np.maximum), "ones_like": (1, np.ones_like),
}  # fmt: skip


class ColumnExpression:
    """A parsed statement about columns, computed row by row.

    Parameters
    ----------
    text : str
        Column names (with dots, as ``AnalysisJetsAuxDyn.pt``), numbers, words in quotes, ``+ - * / // % **``,
        comparisons, ``and or not`` (also ``& | ~``), and the functions abs, sqrt, log, exp, cos, sin, cosh, sinh,
        tanh, hypot, minimum, maximum, ones_like (also with ``np.`` or ``ak.`` before them).

    Attributes
    ----------
    tree : ast.expr
        Holds nothing but what the language has.

    Raises
    ------
    DataError
        If it cannot be parsed, or asks for anything else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise DataError(f"an expression of {len(text)} characters, expected at most {MAX_LENGTH}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "1 is 1" and the like are refused below
                self.tree = ast.parse(text.strip(), mode="eval").body
            self._names: list[str] = []
            self._check(self.tree)
        except (SyntaxError, RecursionError, ValueError, MemoryError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{text!r} is not an expression of columns: {getattr(error, 'msg', error)}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that it mentions, each once."""
        return tuple(dict.fromkeys(self._names))

    def __call__(self, lookup: Lookup) -> np.ndarray:
        """Value of every row, shape (R,); `lookup` gives a column by name."""
        try:
            with np.errstate(all="ignore"):
                return np.asarray(self._value(self.tree, lookup))
        except (TypeError, np.exceptions.DTypePromotionError, ZeroDivisionError) as error:
            raise DataError(f"{self.text!r} cannot be computed: {error}") from error

    def _refuse(self, node: ast.expr, what: str) -> DataError:
        return DataError(f"{self.text!r}: {what} at column {node.col_offset + 1} is not supported")

    def _check(self, node: ast.expr) -> None:
        match node:
            case ast.Name() | ast.Attribute():
                name = dotted_name(node)
                if name is None:
                    raise self._refuse(node, "an attribute of a value")
                self._names.append(name)
            case ast.Constant(value=bool() | int() | float() | str()):
                pass
            case ast.BinOp() if type(node.op) in _BINARY:
                self._check(node.left)
                self._check(node.right)
            case ast.UnaryOp():
                self._check(node.operand)
            case ast.BoolOp():
                for value in node.values:
                    self._check(value)
            case ast.Compare():
                if not all(type(op) in _COMPARISONS for op in node.ops):
                    raise self._refuse(node, "`is` or `in`")
                for value in (node.left, *node.comparators):
                    self._check(value)
            case ast.Call():
                name = function_name(node)
                if name not in _FUNCTIONS:
                    raise self._refuse(node, f"the call of {ast.unparse(node.func)}")
                if len(node.args) != _FUNCTIONS[name][0] or node.keywords:
                    raise DataError(f"{self.text!r}: expected {_FUNCTIONS[name][0]} argument(s) of {name}")
                for value in node.args:
                    self._check(value)
            case _:
                raise self._refuse(node, f"`{ast.unparse(node)[:40]}`")

    def _value(self, node: ast.expr, lookup: Lookup) -> Any:
        match node:
            case ast.Name() | ast.Attribute():
                return lookup(dotted_name(node) or "")
            case ast.Constant():
                return node.value
            case ast.BinOp():
                return _BINARY[type(node.op)](self._value(node.left, lookup), self._value(node.right, lookup))
            case ast.UnaryOp():
                return _UNARY[type(node.op)](self._value(node.operand, lookup))
            case ast.BoolOp():
                join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
                value = self._value(node.values[0], lookup)
                for other in node.values[1:]:
                    value = join(value, self._value(other, lookup))
                return value
            case ast.Compare():
                values = [self._value(x, lookup) for x in (node.left, *node.comparators)]
                held = [_COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:])]
                return held[0] if len(held) == 1 else np.logical_and.reduce(held)
            case ast.Call():
                function = _FUNCTIONS[function_name(node)][1]
                return function(*(self._value(x, lookup) for x in node.args))
        raise AssertionError(f"{type(node)} was checked")


def function_name(node: ast.Call) -> str:
    """Name of what is called, without its library."""
    return (dotted_name(node.func) or "").removeprefix("np.").removeprefix("ak.")


def dotted_name(node: ast.expr) -> str | None:
    """The column that a node names, None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted_name(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None
