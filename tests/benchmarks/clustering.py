"""Our clustering against fastjet on the same jets: kt, Cambridge/Aachen and anti-kt, one thread each, in turns.

``python tests/benchmarks/clustering.py [--jets 5000] [--constituents 50] [--seconds 3]`` prints a markdown table of
jets per CPU-second. fastjet's awkward interface clusters a batch in C++ but gives no history; its classic interface
builds a sequence for each jet in Python and keeps the history. Ours gives the whole history; the last row of
Cambridge/Aachen adds the Lund plane.
"""

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import awkward as ak
import fastjet
import numpy as np

from jetsweep.physics.clustering import cluster
from jetsweep.physics.lund import lund_plane_of_jets

ALGORITHMS = {"kt": "kt_algorithm", "cambridge": "cambridge_algorithm", "antikt": "antikt_algorithm"}


def make_jets(num_jets: int, constituents: int) -> tuple[np.ndarray, np.ndarray]:
    """Massless constituents of toy jets, their number spread by a fifth; values (N, 4) and offsets."""
    rng = np.random.default_rng(1)
    count_B = np.maximum(rng.normal(constituents, constituents / 5, num_jets).round().astype(int), 2)
    size = count_B.sum()
    pt, y, phi = np.exp(rng.normal(1, 1.2, size)), rng.normal(0, 0.3, size), rng.normal(0, 0.3, size)
    values = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y), pt * np.cosh(y)])
    return values, np.concatenate([[0], np.cumsum(count_B)])


def awkward_interface(values: np.ndarray, offsets: np.ndarray, algorithm: str) -> Callable[[], float]:
    """fastjet on the whole batch; momenta of the jets, no history."""
    fields = dict(zip(("px", "py", "pz", "E"), values.T))
    particles = ak.unflatten(ak.zip(fields, with_name="Momentum4D"), np.diff(offsets))
    definition = fastjet.JetDefinition(getattr(fastjet, ALGORITHMS[algorithm]), 1000.0)
    return lambda: float(ak.sum(fastjet.ClusterSequence(particles, definition).inclusive_jets().px))


def classic_interface(values: np.ndarray, offsets: np.ndarray, algorithm: str) -> Callable[[], float]:
    """fastjet jet by jet; the particles are made outside the clock."""
    definition = fastjet.JetDefinition(getattr(fastjet, ALGORITHMS[algorithm]), 1000.0)
    jets = [[fastjet.PseudoJet(*row) for row in values[low:high].tolist()] for low, high in itertools.pairwise(offsets)]

    def run() -> float:
        total = 0.0
        for jet in jets:
            sequence = fastjet.ClusterSequence(jet, definition)
            total += sum(found.px() for found in sequence.inclusive_jets())
        return total

    return run


def taking_turns(calls: dict[str, Callable[[], float]], budget_s: float) -> tuple[dict[str, list[float]], list[float]]:
    """CPU seconds of each call, one after the other, for so long; and what each of them returned."""
    results = [call() for call in calls.values()]
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + budget_s * len(calls)
    while time.perf_counter() < end or len(seconds[next(iter(calls))]) < 3:
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return seconds, results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jets", type=int, default=5000)
    parser.add_argument("--constituents", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    arguments = parser.parse_args()
    values, offsets = make_jets(arguments.jets, arguments.constituents)
    print(f"{platform.machine()} CPU; {arguments.jets} toy jets of {len(values) / arguments.jets:.0f} constituents\n")
    print("| algorithm | what | jets per CPU-second | fastjet's awkward interface / this |")
    print("|---|---|---|---|")
    for algorithm in ALGORITHMS:
        ours = partial(cluster, values, offsets, algorithm)
        calls = {
            "fastjet, awkward interface, no history": awkward_interface(values, offsets, algorithm),
            "fastjet, classic interface": classic_interface(values, offsets, algorithm),
            "jetsweep, whole history": lambda ours=ours: float(ours().inclusive().p4[:, 0].sum()),
        }
        if algorithm == "cambridge":
            calls["jetsweep, whole history and Lund plane"] = lambda: float(
                lund_plane_of_jets(values, offsets).values[:, 0].sum()
            )
        seconds, results = taking_turns(calls, arguments.seconds)
        assert np.allclose(results[:3], results[0], rtol=1e-9), results
        reference = statistics.median(seconds["fastjet, awkward interface, no history"])
        for name, taken in seconds.items():
            median = statistics.median(taken)
            print(f"| {algorithm} | {name} | {arguments.jets / median:,.0f} | {reference / median:.2f} |", flush=True)


if __name__ == "__main__":
    main()
