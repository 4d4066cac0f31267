"""Jets/s of our loader on one core, of torch's and weaver's with worker processes, and of a copy of the padded bytes.

All read the same toy jets and deliver shuffled batches of 512, padded to 128 slots of 7 numbers (4 in one row). Run
``python tests/benchmarks/loader.py [jets]``: it pins itself to one core for our rows and the copies, so ``taskset``
is not needed (and would deny the peers' worker processes the other cores). Prints two markdown tables: the rates, and
their ratios to the goals. On a busy machine trust the rates per core-second; on an idle one the clock.
"""

import importlib.util
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import psutil
import torch
import uproot
import yaml
from torch.utils.data import DataLoader, Dataset

from jetsweep import make_dataset, open_dataset
from jetsweep.data import Batch
from jetsweep.models._features import Preprocessing

Epoch = Callable[[], Iterable[torch.Tensor | Batch]]

BATCH, SLOTS = 512, 128
COLUMNS = ("px", "py", "pz", "energy", "d0", "dz", "charge")
FETCH_STEPS = (0.01, 0.1, 1.0)
"""Share of a file that weaver reads and shuffles at a time; 0.01 is the default of its command line."""

HDF5_LAYOUTS = {
    "contiguous": "7 columns padded to 128 on disk, contiguous",
    "table": "4 columns padded to 200 on disk, chunks of 20 jets",
}
"""The kindest layout, and that of the top-tagging table (whose files are compressed besides)."""

FILES = 4
"""Files that weaver's jets are spread over: it fails on parts of the row groups of a single one (weaver-core 0.5.3)."""

KIN = {
    "part_pt": "np.hypot(part_px, part_py)", "part_pt_log": "np.log(part_pt)", "part_e_log": "np.log(part_energy)",
    "part_logptrel": "np.log(part_pt / jet_pt)", "part_logerel": "np.log(part_energy / jet_energy)",
    "part_deltaR": "np.hypot(part_deta, part_dphi)",
}  # fmt: skip
SCALES = {
    "part_pt_log": (1.7, 0.7), "part_e_log": (2.0, 0.7), "part_logptrel": (-4.7, 0.7), "part_logerel": (-4.7, 0.7),
    "part_deltaR": (0.2, 4.0), "part_deta": (None,), "part_dphi": (None,),
}  # fmt: skip


class HDF5Rows(Dataset):
    """A padded jet per item, read from HDF5 as people write it first."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key, self.rows = path, key, None
        with h5py.File(path) as file:
            self.num_rows = len(file[key])

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, row: int) -> torch.Tensor:
        if self.rows is None:
            self.rows = h5py.File(self.path)[self.key]
        return torch.from_numpy(self.rows[row][:SLOTS])


def make(folder: Path, jets: int) -> None:
    """Write the same toy jets as our shards, as padded HDF5, and as Parquet and ROOT with weaver's configurations."""
    dataset = make_dataset("toy", folder / "arrow", jets=round(jets / 0.8), tracks=True)
    table = dataset.to_arrow("train").combine_chunks()
    lists = table["constituents"].combine_chunks()
    num_B = np.diff(lists.offsets.to_numpy())
    values = {name: lists.values.field(name).to_numpy().astype(np.float32) for name in COLUMNS}
    make_hdf5(folder / "jets.h5", num_B, np.column_stack(list(values.values())))

    pt, eta, phi, mass = (table[f"jet_{name}"].to_numpy() for name in ("pt", "eta", "phi", "mass"))
    eta_N = np.arcsinh(values["pz"] / np.hypot(values["px"], values["py"]))
    dphi_N = np.arctan2(values["py"], values["px"]) - np.repeat(phi, num_B)
    values["deta"] = (eta_N - np.repeat(eta, num_B)) * np.repeat(np.where(eta >= 0, 1.0, -1.0), num_B)
    values["dphi"] = np.remainder(dphi_N + np.pi, 2 * np.pi) - np.pi
    columns = {f"part_{name}": ak.unflatten(x.astype(np.float32), num_B) for name, x in values.items()}
    columns |= {"jet_pt": pt, "jet_energy": np.hypot(mass, pt * np.cosh(eta)).astype(np.float32)}
    label_B = table["label"].combine_chunks().indices.to_numpy()
    columns |= {f"jet_is_{name}": (label_B == i).astype(np.int32) for i, name in enumerate(dataset.classes)}
    make_weaver_files(folder, columns)


def make_hdf5(path: Path, num_B: np.ndarray, values_NF: np.ndarray) -> None:
    """Pad jets to both layouts."""
    with h5py.File(path, "w") as file:
        contiguous = file.create_dataset("contiguous", (len(num_B), SLOTS, 7), np.float32)
        table = file.create_dataset("table", (len(num_B), 200, 4), np.float32, chunks=(20, 200, 4))
        for start in range(0, len(num_B), 4096):
            part_B = num_B[start : start + 4096]
            low, size = num_B[:start].sum(), part_B.sum()
            x_BPF = np.zeros((len(part_B), max(200, part_B.max()), 7), np.float32)
            x_BPF[np.arange(x_BPF.shape[1]) < part_B[:, None]] = values_NF[low : low + size]
            contiguous[start : start + 4096] = x_BPF[:, :SLOTS]
            table[start : start + 4096] = x_BPF[:, :200, :4]


def make_weaver_files(folder: Path, columns: dict[str, ak.Array | np.ndarray]) -> None:
    """Parquet as weaver's converter writes it by default, ROOT, and two data configurations."""
    types = {name: ak.type(x).content if isinstance(x, ak.Array) else x.dtype for name, x in columns.items()}
    for i in range(FILES):
        part = {name: x[i::FILES] for name, x in columns.items()}
        packed = ak.to_packed(ak.Array(part))
        ak.to_parquet(packed, folder / f"jets_{i}.parquet", compression="lz4", row_group_size=1000)
        with uproot.recreate(folder / f"jets_{i}.root", compression=uproot.LZ4(4)) as file:
            file.mktree("tree", types)
            for start in range(0, len(packed), 1000):
                file["tree"].extend({name: x[start : start + 1000] for name, x in part.items()})
    for kind, variables in {"stored": {f"part_{x}": (None,) for x in COLUMNS}, "kin": SCALES}.items():
        padded = {"length": SLOTS, "pad_mode": "constant"}
        features = {**padded, "vars": [[name, *scale] for name, scale in variables.items()]}
        config = {
            "treename": "tree",
            "new_variables": {"part_mask": "ak.ones_like(part_energy)"} | (KIN if kind == "kin" else {}),
            "preprocess": {"method": "manual"},
            "inputs": {"features": features, "mask": {**padded, "vars": [["part_mask", None]]}},
            "labels": {"type": "simple", "value": [name for name in columns if name.startswith("jet_is_")]},
        }
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def run_on(cores: set[int]) -> None:
    """Keep every thread of this process, and whatever they start, on these cores."""
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), cores)


def core_seconds() -> float:
    """Processor time of this process and its workers so far, which other people's load does not lengthen much."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [me, *me.children(recursive=True)])


def rate(epoch: Epoch) -> tuple[float, float]:
    """Jets per second (best epoch) and per core-second, of 2 epochs and 2 s at least, after one to warm up."""
    sum(map(len, epoch()))
    jets: list[int] = []
    seconds: list[float] = []
    used = core_seconds()
    while len(seconds) < 2 or sum(seconds) < 2.0:
        start = time.perf_counter()
        jets.append(sum(map(len, epoch())))
        seconds.append(time.perf_counter() - start)
    return jets[0] / min(seconds), sum(jets) / (core_seconds() - used)


def ours(folder: Path) -> Iterator[tuple[str, Epoch]]:
    """Our loader: what it hands over, what padding adds, and what training does with the columns of `kin`."""
    dataset = open_dataset(folder / "arrow")
    epochs = itertools.count()

    def batches(columns: tuple[str, ...]) -> Iterator[Batch]:
        loader = dataset.loader("train", BATCH, constituents=columns, shuffle=True, max_constituents=SLOTS)
        return loader.batches(next(epochs))

    preprocess = Preprocessing("kin", ("features", "mask"), SLOTS)
    yield "ours, 7 stored columns, ragged", lambda: batches(COLUMNS)
    yield "ours, 7 stored columns, padded", lambda: (b.groups["constituents"].pad(SLOTS)[0] for b in batches(COLUMNS))
    yield "ours, 4 columns, padded, 7 `kin` features", lambda: (preprocess(b)["features"] for b in batches(COLUMNS[:4]))


def weaver(folder: Path, kind: str, suffix: str, fetch_step: float) -> Epoch:
    """weaver's epochs as its train.py sets them up: one worker process, which reads ahead in a thread."""
    from weaver.utils.dataset import SimpleIterDataset

    data = SimpleIterDataset(
        {"_": sorted(map(str, folder.glob(f"jets_*.{suffix}")))},
        str(folder / f"{kind}.yaml"),
        batch_size=BATCH,
        load_range_and_fraction=((0, 1), 1, 1),
        fetch_by_files=False,
        fetch_step=fetch_step,
        async_load=True,
        name="train",
    )
    # train.py pins memory as well, which does nothing without a GPU
    loader = DataLoader(data, BATCH, drop_last=True, num_workers=1, persistent_workers=True)

    def epoch() -> Iterator[torch.Tensor]:
        for inputs, _labels, _observers in loader:
            assert inputs["features"].shape[1:] == (7, SLOTS)
            assert inputs["mask"].shape[1:] == (1, SLOTS)
            yield inputs["features"]

    return epoch


def copies(jets: int) -> Iterator[tuple[str, Epoch]]:
    """A copy of batches that are padded already: the bound for whoever delivers padded batches."""
    steps = -(-jets // BATCH)
    source = torch.randn(min(steps, 100), BATCH, SLOTS, len(COLUMNS))
    target = torch.empty_like(source[0])
    size = f"{source.nbytes / 2**20:.0f} MiB"
    batches = itertools.cycle(source)
    yield f"copy of padded batches, {size} into new tensors", lambda: (next(batches).clone() for _ in range(steps))
    yield "copy of one padded batch over and over, in cache", lambda: (target.copy_(source[0]) for _ in range(steps))


def measure(jets: int) -> dict[str, tuple[float, float]]:
    """Rates of every loader by what it does."""
    cores = os.sched_getaffinity(0)
    rates = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, jets)
        run_on({min(cores)})
        for label, epoch in itertools.chain(ours(folder), copies(jets)):
            rates[f"{label} | 1 core, no workers"] = rate(epoch)
        run_on(cores)
        for key, what in HDF5_LAYOUTS.items():
            rows = HDF5Rows(folder / "jets.h5", key)
            plain = DataLoader(rows, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
            rates[f"torch DataLoader, HDF5, {what} | {len(cores)} cores, 2 workers"] = rate(plain.__iter__)
        if importlib.util.find_spec("weaver") is None:
            print("weaver-core is not installed, its rows are left out: pip install -c constraints.txt weaver-core\n")
            return rates
        for kind, suffix in (("stored", "parquet"), ("kin", "parquet"), ("kin", "root")):
            what = "7 stored columns" if kind == "stored" else "5 columns and 2 of the jet, 7 `kin` features"
            for step in FETCH_STEPS:
                label = f"weaver, {suffix}, {what}, padded, fetch-step {step:g} | {len(cores)} cores, 1 worker"
                rates[label] = rate(weaver(folder, kind, suffix, step))
    return rates


def main(jets: int) -> None:
    """Measure and print; like is compared with like, and with the fastest setting of each peer."""
    torch.set_num_threads(1)
    rates = measure(jets)
    print(f"{jets:,} jets, batches of {BATCH}, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| loader | runs on | jets/s | jets/core-second |\n|---|---|---|---|")
    for label, (per_second, per_core_second) in rates.items():
        print(f"| {label} | {per_second:,.0f} | {per_core_second:,.0f} |")

    def best(*words: str) -> np.ndarray:
        found = [x for label, x in rates.items() if all(word in label for word in words)]
        return np.max(found or [(np.nan, np.nan)], axis=0)

    stored, kin = best("ours, 7", "padded"), best("ours, 4")
    peers = {f"torch DataLoader over HDF5, {what}": (best(what), best(what)) for what in HDF5_LAYOUTS.values()}
    for suffix in ("parquet", "root"):
        peers[f"weaver over {suffix}, best fetch-step"] = best(suffix, "7 stored"), best(suffix, "kin")
    rows = {f"ours / {name}": (stored / x, kin / y, ">= 20") for name, (x, y) in peers.items()}
    for label in ("into new tensors", "in cache"):
        rows[f"copy of the padded bytes, {label} / ours"] = (best(label) / stored, best(label) / kin, "<= 4")
    print("\nRatios by the clock (by core-seconds):\n")
    print("| ratio | 7 stored columns | 7 `kin` features | goal |\n|---|---|---|---|")
    for label, (*ratios, goal) in rows.items():
        cells = ["-" if np.isnan(x[0]) else f"{x[0]:.1f} ({x[1]:.1f})" for x in ratios]
        print(f"| {label} | {' | '.join(cells)} | {goal} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
