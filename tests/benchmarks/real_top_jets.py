"""Taggers of a sweep on real jets of the top-tagging reference set, beside the jets that they were trained for.

``python tests/benchmarks/real_top_jets.py SWEEP JETS.npz … [--by LEAF]`` prints a markdown table: AUC of each trained
trial on its own test split and on the jets of the files (arrays `offsets`, `label`, and `p4_px_py_pz_E` or
`p4_E_px_py_pz`, in GeV). The files become a dataset through the source `parquet`, as a user's own would.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jetsweep.data.dataset import Dataset
from jetsweep.data.make import make_dataset
from jetsweep.errors import DataError
from jetsweep.metrics.classification import auc
from jetsweep.training.checkpoint import load_checkpoint
from jetsweep.training.inference import evaluate_model

ORDERS = {"p4_px_py_pz_E": ("px", "py", "pz", "energy"), "p4_E_px_py_pz": ("energy", "px", "py", "pz")}


def to_parquet(files: list[Path], out: Path) -> None:
    """One Parquet file of all jets, constituents as lists."""
    tables = []
    for file in files:
        arrays = np.load(file, allow_pickle=False)
        (order,) = ORDERS.keys() & set(arrays.files)
        offsets = pa.array(arrays["offsets"].astype(np.int32))
        columns = {
            name: pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(arrays[order][:, i], np.float32)))
            for i, name in enumerate(ORDERS[order])
        }
        columns = dict(sorted(columns.items()))
        tables.append(pa.table(columns | {"is_top": pa.array(arrays["label"].astype(np.int32))}))
    pq.write_table(pa.concat_tables(tables), out)


def real_jets(files: list[Path], folder: Path) -> Dataset:
    """The jets as a dataset with nothing but a test split."""
    to_parquet(files, folder / "jets.parquet")
    source = {
        "name": "parquet",
        "files": {"test": [str(folder / "jets.parquet")]},
        "constituents": {name: name for name in ("px", "py", "pz", "energy")},
        "label": {"column": "is_top", "classes": {"qcd": 0, "top": 1}},
    }
    return make_dataset(source, folder / "dataset")


def own_auc(folder: Path) -> float:
    """AUC that a trial measured on its own test split."""
    return float(json.loads((folder / "result.json").read_text())["test"]["test/auc"])


def bootstrap_error(score: np.ndarray, is_top: np.ndarray, replicas: int = 200) -> float:
    """Standard deviation of the AUC over Poisson bootstrap replicas."""
    rng = np.random.default_rng(1)
    return statistics.stdev(auc(score, is_top, rng.poisson(1.0, len(score)).astype(float)) for _ in range(replicas))


def mean_std(values: list[float]) -> str:
    """Mean and standard deviation over runs."""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--by", help="Leaf of the model that tells runs apart beside its name, e.g. min_delta.")
    given = parser.parse_args()
    aucs: dict[str, tuple[list[float], list[float], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = real_jets(given.files, Path(folder))
        print(f"{dataset.num_rows('test'):,} jets of the reference set\n")
        for best in sorted(given.sweep.glob("*/*/checkpoints/best")):
            loaded = load_checkpoint(best)
            name = loaded.spec.model.name
            name += f" {version}" if (version := getattr(loaded.spec.model, "version", None)) else ""
            name += f", {given.by} {getattr(loaded.spec.model, given.by)}" if given.by else ""
            own = own_auc(best.parents[1])
            try:
                metrics, arrays, task = evaluate_model(loaded, dataset, "test")
            except DataError as error:
                print(f"{name}: {error}\n")
                continue
            of_model = aucs.setdefault(name, ([], [], 0.0))
            of_model[0].append(own)
            of_model[1].append(metrics["test/auc"])
            aucs[name] = (
                *of_model[:2],
                bootstrap_error(arrays["probability"][:, task.signal], arrays["label"] == task.signal),
            )
    print("| model | runs | AUC, own test jets | AUC, reference jets | statistical |\n|---|---|---|---|---|")
    for name, (own_aucs, real_aucs, error) in sorted(aucs.items(), key=lambda item: -statistics.fmean(item[1][1])):
        print(f"| {name} | {len(own_aucs)} | {mean_std(own_aucs)} | {mean_std(real_aucs)} | ± {error:.4f} |")


if __name__ == "__main__":
    main()
