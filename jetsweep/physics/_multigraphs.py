"""Loop-free multigraphs up to isomorphism, the index set of the energy-flow polynomials (arXiv:1712.07124)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

Edges = tuple[tuple[int, int], ...]
Adjacency = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Multigraph:
    """A multigraph; without edges it is a single vertex.

    Parameters
    ----------
    edges : tuple of (int, int)
        One entry per edge, repeated where there are several between two vertices; vertices count from 0 without gaps.

    Raises
    ------
    ValueError
        If an edge is a loop, or a vertex is left out.
    """

    edges: Edges

    def __post_init__(self) -> None:
        loops = [edge for edge in self.edges if edge[0] == edge[1]]
        if loops:
            raise ValueError(f"expected edges between two vertices, found the loop {loops[0]}")
        vertices = {vertex for edge in self.edges for vertex in edge} or {0}
        if vertices != set(range(len(vertices))):
            raise ValueError(f"expected vertices 0 to {len(vertices) - 1}, each on an edge, found {sorted(vertices)}")
        object.__setattr__(self, "edges", tuple(sorted((min(edge), max(edge)) for edge in self.edges)))

    @property
    def degree(self) -> int:
        """Number of edges d, the angular power of the polynomial."""
        return len(self.edges)

    @property
    def num_vertices(self) -> int:
        """Number of vertices N, the energy power of the polynomial."""
        return 1 + max((b for _, b in self.edges), default=0)

    @property
    def multiplicities(self) -> dict[tuple[int, int], int]:
        """Number of edges between every two vertices that have any."""
        return dict(Counter(self.edges))

    def components(self) -> tuple[Multigraph, ...]:
        """Connected parts; the polynomial of the graph is the product of theirs."""
        root = list(range(self.num_vertices))
        for a, b in self.edges:
            low, high = sorted((root[a], root[b]))
            root = [low if r == high else r for r in root]
        parts = []
        for r in sorted(set(root)):
            number = {vertex: i for i, vertex in enumerate(v for v in range(len(root)) if root[v] == r)}
            parts.append(Multigraph(tuple((number[a], number[b]) for a, b in self.edges if a in number)))
        return tuple(parts)

    @property
    def is_prime(self) -> bool:
        """Whether the graph is connected."""
        return len(self.components()) == 1

    def canonical(self) -> Multigraph:
        """The representative that all graphs isomorphic to this one share."""
        rows = [[0] * self.num_vertices for _ in range(self.num_vertices)]
        for a, b in self.edges:
            rows[a][b] += 1
            rows[b][a] += 1
        return _graph(canonical_form(tuple(map(tuple, rows))))


def multigraphs(max_degree: int, *, prime: bool = False) -> tuple[Multigraph, ...]:
    """All loop-free multigraphs without isolated vertices and with at most `max_degree` edges, once each.

    Parameters
    ----------
    max_degree : int
    prime : bool
        Only connected graphs.

    Returns
    -------
    tuple of Multigraph
        The single vertex, the connected graphs by numbers of vertices and of different edges, stars before paths, then
        the disconnected ones by degree and number of parts.

    Raises
    ------
    ValueError
        If `max_degree` is negative.
    """
    if max_degree < 0:
        raise ValueError(f"expected a degree of at least 0, found {max_degree}")
    primes = [graph for degree in range(max_degree + 1) for graph in _connected(degree)]
    primes.sort(key=_rank)
    if prime:
        return tuple(primes)
    composites = sorted(
        (parts for parts in _multisets(primes[1:], max_degree) if len(parts) > 1),
        key=lambda parts: (sum(primes[i].degree for i in parts), len(parts), parts),
    )
    return tuple(primes) + tuple(_union([primes[i] for i in parts]) for parts in composites)


def _rank(graph: Multigraph) -> tuple[Any, ...]:
    pairs = graph.multiplicities
    vertices = range(graph.num_vertices)
    valencies = sorted(sum(v in edge for edge in graph.edges) for v in vertices)
    neighbours = sorted(-sum(v in pair for pair in pairs) for v in vertices)
    return (
        graph.num_vertices,
        len(pairs),
        neighbours,
        graph.degree,
        sorted(pairs.values()),
        valencies[::-1],
        graph.edges,
    )


def _multisets(primes: list[Multigraph], room: int, first: int = 0) -> Iterator[tuple[int, ...]]:
    """Positions (from 1) of connected graphs, with repetition, whose degrees add up to at most `room`."""
    yield ()
    for i in range(first, len(primes)):
        if primes[i].degree <= room:
            for rest in _multisets(primes, room - primes[i].degree, i):
                yield (i + 1, *rest)


def _union(parts: list[Multigraph]) -> Multigraph:
    edges: list[tuple[int, int]] = []
    first = 0
    for part in parts:
        edges += [(a + first, b + first) for a, b in part.edges]
        first += part.num_vertices
    return Multigraph(tuple(edges))


@cache
def _connected(degree: int) -> tuple[Multigraph, ...]:
    """Connected graphs with `degree` edges.

    Every such graph has an edge on a cycle or to a vertex of its own, so it comes from a connected one by adding that
    edge.
    """
    if degree == 0:
        return (Multigraph(()),)
    found: dict[Adjacency, None] = {}
    for graph in _connected(degree - 1):
        n = graph.num_vertices
        pairs = [*combinations(range(n), 2), *((a, n) for a in range(n))]
        for a, b in pairs:
            size = max(n, b + 1)
            rows = [[0] * size for _ in range(size)]
            for i, j in (*graph.edges, (a, b)):
                rows[i][j] += 1
                rows[j][i] += 1
            found[canonical_form(tuple(map(tuple, rows)))] = None
    return tuple(_graph(form) for form in found)


def _graph(form: Adjacency) -> Multigraph:
    pairs = combinations(range(len(form)), 2)
    return Multigraph(tuple((a, b) for a, b in pairs for _ in range(form[a][b])))


def canonical_form(rows: Adjacency) -> Adjacency:
    """The adjacency matrix that all isomorphic ones share: the largest over orders of vertices that refinement leaves.

    Colours are refined by those of the neighbours until they are stable (Weisfeiler and Leman); ties are broken in all
    ways that no exchange of twins undoes.
    """
    best: list[Adjacency] = []

    def search(colours: list[int]) -> None:
        colours = _refined(rows, colours)
        shared = [colour for colour, count in Counter(colours).items() if count > 1]
        if not shared:
            order = sorted(range(len(rows)), key=colours.__getitem__)
            form = tuple(tuple(rows[a][b] for b in order) for a in order)
            if not best or form > best[0]:
                best[:] = [form]
            return
        tried: list[int] = []
        for vertex in (v for v, colour in enumerate(colours) if colour == min(shared)):
            if not any(_twins(rows, vertex, other) for other in tried):
                tried.append(vertex)
                search([2 * colour - (v == vertex) for v, colour in enumerate(colours)])

    search([0] * len(rows))
    return best[0]


def _refined(rows: Adjacency, colours: list[int]) -> list[int]:
    while True:
        seen = [
            (colours[v], sorted((edges, colours[u]) for u, edges in enumerate(rows[v]) if edges))
            for v in range(len(rows))
        ]
        kinds = sorted({(colour, tuple(around)) for colour, around in seen})
        rank = {kind: i for i, kind in enumerate(kinds)}
        refined = [rank[colour, tuple(around)] for colour, around in seen]
        if len(kinds) == len(set(colours)):
            return refined
        colours = refined


def _twins(rows: Adjacency, a: int, b: int) -> bool:
    """Whether exchanging two vertices leaves the graph as it is."""
    return all(rows[a][v] == rows[b][v] for v in range(len(rows)) if v not in (a, b))
