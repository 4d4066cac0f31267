"""Does memory grow with the dataset? Convert and load N/10 and N jets of the top-tagging layout in fresh processes.

Run ``python tests/benchmarks/million_jets.py [jets]``; the default of 1,000,000 needs about 5 GB below ``TMPDIR``. The
HDF5 file (uncompressed, pandas' table format) holds toy jets. Prints a markdown table; memory is the highest sum of
``RssAnon`` in /proc/PID/status over a process and its children, sampled every 10 ms: anonymous memory only, so that
pages of mapped files, which the kernel drops when it likes, do not count.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import torch

from jetsweep import make_dataset, open_dataset
from jetsweep.data.sources.top_tagging import SLOTS
from jetsweep.data.sources.toy import make_toy_jets
from jetsweep.data.writer import DatasetWriter

BYTES_PER_JET = 3240 + 1100
"""Of the HDF5 file, and of the shards with room to spare."""
CHUNK = 5_000
ROW = np.dtype([("index", "i8"), ("values_block_0", "f4", (804,)), ("values_block_1", "i8", (2,))])
SHARD_ROWS = DatasetWriter.__init__.__kwdefaults__["shard_rows"]


def write_table(path: Path, jets: int) -> None:
    """Write toy jets chunk by chunk: E_0, PX_0, PY_0, PZ_0 …, four truth columns (0), ttv (0) and is_signal_new."""
    with h5py.File(path, "w") as file:
        table = file.create_dataset("table/table", (jets,), ROW, chunks=(20,))
        for start in range(0, jets, CHUNK):
            toys = make_toy_jets(min(CHUNK, jets - start), np.random.default_rng([1, start]), start=start)
            num_B = np.diff(toys.offsets)
            p4_BP4 = np.zeros((len(toys), max(SLOTS, num_B.max()), 4), np.float32)
            mask_BP = np.arange(p4_BP4.shape[1]) < num_B[:, None]
            p4_BP4[mask_BP] = np.column_stack([toys.values[name] for name in ("energy", "px", "py", "pz")])
            rows = np.zeros(len(toys), ROW)
            rows["index"] = toys.source_row
            rows["values_block_0"][:, : 4 * SLOTS] = p4_BP4[:, :SLOTS].reshape(len(toys), -1)
            rows["values_block_1"][:, 1] = toys.label
            table[start : start + len(toys)] = rows


def anonymous_mib(pid: int) -> float:
    """Resident anonymous memory of one process; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def convert(source: str, out: str) -> int:
    """Convert the file, as a user would."""
    return make_dataset("top-tagging", out, files={"train": [source]}).num_rows("train")


def convert_atlas(folder: str, out: str) -> int:
    """Convert a folder of files in ATLAS's layout, as a user would."""
    dataset = make_dataset("atlas-top-tagging", out, files={"train": sorted(map(str, Path(folder).iterdir()))})
    return sum(dataset.num_rows(split) for split in dataset.splits)


def load(folder: str, _: str) -> int:
    """One shuffled epoch of ragged batches."""
    loader = open_dataset(folder).loader("train", 512, shuffle=True, max_constituents=128)
    return sum(len(batch) for batch in loader.batches(0))


def work(task: str, *paths: str) -> None:
    """Run in the fresh process: do one task and print what the parent reads."""
    torch.set_num_threads(1)
    before = anonymous_mib(psutil.Process().pid)
    start = time.perf_counter()
    jets = {"convert": convert, "convert-atlas": convert_atlas, "load": load}[task](*paths)
    print(json.dumps({"rate": jets / (time.perf_counter() - start), "jets": jets, "before": before}))


def measured(task: str, *paths: Path) -> dict[str, float]:
    """Run a task in a fresh process and watch its memory: jets/s, and MiB before and at the peak."""
    process = subprocess.Popen([sys.executable, __file__, task, *map(str, paths)], stdout=subprocess.PIPE, text=True)
    tree, peak, ended = psutil.Process(process.pid), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            with contextlib.suppress(psutil.NoSuchProcess):
                pids = [process.pid, *(child.pid for child in tree.children(recursive=True))]
                peak = max(peak, sum(map(anonymous_mib, pids)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{task} failed with exit status {process.returncode}")
    return json.loads(output.splitlines()[-1]) | {"peak": peak}


def main(jets: int) -> None:
    """Measure both sizes and print."""
    needed, free = jets * BYTES_PER_JET / 1e9 + 0.2, shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    print(f"needs {needed:.1f} GB in {tempfile.gettempdir()}, {free:.1f} GB are free", flush=True)
    if needed > free:
        raise SystemExit("not enough: set TMPDIR to a larger disk, or give a smaller number of jets")
    runs = []
    for size in (jets // 10, jets):
        with tempfile.TemporaryDirectory() as name:
            table, shards = Path(name) / "train.h5", Path(name) / "shards"
            write_table(table, size)
            runs.append((measured("convert", table, shards), measured("load", shards, shards)))
            assert all(run["jets"] == size for run in runs[-1]), "no jet may be lost"
    print("\nPeak: anonymous memory (RssAnon of process and children); in brackets: after the imports.\n")
    print("| jets | converted, jets/s | peak, MiB | loaded, jets/s | peak, MiB |\n|---|---|---|---|---|")
    for size, pair in zip((jets // 10, jets), runs):
        cells = [f"{run['rate']:,.0f} | {run['peak']:.0f} ({run['before']:.0f})" for run in pair]
        print(f"| {size:,} | {' | '.join(cells)} |")
    ratios = [large["peak"] / small["peak"] for small, large in zip(*runs)]
    print(f"| ratio for 10 times the jets | | {ratios[0]:.2f} | | {ratios[1]:.2f} |")
    if jets // 10 < 2 * SHARD_ROWS:
        print(
            f"\nThe writer holds up to {SHARD_ROWS:,} jets of a split on purpose: below {20 * SHARD_ROWS:,} jets the "
            "ratio shows this window filling, not growth."
        )


if __name__ == "__main__":
    if sys.argv[1:2] in (["convert"], ["convert-atlas"], ["load"]):
        work(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
