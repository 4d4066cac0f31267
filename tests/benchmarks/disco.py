"""Distance correlation as a loss: ours against the textbook's three matrices in PyTorch, on one thread.

``python tests/benchmarks/disco.py [--jets 4096] [--repetitions 3]`` prints a markdown table. Every measurement is a
fresh process: CPU seconds of forward and backward after one warm-up on a few jets, and by how much that raised the
process's greatest resident memory.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor

from jetsweep.losses import distance_correlation


def textbook(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The definition, with autograd: matrices of distances, doubly centred, and means of their products."""
    p = weight / weight.sum()

    def centred(values: Tensor) -> Tensor:
        distance = (values[:, None] - values[None, :]).abs()
        mean = distance @ p
        return distance - mean[:, None] - mean[None, :] + mean @ p

    a, b = centred(x), centred(y)
    return p @ (a * b) @ p / ((p @ (a * a) @ p) * (p @ (b * b) @ p)).sqrt()


FORMS = {
    "three matrices, float32": (textbook, torch.float32),
    "three matrices, float64": (textbook, torch.float64),
    "jetsweep (float32 in and out, float64 inside)": (distance_correlation, torch.float32),
}


def measure(form: str, jets: int) -> dict[str, float]:
    """One forward and backward pass in this process."""
    torch.set_num_threads(1)
    function, dtype = FORMS[form]

    def run(size: int) -> tuple[float, Tensor]:
        x, noise, weight = torch.rand(3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
            dtype
        )
        x.requires_grad_()
        value = function(x, x.detach() ** 2 + noise, weight)
        value.backward()
        return float(value.detach()), x.grad

    run(16)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    value, gradient = run(jets)
    return {
        "seconds": time.process_time() - start,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "value": value,
        "gradient": float(gradient.double().norm()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jets", type=int, default=4096)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", choices=FORMS, help="measure this form here and print JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.jets)))
        return
    print(f"{platform.machine()} CPU, one thread; {arguments.jets} jets, median of {arguments.repetitions} processes\n")
    print("| form | CPU time, ms | over ours | more peak memory, MiB | value | norm of the gradient |")
    print("|---|---:|---:|---:|---:|---:|")
    medians = {}
    for form in reversed(FORMS):
        command = [sys.executable, __file__, "--jets", str(arguments.jets), "--only", form]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(arguments.repetitions)]
        medians[form] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ours = medians[next(reversed(FORMS))]
    for form in FORMS:
        row = medians[form]
        print(
            f"| {form} | {1e3 * row['seconds']:,.1f} | {row['seconds'] / ours['seconds']:.0f} | {row['mib']:,.1f} "
            f"| {row['value']:.8f} | {row['gradient']:.6e} |"
        )


if __name__ == "__main__":
    main()
