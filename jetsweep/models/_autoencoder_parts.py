"""Encoders and decoders of auto-encoders of jets."""

# Shapes: B jets, S constituent slots, F features per constituent, H width of the encoding, L latents.

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from jetsweep.models._dense import dense_stack, initialised

INITIALISER = "glorot-uniform"


class DenseEncoder(nn.Module):
    """Dense layers with ReLU on the flattened slots; empty ones are 0."""

    def __init__(self, num_slots: int, num_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = dense_stack((num_slots * num_features, *widths), INITIALISER)
        self.width = widths[-1]

    def forward(self, x_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Encoding, shape (B, H)."""
        encoding_BH: Tensor = self.layers(x_BSF.flatten(1))
        return encoding_BH


class LSTMEncoder(nn.Module):
    """Stacked LSTMs along the slots; the last state of the last one."""

    def __init__(self, num_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = (num_features, *widths)
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(sizes))
        self.width = widths[-1]

    def forward(self, x_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Encoding, shape (B, H)."""
        for layer in self.layers:
            x_BSF, _ = layer(x_BSF)
        return x_BSF[:, -1]


class DeepSetEncoder(nn.Module):
    """Dense layers on each constituent, their mean over the slots, dense layers on that (arXiv:1810.05165)."""

    def __init__(self, num_features: int, set_widths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.constituent_layers = dense_stack((num_features, *set_widths), INITIALISER)
        # one more number: how full the jet is, which a mean does not tell
        self.jet_layers = dense_stack((set_widths[-1] + 1, *widths), INITIALISER)
        self.width = widths[-1]

    def forward(self, x_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Encoding, shape (B, H)."""
        x_BSD = self.constituent_layers(x_BSF)
        encoding_BH: Tensor = self.jet_layers(_mean_and_filling(x_BSD, mask_BS))
        return encoding_BH


class TransformerEncoder(nn.Module):
    """Self-attention between constituents without an order, their mean, dense layers on that (arXiv:1706.03762)."""

    def __init__(self, num_features: int, width: int, num_layers: int, num_heads: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Linear(num_features, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, num_heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.jet_layers = dense_stack((width + 1, *widths), INITIALISER)
        self.width = widths[-1]

    def forward(self, x_BSF: Tensor, mask_BS: Tensor) -> Tensor:
        """Encoding, shape (B, H)."""
        x_BSD = self.embedding(x_BSF)
        # a jet without constituents attends to its first slot: a row without any key is not a number
        first_S = torch.arange(mask_BS.shape[1], device=mask_BS.device) == 0
        keys_BS = mask_BS | (first_S & ~mask_BS.any(dim=1, keepdim=True))
        for block in self.blocks:
            x_BSD = block(x_BSD, src_key_padding_mask=~keys_BS)
        encoding_BH: Tensor = self.jet_layers(_mean_and_filling(self.norm(x_BSD), mask_BS))
        return encoding_BH


class DenseDecoder(nn.Module):
    """Dense layers with ReLU, then all slots at once without an activation."""

    def __init__(self, num_latents: int, widths: Sequence[int], num_slots: int, num_features: int) -> None:
        super().__init__()
        sizes = (num_latents, *widths)
        self.layers = dense_stack(sizes, INITIALISER)
        self.output = initialised(nn.Linear(sizes[-1], num_slots * num_features), INITIALISER)
        self.num_slots = num_slots

    def forward(self, z_BL: Tensor) -> Tensor:
        """Slots, shape (B, S, F)."""
        x_BD: Tensor = self.output(self.layers(z_BL))
        return x_BD.view(len(x_BD), self.num_slots, -1)


class LSTMDecoder(nn.Module):
    """The latents once per slot through stacked LSTMs, the last of which has a state as wide as the features."""

    def __init__(self, num_latents: int, widths: Sequence[int], num_slots: int, num_features: int) -> None:
        super().__init__()
        sizes = (num_latents, *widths, num_features)
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(sizes))
        self.num_slots = num_slots

    def forward(self, z_BL: Tensor) -> Tensor:
        """Slots, shape (B, S, F), each in (-1, 1)."""
        x_BSD = z_BL[:, None].expand(-1, self.num_slots, -1)
        for layer in self.layers:
            x_BSD, _ = layer(x_BSD)
        return x_BSD


def _mean_and_filling(x_BSD: Tensor, mask_BS: Tensor) -> Tensor:
    """Mean over the constituents and the share of slots they fill, shape (B, D + 1)."""
    sum_BD = torch.where(mask_BS[..., None], x_BSD, 0.0).sum(dim=1)
    count_B1 = mask_BS.sum(dim=1, keepdim=True)
    return torch.cat([sum_BD / count_B1.clamp(min=1), (count_B1 / mask_BS.shape[1]).to(sum_BD.dtype)], dim=1)
