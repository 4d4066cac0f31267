"""Energy-flow polynomials: ours in batches against EnergyFlow, or against sums by the definition, one thread each.

``python tests/benchmarks/efp.py [--jets 500] [--constituents 50] [--degrees 3 4 5] [--seconds 3]`` prints a markdown
table of jets per CPU-second, hadr measure, beta 1, float64. EnergyFlow is no dependency (GPL); where it is not
installed the peer is one numpy einsum for every graph and jet, its order of contraction found beforehand.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from jetsweep.physics.efp import EnergyFlowPolynomials, Measure, Multigraph, multigraphs


def make_jets(num_jets: int, constituents: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Massless constituents of toy jets, their number spread by a fifth; padded (B, P, 4) and mask (B, P)."""
    rng = np.random.default_rng(1)
    count_B = np.maximum(rng.normal(constituents, constituents / 5, num_jets).round().astype(int), 2)
    shape = (num_jets, count_B.max())
    pt, y, phi = np.exp(rng.normal(1, 1.2, shape)), rng.normal(0, 0.3, shape), rng.normal(0, 0.3, shape)
    p4_BP4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y), pt * np.cosh(y)], axis=-1)
    return torch.from_numpy(p4_BP4), torch.arange(shape[1]) < torch.from_numpy(count_B)[:, None]


def by_definition(graphs: tuple[Multigraph, ...], jets: list[np.ndarray]) -> tuple[str, Callable[[], np.ndarray]]:
    """One einsum for every graph and jet; energies and angles of a jet are shared by its graphs."""
    measure, longest = Measure(), max(map(len, jets))
    plans = []
    for graph in graphs:
        ends = [[vertex] for vertex in range(graph.num_vertices)] + [list(edge) for edge in graph.edges]
        shapes = [(longest,) * len(end) for end in ends]
        arguments = [x for shape, end in zip(shapes, ends) for x in (np.broadcast_to(1.0, shape), end)]
        plans.append((ends, graph.num_vertices, np.einsum_path(*arguments, [], optimize="greedy")[0]))

    def run() -> np.ndarray:
        found = np.empty((len(jets), len(graphs)))
        for row, jet in enumerate(jets):
            p4_1P4 = torch.from_numpy(jet)[None]
            energy_1P, angle_1PP = measure.of_four_vectors(p4_1P4, torch.ones(1, len(jet), dtype=torch.bool))
            energy_P, angle_PP = energy_1P[0].numpy(), angle_1PP[0].numpy()
            for column, (ends, num_vertices, path) in enumerate(plans):
                operands = [energy_P] * num_vertices + [angle_PP] * (len(ends) - num_vertices)
                arguments = [x for operand, end in zip(operands, ends) for x in (operand, end)]
                found[row, column] = np.einsum(*arguments, [], optimize=path)
        return found

    return "numpy, an einsum for every graph and jet", run


def by_energyflow(degree: int, jets: list[np.ndarray]) -> tuple[str, Callable[[], np.ndarray]]:
    """EnergyFlow's set of all graphs up to a degree, in its own order, jet by jet in this process."""
    import energyflow

    efps = energyflow.EFPSet(("d<=", degree), measure="hadr", beta=1, coords="epxpypz", verbose=0)
    events = [jet[:, [3, 0, 1, 2]] for jet in jets]
    return "EnergyFlow", lambda: np.array([efps.compute(event) for event in events])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jets", type=int, default=500)
    parser.add_argument("--constituents", type=int, default=50)
    parser.add_argument("--degrees", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    p4_BP4, mask_BP = make_jets(arguments.jets, arguments.constituents)
    jets = [p4_P4[mask_P].numpy() for p4_P4, mask_P in zip(p4_BP4, mask_BP)]
    print(f"{platform.machine()} CPU; {arguments.jets} toy jets of {mask_BP.sum() / arguments.jets:.0f} constituents\n")
    print("| degree | graphs | peer | peer, jets per CPU-second | jetsweep, jets per CPU-second | jetsweep / peer |")
    print("|---|---|---|---|---|---|")
    for degree in arguments.degrees:
        graphs = multigraphs(degree)
        try:
            name, peer = by_energyflow(degree, jets)
        except ImportError:
            name, peer = by_definition(graphs, jets)
        basis = EnergyFlowPolynomials(graphs)
        # sorted, since EnergyFlow numbers its graphs in another order
        found, expected = (np.sort(x, axis=1) for x in (basis(p4_BP4, mask_BP).numpy(), peer()))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
        seconds: list[list[float]] = [[], []]
        end = time.perf_counter() + 2 * arguments.seconds
        while time.perf_counter() < end or len(seconds[0]) < 3:
            for call, taken in zip((peer, lambda basis=basis: basis(p4_BP4, mask_BP)), seconds):
                start = time.process_time()
                call()
                taken.append(time.process_time() - start)
        theirs, ours = (arguments.jets / statistics.median(taken) for taken in seconds)
        print(f"| {degree} | {len(graphs)} | {name} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
