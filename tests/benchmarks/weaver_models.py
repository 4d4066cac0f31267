"""ParT and ParticleNet against weaver-core's modules: same weights, same batch; outputs, forward and training step.

``python tests/benchmarks/weaver_models.py [--batch 64] [--slots 128] [--threads 2] [--device cpu|cuda]`` prints a
markdown table. The two take turns, so that other work on the machine disturbs both alike.
"""

import argparse
import logging
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNet
from weaver.nn.model.ParticleTransformer import ParticleTransformer

from jetsweep.models import create_model
from jetsweep.models._features import Preprocessing
from jetsweep.models._weights import import_published_weights
from jetsweep.testing import toy_four_vectors

NUM_CLASSES = 10


def jets(batch: int, slots: int, device: str) -> dict[str, Tensor]:
    """Return kin inputs of toy jets whose multiplicities look like those of top tagging: 45 on average, 20 at least."""
    p4_BP4, _, label_B = toy_four_vectors(batch, slots, seed=1, min_constituents=slots)
    source = torch.Generator().manual_seed(2)
    counts_B = (45 + 15 * torch.randn(batch, generator=source)).round().clamp(20, slots)
    mask_BP = torch.arange(slots) < counts_B[:, None]
    tensors = Preprocessing("kin", ("features", "points", "p4", "mask"), slots).from_padded(p4_BP4, mask_BP)
    return {name: x.to(device) for name, x in (tensors | {"label": label_B}).items()}


def peers(device: str) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Return weaver's module and ours, with the published sizes and the same weights."""
    torch.manual_seed(0)
    particlenet = ParticleNet(
        7,
        NUM_CLASSES,
        conv_params=[(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        fc_params=[(256, 0.1)],
        use_fusion=False,
    )
    part = ParticleTransformer(7, NUM_CLASSES, fc_params=[], use_pre_activation_pair=False)
    found = {}
    for name, peer in {"part": part, "particlenet": particlenet}.items():
        network = create_model(name, 7, NUM_CLASSES)
        import_published_weights(network, peer.state_dict())
        found[name] = (peer.to(device), network.to(device))
    return found


def ask(module: nn.Module, tensors: dict[str, Tensor]) -> Tensor:
    """Logits of either kind of module."""
    x, mask = tensors["features"].transpose(1, 2), tensors["mask"][:, None]
    if isinstance(module, ParticleNet):
        return module(tensors["points"].transpose(1, 2), x, mask)
    if isinstance(module, ParticleTransformer):
        return module(x, v=tensors["p4"].transpose(1, 2), mask=mask)
    return module(**{name: tensors[name] for name in module.inputs})


def step(module: nn.Module, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Forward, loss, backward and update."""
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(ask(module, tensors), tensors["label"]).backward()
    optimizer.step()


def taking_turns(calls: list[Callable[[], object]], budget_s: float, device: str) -> list[list[float]]:
    """Seconds of each call, one after the other, for so long."""
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls * 6:  # weaver trims jets only after five calls in training
        call()
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(seconds[0]) < 5:
        for call, taken in zip(calls, seconds):
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="per measurement")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(arguments.threads)
    tensors = jets(arguments.batch, arguments.slots, arguments.device)
    hardware = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{platform.machine()} CPU"
    counts_B = tensors["mask"].sum(dim=1)
    print(f"{hardware}, {arguments.threads} threads, torch {torch.__version__}; {arguments.batch} jets in")
    print(f"{arguments.slots} slots, {counts_B.float().mean():.0f} real on average, {int(counts_B.max())} at most\n")
    print("| model | what | weaver, ms | jetsweep, ms | weaver / jetsweep | largest difference of logits |")
    print("|---|---|---|---|---|---|")
    for name, pair in peers(arguments.device).items():
        with torch.no_grad():
            logits = [ask(module.eval(), tensors) for module in pair]
            difference = float((logits[0] - logits[1]).abs().max())
            calls = [lambda module=module: ask(module, tensors) for module in pair]
            _row(name, "forward", taking_turns(calls, arguments.seconds, arguments.device), f"{difference:.1e}")
        optimizers = [torch.optim.AdamW(module.train().parameters(), lr=1e-4) for module in pair]
        calls = [lambda m=module, o=optimizer: step(m, tensors, o) for module, optimizer in zip(pair, optimizers)]
        _row(name, "training step", taking_turns(calls, arguments.seconds, arguments.device), "")


def _row(name: str, what: str, seconds: list[list[float]], difference: str) -> None:
    peer, ours = (statistics.median(taken) for taken in seconds)
    ratio = statistics.median(a / b for a, b in zip(*seconds))
    print(f"| {name} | {what} | {peer * 1e3:.1f} | {ours * 1e3:.1f} | {ratio:.2f} | {difference} |", flush=True)


if __name__ == "__main__":
    main()
