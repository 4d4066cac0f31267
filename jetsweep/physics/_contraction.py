"""Sums over constituents of products of weights and angles, compiled once for a set of graphs.

Vertices of a graph are eliminated one by one, that with the fewest neighbours first. With one neighbour this is a
matrix times a vector, with two a product of matrices: a graph without K4 inside, so every one with at most five edges,
costs P^3 at most. Equal intermediate results of different graphs are computed once.
"""

# Shapes: B jets, P constituent slots, G graphs.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jetsweep.physics._multigraphs import Multigraph

Node = tuple[Any, ...]
"""An operation and its arguments, numbers of earlier nodes."""


class Program:
    """The polynomials of `graphs` as one list of operations.

    Parameters
    ----------
    graphs : sequence of Multigraph
    """

    def __init__(self, graphs: Sequence[Multigraph]) -> None:
        self.nodes: list[Node] = []
        self._number: dict[Node, int] = {}
        primes: dict[Multigraph, int] = {}
        self.outputs: list[int] = []
        for graph in graphs:
            parts = [part.canonical() for part in graph.components()]
            for part in parts:
                if part not in primes:
                    primes[part] = self._eliminate(part)
            self.outputs.append(self._times([primes[part] for part in parts]))
        self._needed = self._reached()
        self._last_use = self._last_uses()

    def _node(self, *node: Any) -> int:
        """Number of an operation; the same one is never listed twice."""
        if node not in self._number:
            self._number[node] = len(self.nodes)
            self.nodes.append(node)
        return self._number[node]

    def _times(self, factors: Sequence[int]) -> int:
        return factors[0] if len(factors) == 1 else self._node("times", *sorted(factors))

    def _transposed(self, number: int) -> int:
        kind, *arguments = self.nodes[number]
        if kind == "angle" or (kind == "chain" and arguments[0] == self._transposed(arguments[2])):
            return number
        if kind == "transpose":
            return int(arguments[0])
        if kind == "times":
            return self._times([self._transposed(factor) for factor in arguments])
        return self._node("transpose", number)

    def _chain(self, a: int, weight: int, b: int) -> int:
        """Sum over k of a_ik weight_k b_kj, or the transpose of one that is there already."""
        mirrored = ("chain", self._transposed(b), weight, self._transposed(a))
        if mirrored in self._number and mirrored != ("chain", a, weight, b):
            return self._node("transpose", self._number[mirrored])
        return self._node("chain", a, weight, b)

    def _eliminate(self, graph: Multigraph) -> int:
        """Node of a connected graph's polynomial."""
        vectors = dict.fromkeys(range(graph.num_vertices), self._node("weight"))
        # factors by their vertices in ascending order
        factors: dict[tuple[int, ...], int] = {
            pair: self._node("angle", count) for pair, count in graph.multiplicities.items()
        }
        while True:
            around = {v: {u for pair in factors if v in pair for u in pair} - {v} for v in vectors}
            vertex = min(vectors, key=lambda v: (len(around[v]), -v))
            mine = {pair: factors.pop(pair) for pair in list(factors) if vertex in pair}
            weight, others = vectors.pop(vertex), tuple(sorted(around[vertex]))
            if not others:
                return self._node("sum", weight)
            if len(others) == 1:
                matrix = self._oriented(mine, others[0], vertex)
                vectors[others[0]] = self._times([vectors[others[0]], self._node("apply", matrix, weight)])
                continue
            if len(others) == 2 and all(len(pair) == 2 for pair in mine):
                left = self._oriented(mine, others[0], vertex)
                result = self._chain(left, weight, self._oriented(mine, vertex, others[1]))
            else:
                result = self._einsum(mine, weight, vertex, others)
            factors[others] = self._times([factors[others], result]) if others in factors else result

    def _oriented(self, factors: dict[tuple[int, ...], int], row: int, column: int) -> int:
        if row < column:
            return factors[row, column]
        return self._transposed(factors[column, row])

    def _einsum(self, factors: dict[tuple[int, ...], int], weight: int, vertex: int, others: tuple[int, ...]) -> int:
        """Elimination of a vertex among three neighbours or more."""
        letter = dict(zip((vertex, *others), "abcdefghijklmnopq"))
        terms = ["".join(letter[v] for v in pair) for pair in factors]
        equation = ",".join("..." + term for term in ("a", *terms)) + "->..." + "".join(letter[v] for v in others)
        return self._node("einsum", equation, weight, *factors.values())

    def _reached(self) -> list[int]:
        """Numbers of the nodes that an output is made of, in order: some were only compared with."""
        reached, pending = set(), list(self.outputs)
        while pending:
            number = pending.pop()
            if number not in reached:
                reached.add(number)
                pending += _operands(self.nodes[number])
        return sorted(reached)

    def _last_uses(self) -> list[list[int]]:
        """For every node: those that nobody needs after it."""
        last: dict[int, int] = {}
        for number in self._needed:
            for argument in _operands(self.nodes[number]):
                last[argument] = number
        kept = set(self.outputs)
        done: list[list[int]] = [[] for _ in self.nodes]
        for argument, number in last.items():
            if argument not in kept:
                done[number].append(argument)
        return done

    def run(self, weight_BP: Tensor, angle_BPP: Tensor) -> Tensor:
        """Values of the graphs.

        Parameters
        ----------
        weight_BP : Tensor, shape (B, P)
            0 in empty slots.
        angle_BPP : Tensor, shape (B, P, P)
            Symmetric; finite in empty slots.

        Returns
        -------
        Tensor, shape (B, G)
        """
        values: dict[int, Tensor] = {}
        for number in self._needed:
            values[number] = _compute(self.nodes[number], values, weight_BP, angle_BPP)
            for argument in self._last_use[number]:
                del values[argument]
        return torch.stack([values[number] for number in self.outputs], dim=1)


def _operands(node: Node) -> tuple[int, ...]:
    kind, *arguments = node
    if kind in ("weight", "angle"):
        return ()
    return tuple(arguments[1:] if kind == "einsum" else arguments)


def _compute(node: Node, values: dict[int, Tensor], weight_BP: Tensor, angle_BPP: Tensor) -> Tensor:
    kind, *arguments = node
    if kind == "weight":
        return weight_BP
    if kind == "angle":
        power: Tensor = angle_BPP ** arguments[0]
        return power
    operands = [values[number] for number in _operands(node)]
    if kind == "times":
        product = operands[0]
        for factor in operands[1:]:
            product = product * factor
        return product
    if kind == "sum":
        return operands[0].sum(dim=-1)
    if kind == "transpose":
        return operands[0].transpose(-1, -2)
    if kind == "apply":
        return (operands[0] @ operands[1][..., None])[..., 0]
    if kind == "chain":
        left, weight, right = operands
        return (left * weight[..., None, :]) @ right
    assert kind == "einsum", kind
    return torch.einsum(arguments[0], *operands)
