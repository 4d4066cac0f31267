"""Jets/s of our loader, of a plain torch DataLoader over HDF5, and of a memcpy of the same padded bytes (in cache).

Run on one core: ``OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/loader.py [jets]``. Prints a markdown table.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from jetsweep.data import open_dataset
from jetsweep.data.writer import DatasetWriter

BATCH, SLOTS, STORED = 512, 128, 7
COLUMNS = ("px", "py", "pz", "energy", "d0", "dz", "charge")
TABLE_SLOTS = 200
"""Constituents of a row of the top-tagging table, four columns each; the compound layout of PyTables is left out."""


class HDF5Table(Dataset):
    """One row per item, as people write it first: a row read from HDF5, the leading slots, a tensor."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, None
        with h5py.File(path) as file:
            self.num_rows = len(file["table"])

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, row: int) -> torch.Tensor:
        if self.file is None:
            self.file = h5py.File(self.path)
        values = self.file["table"][row][: TABLE_SLOTS * 4].reshape(TABLE_SLOTS, 4)
        return torch.from_numpy(values[:SLOTS])


def make(folder: Path, jets: int) -> None:
    """Write the same random jets in both formats; about 45 constituents each, as in top tagging."""
    rng = np.random.default_rng(1)
    length_B = np.clip(rng.normal(45, 15, jets), 1, SLOTS).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(length_B)]).astype(np.int32)
    values_FN = rng.normal(size=(STORED, offsets[-1])).astype(np.float32)
    struct = pa.StructArray.from_arrays([pa.array(x) for x in values_FN], names=list(COLUMNS))
    label = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 2, jets, dtype=np.int32)), pa.array(["qcd", "top"]))
    table = pa.table({"constituents": pa.ListArray.from_arrays(pa.array(offsets), struct), "label": label})
    groups = {"constituents": dict.fromkeys(COLUMNS, "")}
    with DatasetWriter(
        folder / "arrow", source="bench", options={}, classes=("qcd", "top"), groups=groups, scalars={}, provenance={}
    ) as sink:
        sink.write("train", table)
    with h5py.File(folder / "table.h5", "w") as file:
        # chunks of whole rows, uncompressed: kinder to HDF5 than a compressed table would be
        rows = file.create_dataset("table", (jets, TABLE_SLOTS * 4 + 6), np.float32, chunks=(20, TABLE_SLOTS * 4 + 6))
        mask_BP = np.arange(TABLE_SLOTS) < length_B[:, None]
        dense = np.zeros((jets, TABLE_SLOTS, 4), np.float32)
        dense[mask_BP] = values_FN[:4].T
        rows[:, : TABLE_SLOTS * 4] = dense.reshape(jets, -1)


def rate(epoch: Callable[[], int]) -> float:
    """Jets per second, the better of two epochs after one to warm up."""
    epoch()
    best = 0.0
    for _ in range(2):
        start = time.perf_counter()
        best = max(best, epoch() / (time.perf_counter() - start))
    return best


def main(jets: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, jets)
        dataset = open_dataset(folder / "arrow")
        loader = dataset.loader("train", BATCH, constituents=COLUMNS, shuffle=True, max_constituents=SLOTS)
        plain = DataLoader(HDF5Table(folder / "table.h5"), BATCH, shuffle=True, num_workers=2)
        source = np.random.default_rng(0).normal(size=(BATCH, SLOTS, STORED)).astype(np.float32)
        target = np.empty_like(source)

        def ours() -> int:
            return sum(len(batch.groups["constituents"].pad(SLOTS)[0]) for batch in loader.batches(0))

        def ragged() -> int:
            return sum(len(batch) for batch in loader.batches(0))

        def torch_hdf5() -> int:
            return sum(len(x_BP4) for x_BP4 in plain)

        def memcpy() -> int:
            for _ in range(jets // BATCH):
                np.copyto(target, source)
            return jets // BATCH * BATCH

        rates = {
            "ours, ragged": rate(ragged),
            f"ours, padded to {SLOTS} x {STORED}": rate(ours),
            "torch DataLoader over HDF5, 2 workers, 4 columns": rate(torch_hdf5),
            f"memcpy of {SLOTS} x {STORED} float32": rate(memcpy),
        }
    reference = rates["torch DataLoader over HDF5, 2 workers, 4 columns"]
    print(f"{jets:,} jets, batches of {BATCH}\n\n| loader | jets/s | x torch DataLoader |\n|---|---|---|")
    for name, value in rates.items():
        print(f"| {name} | {value:,.0f} | {value / reference:.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
