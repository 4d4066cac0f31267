"""The feature set `full` recomputed from real JetClass jets, beside the inputs stored with them.

``python tests/benchmarks/jetclass_features.py FILE.npz`` prints the largest deviation of each feature. The file has
``p4_px_py_pz_E`` (N, 4), ``features17`` (N, 17), ``feature_names`` and ``offsets`` (B + 1,).

The stored inputs refer to the jet that JetClass stores, which the file has not: its pT, eta, phi and energy are solved
from the stored inputs of the hardest constituent, and all others are the test. The last column takes the sum of the
constituents instead. There are no raw track columns either: charge and species go in as they are stored, d0 and dz as
atanh of their stored tanh, so these ten only show that the columns stand where they should. Stored values beyond 5 are
compared with 5, where our inputs end.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from jetsweep.data.batch import Ragged
from jetsweep.models._features import COLUMNS, Preprocessing

KINEMATIC = (0, 1, 2, 3, 4, 15, 16)
STORED = {name: 5 + i for i, name in enumerate(COLUMNS["full"][4:])}
"""Place of the charge, the five flags, d0, its error, dz and its error among the seventeen."""


def stored_axis(p4_B4: np.ndarray, x_BF: np.ndarray, sum_B4: np.ndarray) -> np.ndarray:
    """Return the stored jets' (pT, eta, phi, energy), from one constituent of each and its inputs."""
    pt_B = np.hypot(p4_B4[:, 0], p4_B4[:, 1])
    eta_B, phi_B = np.arcsinh(p4_B4[:, 2] / pt_B), np.arctan2(p4_B4[:, 1], p4_B4[:, 0])
    side_B = np.where(sum_B4[:, 2] >= 0, 1.0, -1.0)
    shrink = [np.exp(4.7 - x_BF[:, place] / 0.7) for place in (2, 3)]
    return np.column_stack(
        [pt_B * shrink[0], eta_B - side_B * x_BF[:, 15], phi_B - x_BF[:, 16], p4_B4[:, 3] * shrink[1]]
    )


def deviations(path: Path, dtype: torch.dtype, axis: str) -> tuple[list[str], np.ndarray, int, int]:
    """Return names, largest absolute deviations (17,), and the numbers of jets and of stored values beyond 5."""
    with np.load(path, allow_pickle=False) as stored:
        p4_N4, x_NF = stored["p4_px_py_pz_E"].astype(np.float64), stored["features17"].astype(np.float64)
        offsets, names = stored["offsets"], [str(x) for x in stored["feature_names"]]
    extra = {name: x_NF[:, place] for name, place in STORED.items()}
    with np.errstate(divide="ignore"):
        extra |= {name: np.arctanh(extra[name]).clip(-1e3, 1e3) for name in ("d0", "dz")}
    group = Ragged(
        torch.from_numpy(np.column_stack([p4_N4, *extra.values()])).to(dtype),
        torch.from_numpy(offsets),
        COLUMNS["full"],
    )
    x_BPF, mask_BP = group.pad(int(np.diff(offsets).max()))
    axis_B4, tested_N = None, np.ones(len(x_NF), bool)
    if axis == "stored":
        hardest_B = offsets[:-1]
        tested_N[hardest_B] = False
        solved = stored_axis(p4_N4[hardest_B], x_NF[hardest_B], np.add.reduceat(p4_N4, hardest_B))
        axis_B4 = torch.from_numpy(solved).to(dtype)
    preprocessing = Preprocessing("full", ("features",), x_BPF.shape[1], jet_axis=axis)
    made = preprocessing.from_padded(x_BPF[..., :4], mask_BP, x_BPF[..., 4:], axis_B4)["features"]
    difference_NF = made[mask_BP].double().numpy() - x_NF.clip(-5, 5)
    return names, np.abs(difference_NF[tested_N]).max(axis=0), len(offsets) - 1, int((np.abs(x_NF) > 5).sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    names, single_F, jets, beyond = deviations(file, torch.float32, "stored")
    double_F = deviations(file, torch.float64, "stored")[1]
    sum_F = deviations(file, torch.float64, "sum")[1]
    print(f"{file.name}: {jets} jets, {beyond} stored values beyond 5\n")
    print("| feature | from | float32 | float64 | float64, axis of the sum |\n|---|---|---|---|---|")
    for i, name in enumerate(names):
        origin = "four-vectors" if i in KINEMATIC else "as stored"
        print(f"| {name} | {origin} | {single_F[i]:.2g} | {double_F[i]:.2g} | {sum_F[i]:.2g} |")


if __name__ == "__main__":
    main()
