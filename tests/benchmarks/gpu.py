"""Jets/s, peak memory and share of the card's matrix rate of every network, forward and in training.

Run from a checkout, installed or not: ``python tests/benchmarks/gpu.py [--out gpu.json]``. Needs torch, numpy, pyarrow,
h5py and pydantic; ends within 8 minutes on one H100. ``--quick`` is a smoke test on any machine.
"""

# Shapes: B jets, N constituents of all jets, F columns, P slots, C outputs.

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jetsweep.data.batch import Batch, Ragged
from jetsweep.data.derived import DERIVED_GROUPS
from jetsweep.losses.classification import classification_loss
from jetsweep.models import MODELS
from jetsweep.models._features import P4, Preprocessing
from jetsweep.models._jet_model import JetModel, build_jet_model
from jetsweep.training.config import AdamWConfig
from jetsweep.training.evaluate import autocast
from jetsweep.training.optimizers import build_optimizers

MODES = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16, compiled": ("bf16", True)}
"""Precision, and whether the network is compiled: `training.precision` and `training.compile` of an experiment."""
KINDS = {"forward": 1, "training": 3}
"""FLOPs over those of a forward pass: backward takes two more."""
CLASSES = 10

NOTES = """\
Batches of {batch} ragged jets on the device, {mean_constituents:.1f} real constituents each (normal 45 +- 15, as in top
tagging) in {slots} slots. Forward: preprocessing and network, in evaluation. Training: these, loss, backward and AdamW
step. Medians; GiB is the allocator's peak. fp32: float32_matmul_precision {matmul_precision}; bf16: autocast over fp32
weights; compiled: the network, not the preprocessing; compiling: seconds of the two first steps.

Share: FLOPs per second over this run's bf16 matrix rate, {rate:,.4g} TFLOP/s, for fp32 too. FLOPs are 2 x multiply-
accumulates of matrix products alone, three forward passes for a training step. First number: what eager networks
compute, which pack real constituents into rows (attention and neighbour distances are padded to the longest jet, deep
sets to all slots; that eager training trims ParT's long jets is not subtracted). Second: a dense pass over all {slots}
slots, as compiled networks do."""


def multiplicities(size: int, slots: int, device: torch.device) -> Tensor:
    """Constituents of `size` jets like those of top tagging, shape (B,), int64, the same in every call."""
    source = torch.Generator(device).manual_seed(0)
    return (45 + 15 * torch.randn(size, generator=source, device=device)).round().clamp(1, slots).long()


def make_jets(preprocessing: Preprocessing, lengths_B: Tensor) -> Batch:
    """Ragged jets with the columns that a model reads, on the device of `lengths_B`; of a jet's shape, not physics."""
    device = lengths_B.device
    source = torch.Generator(device).manual_seed(1)

    def normal(size: int) -> Tensor:
        return torch.randn(size, generator=source, device=device)

    offsets = torch.cat([lengths_B.new_zeros(1), lengths_B.cumsum(0)])
    num = int(offsets[-1])
    pt_N, eta_N, phi_N = torch.exp(1.7 + normal(num)), 0.2 * normal(num), 0.2 * normal(num)
    p4 = (pt_N * phi_N.cos(), pt_N * phi_N.sin(), pt_N * eta_N.sinh(), pt_N * eta_N.cosh())
    momenta = dict(zip(P4, p4))
    groups = {}
    if columns := preprocessing.constituent_columns:
        # identity and displacement are noise: the arithmetic does not depend on them
        values_NF = torch.stack([momenta[name] if name in momenta else normal(num) for name in columns], dim=-1)
        groups["constituents"] = Ragged(values_NF, offsets, columns)
    for name in preprocessing.group_columns:
        derived = DERIVED_GROUPS[name]
        nodes, starts = derived.make(torch.stack(p4, dim=-1).cpu().numpy(), offsets.cpu().numpy())
        groups[name] = Ragged(torch.from_numpy(nodes), torch.from_numpy(starts), derived.columns).to(device)
    scalars = {name: normal(len(lengths_B)) for name in preprocessing.scalar_columns}
    rows = torch.arange(len(lengths_B), device=device)
    return Batch(groups, scalars, {"label": rows % 2}, None, rows)


def build(name: str, slots: int, device: torch.device) -> JetModel:
    """Published size: 17 constituent features and ten classes, or the jet's high-level variables and one output."""
    entry = MODELS.get(name)
    inputs = entry.network.inputs
    config = entry.config(features="full") if "features" in inputs and "neighbours" not in inputs else entry.config()
    torch.manual_seed(0)
    return build_jet_model(config, 1 if "jet_features" in inputs else CLASSES, slots).to(device)


def flops_per_jet(model: JetModel, batch: Batch) -> float:
    """FLOPs of one jet's forward pass in evaluation by the network as it is when not compiled."""
    model.eval().requires_grad_(False)  # the counter's hooks fail on parameters that want a gradient
    # the counter does not know every device's fused attention, but its matrix products
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(batch)
    return counter.get_total_flops() / len(batch)


def describe(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Parameters, and FLOPs per jet with its real constituents and with every slot taken."""
    model = build(name, args.slots, device)
    real_B = multiplicities(args.batch, args.slots, device)
    full_B = torch.full_like(real_B[:8], args.slots)
    return {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "flops_real": flops_per_jet(model, make_jets(model.preprocessing, real_B)),
        "flops_padded": flops_per_jet(model, make_jets(model.preprocessing, full_B)),
    }


def block_seconds(step: Callable[[], object], num_steps: int, device: torch.device) -> float:
    """Seconds of `num_steps` steps that are queued one after the other."""
    synchronize = torch.get_device_module(device).synchronize
    synchronize(device)
    start = time.perf_counter()
    for _ in range(num_steps):
        step()
    synchronize(device)
    return time.perf_counter() - start


def matrix_rate(device: torch.device, size: int) -> float:
    """FLOPs per second of a square bf16 matrix product, the best of ten rounds."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    seconds = [block_seconds(lambda: torch.mm(a, b, out=out), 10, device) for _ in range(11)]
    return 2 * size**3 * 10 / min(seconds[1:])


def make_step(model: JetModel, batch: Batch, precision: str, training: bool) -> Callable[[], None]:
    """What is timed: a forward pass in evaluation, or an optimizer step as the training loop takes it."""
    model.train(training)
    (optimizer,) = build_optimizers(AdamWConfig(), list(model.named_parameters()))

    def forward() -> None:
        with torch.no_grad(), autocast(precision, batch.rows.device):
            model(batch)

    def train() -> None:
        with autocast(precision, batch.rows.device):
            loss = classification_loss(model(batch), batch.targets["label"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return train if training else forward


def measure(name: str, mode: str, kind: str, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Jets/s, peak GiB, seconds of the first step (which compiles), and what compiling gave."""
    precision, compiled = MODES[mode]
    model = build(name, args.slots, device)
    batch = make_jets(model.preprocessing, multiplicities(args.batch, args.slots, device))
    if compiled:
        torch.compiler.reset()
        counters.clear()
        model.network.compile()
    step = make_step(model, batch, precision, kind == "training")
    first_s = block_seconds(step, 1, device)
    block_seconds(step, 3, device)  # optimizer state and the allocator settle
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    end = time.perf_counter() + args.seconds
    num_steps = max(1, min(50, int(args.seconds / 10 / block_seconds(step, 1, device))))
    blocks = [block_seconds(step, num_steps, device) for _ in range(3)]
    while len(blocks) < 20 and time.perf_counter() < end:
        blocks.append(block_seconds(step, num_steps, device))
    if not all(p.isfinite().all() for p in model.parameters()):
        raise ArithmeticError("weights are no longer finite")
    return {
        "jets_per_s": len(batch) * num_steps / statistics.median(blocks),
        "slowest_over_fastest": max(blocks) / min(blocks),
        "timed_steps": num_steps * len(blocks),
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        "first_step_s": first_s,
        "graphs": counters["stats"]["unique_graphs"] if compiled else 0,
        "graph_breaks": sum(counters["graph_break"].values()) if compiled else 0,
    }


def attempt(call: Callable[..., dict[str, Any]], *arguments: Any, device: torch.device) -> dict[str, Any]:
    """Result of a measurement, or the reason why there is none; leaves the card's memory empty."""
    try:
        return call(*arguments, device)
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except Exception as error:  # whatever a compiler raises: the next measurement may still succeed
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    finally:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def cells(result: dict[str, Any], network: dict[str, Any], kind: str, rate: float) -> list[str]:
    """Jets/s, GiB and share of one measurement, for the table."""
    if "error" in result:
        return [result["error"][:80].replace("|", "/"), "", ""]
    speed, peak = result["jets_per_s"], result["peak_gib"]
    shares = [
        100 * speed * KINDS[kind] * network.get(key, float("nan")) / rate for key in ("flops_real", "flops_padded")
    ]
    return [f"{speed:,.0f}", "-" if peak is None else f"{peak:.2f}", " / ".join(f"{x:.2g}" for x in shares) + " %"]


def table(report: dict[str, Any]) -> str:
    """Two markdown tables, networks and rates, with what is needed to read them."""
    lines = [f"| network | parameters | MFLOP/jet, real | MFLOP/jet, {report['slots']} slots |", "|---" * 4 + "|"]
    for name, network in report["networks"].items():
        numbers = [network.get(key, 0) / 1e6 for key in ("flops_real", "flops_padded")]
        about = f"{network['parameters']:,}" if "parameters" in network else network["error"][:80].replace("|", "/")
        lines.append(f"| {name} | {about} | {numbers[0]:.4g} | {numbers[1]:.4g} |")
    lines += [
        "",
        "| network | arithmetic | forward, jets/s | GiB | share | training, jets/s | GiB | share | compiling |",
    ]
    lines.append("|---" * 9 + "|")
    for name, network in report["networks"].items():
        for mode, (_, compiled) in MODES.items():
            row, seconds = [name, mode], []
            for kind in KINDS:
                result = report["results"][f"{name}, {mode}, {kind}"]
                row += cells(result, network, kind, report["matrix_flops_per_s"])
                seconds.append(f"{result['first_step_s']:.0f} s" if compiled and "first_step_s" in result else "")
            lines.append(f"| {' | '.join([*row, ' + '.join(filter(None, seconds))])} |")
    return "\n".join([*lines, "", NOTES.format(rate=report["matrix_flops_per_s"] / 1e12, **report)])


def hardware(device: torch.device) -> str:
    name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        name = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors"
    return f"{name}; {os.cpu_count()} CPU cores; torch {torch.__version__}, CUDA {torch.version.cuda}"


def main(args: argparse.Namespace) -> None:
    """Measure, print what is known at every moment, and the tables at the end."""
    start, device = time.perf_counter(), torch.device(args.device)
    names = args.models.split(",") if args.models else MODELS.names()
    rate = matrix_rate(device, 256 if args.quick else 8192)
    print(f"{hardware(device)}\nbf16 matrix rate {rate / 1e12:.4g} TFLOP/s", flush=True)
    report: dict[str, Any] = {
        "hardware": hardware(device),
        "batch": args.batch,
        "slots": args.slots,
        "mean_constituents": multiplicities(args.batch, args.slots, device).double().mean().item(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "matrix_flops_per_s": rate,
        "networks": {name: attempt(describe, name, args, device=device) for name in names},
        "results": {},
    }
    # compiling takes longest and comes last
    for name, mode, kind in [(name, mode, kind) for mode in MODES for name in names for kind in KINDS]:
        result = {"error": "no time left"}
        if time.perf_counter() - start < 60 * args.minutes:
            result = attempt(measure, name, mode, kind, args, device=device)
        report["results"][f"{name}, {mode}, {kind}"] = result
        shown = " | ".join(cells(result, report["networks"][name], kind, rate))
        print(f"{time.perf_counter() - start:4.0f} s  {name}, {mode}, {kind}: {shown}", flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1))
    print(f"\n{report['hardware']}\n\n{table(report)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", help="names, separated by commas; all if not given")
    parser.add_argument("--batch", type=int, default=512, help="jets of a batch")
    parser.add_argument("--slots", type=int, default=128, help="slots for constituents")
    parser.add_argument("--seconds", type=float, default=1.5, help="for one measurement, after warming up")
    parser.add_argument("--minutes", type=float, default=6.0, help="after these no further measurement starts")
    parser.add_argument("--out", type=Path, help="JSON file, rewritten after every measurement")
    parser.add_argument("--quick", action="store_true", help="smoke test: 8 jets, 32 slots, 0.1 s a measurement")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.slots, options.seconds = 8, 32, 0.1
    main(options)
