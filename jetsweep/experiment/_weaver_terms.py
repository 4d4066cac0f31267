"""Formulas of weaver-core's data files: definitions put in for names, and forms that can be compared."""

from __future__ import annotations

import ast
from typing import Any

from jetsweep.data.sources._expressions import MAX_LENGTH, ColumnExpression, dotted_name, function_name
from jetsweep.errors import DataError
from jetsweep.experiment._yaml import Document, Path_

Term = tuple[Any, ...]
"""Normal form of a formula: ("name", x), ("number", x), or an operation and its terms."""

_COMMUTING = {"Add", "Mult", "BitAnd", "BitOr"}


class Definitions:
    """Section `new_variables`; a formula is looked at when something asks for it.

    Parameters
    ----------
    document : Document
        The whole file.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        section = document.tree.get("new_variables") or {}
        self._formulas = {str(name): str(text) for name, text in section.items() if str(name) != str(text)}

    def branch(self, name: Any, path: Path_, what: str = "the name of a branch") -> str:
        """The branch that `name`, used at `path` of the file, stands for.

        Raises
        ------
        ExperimentError
            If it is computed from others.
        """
        found = dotted_name(self.expand(str(name), path))
        if found is None:
            raise self._document.error(path, f"expected {what}, found the formula {self.text(str(name), path)!r}")
        return found

    def text(self, text: str, path: Path_) -> str:
        """A formula in terms of branches, as an option of a source takes it."""
        found = ast.unparse(self.expand(text, path))
        if len(found) > MAX_LENGTH:
            raise self._document.error(path, f"expected at most {MAX_LENGTH} characters, found {len(found)}")
        return found

    def term(self, text: str, path: Path_) -> Term:
        """Normal form of a formula in terms of branches."""
        return normal_form(self.expand(text, path))

    def expand(self, text: str, path: Path_) -> ast.expr:
        """Parse a formula, written at `path`, and put in the definitions of the names in it.

        Raises
        ------
        ExperimentError
            If it, or a definition, is not of the language of `ColumnExpression`, or is defined by itself.
        """
        return self._expanded(text, path, ())

    def _expanded(self, text: str, path: Path_, inside: tuple[str, ...]) -> ast.expr:
        try:
            tree = ColumnExpression(text).tree
        except DataError as error:
            raise self._document.error(path, str(error)) from error
        return _Insert(self, inside).visit(tree)  # type: ignore[no-any-return]

    def insert(self, name: str, inside: tuple[str, ...]) -> ast.expr | None:
        """Definition of a name; None for a branch."""
        if name not in self._formulas:
            return None
        path = ("new_variables", name)
        if name in inside:
            raise self._document.error(path, f"expected a definition by other variables, found {name} inside itself")
        return self._expanded(self._formulas[name], path, (*inside, name))


class _Insert(ast.NodeTransformer):
    def __init__(self, definitions: Definitions, inside: tuple[str, ...]) -> None:
        self._definitions, self._inside = definitions, inside

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._definitions.insert(node.id, self._inside) or node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.args = [self.visit(argument) for argument in node.args]  # what is called is no variable
        return node


def normal_form(node: ast.expr) -> Term:
    """Term of a parsed formula: sums and products in one order, ``sqrt(x**2 + y**2)`` as hypot, ``x*x`` as a square."""
    match node:
        case ast.Name() | ast.Attribute():
            return ("name", dotted_name(node))
        case ast.Constant(value=bool() | int() | float() as value):
            return ("number", float(value))
        case ast.Constant():
            return ("word", node.value)
        case ast.UnaryOp():
            return (type(node.op).__name__, normal_form(node.operand))
        case ast.BinOp():
            parts = (normal_form(node.left), normal_form(node.right))
            return operation(type(node.op).__name__, *parts)
        case ast.BoolOp():
            return operation(type(node.op).__name__, *map(normal_form, node.values))
        case ast.Compare():
            signs = tuple(type(sign).__name__ for sign in node.ops)
            return ("Compare", signs, *map(normal_form, (node.left, *node.comparators)))
        case ast.Call():
            return call(function_name(node), *map(normal_form, node.args))
    raise AssertionError(f"{type(node)} is not of the language")


def operation(kind: str, *parts: Term) -> Term:
    """Normal form of an operation, by the name that Python's syntax tree has for it."""
    if kind not in _COMMUTING:
        return (kind, *parts)
    if kind == "Mult" and len(parts) == 2 and parts[0] == parts[1]:
        return ("Pow", parts[0], ("number", 2.0))
    flat = [inner for part in parts for inner in (part[1:] if part[0] == kind else (part,))]
    return (kind, *sorted(flat, key=repr))


def call(name: str, *arguments: Term) -> Term:
    """Normal form of a function's call."""
    if name == "sqrt" and arguments[0][0] == "Add" and len(arguments[0]) == 3:
        squares = arguments[0][1:]
        if all(term[0] == "Pow" and term[2] == ("number", 2.0) for term in squares):
            name, arguments = "hypot", tuple(term[1] for term in squares)
    return (name, *(sorted(arguments, key=repr) if name == "hypot" else arguments))


def name_of(term: Term) -> str | None:
    """The branch that a term is, None for anything else."""
    return term[1] if term[0] == "name" else None
