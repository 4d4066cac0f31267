"""Tiny files in every published layout, made from toy jets."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jetsweep.data.sources.jetclass import CLASSES, PARTICLES, SCALARS
from jetsweep.data.sources.top_tagging import FLOATS, INTEGERS, SLOTS, TRUTH
from jetsweep.data.sources.toy import make_toy_jets


def toy(size=40, seed=1):
    return make_toy_jets(size, np.random.default_rng(seed), tracks=True)


def padded(jets, columns, slots):
    x_BPF = np.zeros((len(jets), slots, len(columns)))
    for i, (low, high) in enumerate(zip(jets.offsets[:-1], jets.offsets[1:])):
        for f, name in enumerate(columns):
            x_BPF[i, : high - low, f] = jets.values[name][low:high]
    return x_BPF


def top_tagging_blocks(jets, order=("energy", "px", "py", "pz")):
    floats = np.concatenate([padded(jets, order, SLOTS).reshape(len(jets), -1), np.zeros((len(jets), 4))], axis=1)
    return floats.astype(np.float32), np.column_stack([np.zeros(len(jets)), jets.label]).astype(np.int64)


def write_table_format(path, floats, integers):
    """As pandas writes with format="table": one compound per row."""
    rows = np.zeros(len(floats), [("index", "i8"), ("values_block_0", "f4", (804,)), ("values_block_1", "i8", (2,))])
    rows["values_block_0"], rows["values_block_1"] = floats, integers
    with h5py.File(path, "w") as file:
        file.create_dataset("table/table", data=rows, chunks=(8,), compression="gzip")
    return path


def write_fixed_format(path, floats, integers, names=tuple(FLOATS + TRUTH)):
    """As pandas writes with format="fixed": blocks, their items, two axes."""
    with h5py.File(path, "w") as file:
        group = file.create_group("table")
        group["axis0"] = np.array([*names, *INTEGERS], "S")
        group["axis1"] = np.arange(len(floats))
        group["block0_items"], group["block0_values"] = np.array(names, "S"), floats
        group["block1_items"], group["block1_values"] = np.array(INTEGERS, "S"), integers
    return path


def write_quark_gluon(path, jets, slots=160, **changes):
    px, py, pz, _ = np.moveaxis(padded(jets, ("px", "py", "pz", "energy"), slots), -1, 0)
    pt = np.hypot(px, py)
    real = pt > 0
    ids = np.where(padded(jets, ("charge",), slots)[..., 0] != 0, 211, 22)
    rapidity = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pz), where=real))
    # published angles run on beyond pi
    phi = np.arctan2(py, px) + 2 * np.pi
    x = np.where(real[..., None], np.stack([pt, rapidity, phi, ids], axis=-1), 0.0)
    np.savez_compressed(path, **({"X": x, "y": jets.label.astype(np.float64)} | changes))
    return path


def jetclass_columns(jets, label):
    """Branches of one file, which holds one class."""
    columns = {}
    for name, branch in PARTICLES.items():
        columns[branch] = np.split(jets.values[name].astype(np.float32), jets.offsets[1:-1])
    energy = np.hypot(jets.scalars["jet_mass"], jets.scalars["jet_pt"] * np.cosh(jets.scalars["jet_eta"]))
    for name in SCALARS:
        columns[name] = jets.scalars.get(name, np.ones(len(jets))).astype(np.float32)
    columns["jet_energy"] = energy.astype(np.float32)
    for name in CLASSES:
        columns[f"label_{name}"] = np.full(len(jets), name == label, np.int32)
    return columns


def write_jetclass_root(path, columns):
    import awkward as ak
    import uproot

    with uproot.recreate(path) as file:
        # a TTree as published; plain assignment would write an RNTuple
        arrays = {name: ak.Array(x) if isinstance(x, list) else x for name, x in columns.items()}
        file.mktree("tree", {n: ak.type(x).content if isinstance(x, ak.Array) else x.dtype for n, x in arrays.items()})
        file["tree"].extend(arrays)
    return path


def write_jetclass_parquet(path, columns):
    pq.write_table(
        pa.table({n: pa.array([list(v) for v in x] if isinstance(x, list) else x) for n, x in columns.items()}), path
    )
    return path


def write_pandas(path, floats, integers, format):
    """With pandas and PyTables themselves, compressed as the published files are; columns in the published order."""
    import pandas as pd

    columns = [*FLOATS, *TRUTH, *INTEGERS]
    values = [*floats.T, *integers.T]
    frame = pd.DataFrame(dict(zip(columns, values)))
    frame.to_hdf(path, key="table", format=format, complib="blosc", complevel=5)
    return path


def write_pandas_table(path, floats, integers):
    return write_pandas(path, floats, integers, "table")


def write_pandas_fixed(path, floats, integers):
    return write_pandas(path, floats, integers, "fixed")
