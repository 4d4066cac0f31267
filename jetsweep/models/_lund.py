"""Inputs of networks on Lund trees: a node for each Cambridge/Aachen declustering, linked as it was clustered."""

# Shapes: B jets, P slots for nodes, F features, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jetsweep.data.batch import Ragged
from jetsweep.physics.lund import LUND_NODE_COLUMNS, LundCuts, lund_nodes

LUND_FEATURES: dict[str, tuple[str, ...]] = {
    "lund2": ("ln_delta", "ln_kt"),
    "lund3": ("ln_z", "ln_delta", "ln_kt"),
    "lund4": ("ln_z", "ln_delta", "ln_kt", "psi"),
    "lund5": ("ln_z", "ln_delta", "psi", "ln_m", "ln_kt"),
}
"""Node features of each set, in the order of LundNet's samples (arXiv:2012.08526)."""


def lund_inputs(features: str, group: Ragged, num_slots: int) -> dict[str, Tensor]:
    """Return ``features`` (B, P, F), ``neighbours`` (B, P, 3) and ``mask`` (B, P) of declusterings.

    Parameters
    ----------
    features : str
        One of `LUND_FEATURES`.
    group : Ragged
        Columns `LUND_NODE_COLUMNS`; the first `num_slots` nodes of a jet, its widest declusterings, are kept.
    num_slots : int
    """
    assert group.columns == LUND_NODE_COLUMNS, group.columns
    x_BPF, mask_BP = group.pad(num_slots)
    columns = [x_BPF[..., LUND_NODE_COLUMNS.index(name)] for name in LUND_FEATURES[features]]
    # empty slots link to nothing
    neighbours_BP3 = torch.where(mask_BP[..., None], x_BPF[..., -3:], -1.0).long()
    return {"features": torch.stack(columns, dim=-1), "neighbours": neighbours_BP3, "mask": mask_BP}


def lund_group(p4_BP4: Tensor, mask_BP: Tensor, cuts: LundCuts) -> Ragged:
    """Cluster padded constituents, shapes (B, P, 4) and (B, P), on the host; the result is on their device."""
    offsets = np.concatenate([[0], np.cumsum(mask_BP.sum(dim=1).cpu().numpy())])
    nodes, node_offsets = lund_nodes(p4_BP4[mask_BP].detach().cpu().numpy(), offsets, cuts)
    return Ragged(torch.from_numpy(nodes), torch.from_numpy(node_offsets), LUND_NODE_COLUMNS).to(p4_BP4.device)
