"""Synthetic jets as tensors: enough structure to learn from, no physics claimed."""

# Shapes: B jets, P slots, F features, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import torch
from torch import Tensor

from jetsweep.models._base import JET_VARIABLES, ModelConfig
from jetsweep.models._features import COLUMNS, NUM_FEATURES, Preprocessing


def toy_four_vectors(
    num_jets: int, num_slots: int, seed: int = 0, min_constituents: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Massless constituents in descending pT; jets of class 1 are three times as wide as those of class 0.

    Parameters
    ----------
    num_jets, num_slots : int
    seed : int
    min_constituents : int
        Smallest number of real slots; the largest is `num_slots`.

    Returns
    -------
    p4_BP4 : Tensor, shape (B, P, 4), GeV, 0 in empty slots
    mask_BP : Tensor, shape (B, P), bool
    label_B : Tensor, shape (B,), int64
    """
    source = torch.Generator().manual_seed(seed)
    counts_B = torch.randint(min_constituents, num_slots + 1, (num_jets,), generator=source)
    mask_BP = torch.arange(num_slots) < counts_B[:, None]
    label_B = torch.arange(num_jets) % 2
    pt_BP = (0.5 + 100 * torch.rand(num_jets, num_slots, generator=source) ** 3).sort(dim=1, descending=True).values
    axis_B2 = torch.randn(num_jets, 2, generator=source)
    width_B = torch.where(label_B == 1, 0.3, 0.1)
    spread_BP2 = width_B[:, None, None] * torch.randn(num_jets, num_slots, 2, generator=source)
    eta_BP, phi_BP = (axis_B2[:, None] + spread_BP2).unbind(dim=-1)
    p4_BP4 = torch.stack([phi_BP.cos(), phi_BP.sin(), eta_BP.sinh(), eta_BP.cosh()], dim=-1) * pt_BP[..., None]
    return torch.where(mask_BP[..., None], p4_BP4, 0.0), mask_BP, label_B


def toy_inputs(
    config: ModelConfig,
    inputs: tuple[str, ...],
    num_jets: int,
    num_slots: int,
    seed: int = 0,
    min_constituents: int = 1,
) -> tuple[dict[str, Tensor], Tensor, int]:
    """Tensors that a network of `config` wants, the labels, and the number of features.

    Four-vectors go through the feature set of `config`; a third of the constituents is neutral, track columns are unit
    Gaussians, high-level variables and named scalars are unit Gaussians about the label.

    Parameters
    ----------
    config : ModelConfig
    inputs : tuple of str
        The network's `inputs`.
    num_jets, num_slots, seed, min_constituents : int
        As in `toy_four_vectors`.
    """
    num_features = len(config.named_scalars) or NUM_FEATURES[config.features]
    p4_BP4, mask_BP, label_B = toy_four_vectors(num_jets, num_slots, seed, min_constituents)
    if config.features in JET_VARIABLES:
        source = torch.Generator().manual_seed(seed)
        jet_features_BF = label_B[:, None] + torch.randn(num_jets, num_features, generator=source)
        of_the_jet = {"jet_features": jet_features_BF, "rows": torch.arange(num_jets)}
        return {name: of_the_jet[name] for name in inputs}, label_B, num_features
    extra_BPF = _extra_columns(COLUMNS[config.features][4:], p4_BP4.shape[:2], seed)
    preprocessing = Preprocessing(config.features, inputs, num_slots)
    return preprocessing.from_padded(p4_BP4, mask_BP, extra_BPF), label_B, num_features


def _extra_columns(names: tuple[str, ...], shape: tuple[int, ...], seed: int) -> Tensor:
    """Columns after the four-vector, shape (B, P, F)."""
    source = torch.Generator().manual_seed(seed)
    charge_BP = torch.randint(-1, 2, shape, generator=source).float()
    columns = {"charge": charge_BP, "is_charged_hadron": charge_BP.abs(), "is_neutral_hadron": 1 - charge_BP.abs()}
    for name in ("d0", "d0_err", "dz", "dz_err"):
        columns[name] = torch.randn(shape, generator=source)
    none = torch.zeros(*shape, 0)
    return torch.cat([none, *(columns.get(name, torch.zeros(shape))[..., None] for name in names)], dim=-1)
