"""GN2: attention over tracks, with track origins and vertices as auxiliary tasks.

ATL-PHYS-PUB-2022-027 and arXiv:2505.19689; sizes as in the published training configurations.
"""

# Shapes: B jets, P slots, T tokens (registers, then the slots of each stream), F features, D width, R registers,
# M pairs of tracks, C classes.

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import cut_empty_slots

ORIGINS = 8
"""Pile-up, fake, primary, from b, from b to c, from c, from tau, other secondary."""


class TrackOutputs(NamedTuple):
    """What a network with track heads returns.

    Parameters
    ----------
    logits : Tensor, shape (B, C)
        Of the jet's class.
    tracks : Tensor, shape (B, P), bool
        Which slots are tracks; P may be less than the batch's where its last slots are empty.
    origin : Tensor, shape (B, P, 8)
        Logits of each track's origin.
    same_vertex : Tensor, shape (B, P, P)
        Logit of the ordered pair's common vertex; 0 where a slot is no track and on the diagonal.
    """

    logits: Tensor
    tracks: Tensor
    origin: Tensor
    same_vertex: Tensor


class TrackTransformerConfig(ModelConfig):
    """Sizes shared by GN2 and GN2X; the defaults are GN2's."""

    features: str = Field("tracks", description="Feature set; it must tell tracks from other constituents.")
    width: PositiveInt = Field(256, description="Width of the tokens.")
    output_width: PositiveInt = Field(128, description="Width of the tokens after the encoder.")
    num_layers: PositiveInt = Field(4, description="Encoder layers.")
    num_heads: PositiveInt = Field(8, description="Attention heads.")
    hidden: PositiveInt = Field(512, description="Width inside the feed-forward layers.")
    gated: bool = Field(False, description="Feed-forward of the form relu(a) b.")
    num_registers: PositiveInt = Field(1, description="Learned tokens beside those of the jet.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout in attention and feed-forward.")
    head_sizes: tuple[PositiveInt, ...] = Field((128, 64, 32), min_length=1, description="Hidden widths of each head.")
    track_heads: bool = Field(False, description="Also predict track origins and vertices: for task flavour-tagging.")

    @model_validator(mode="after")
    def _heads_divide(self) -> TrackTransformerConfig:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide width={self.width}")
        return self


class GN2Config(TrackTransformerConfig):
    """GN2: tracks only; the defaults are the published network."""

    name: Literal["gn2"] = "gn2"


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(sizes):
        layers += [nn.Linear(narrow, wide), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def plain_norm(x_TD: Tensor) -> Tensor:
    """Layer norm without learned parameters."""
    return F.layer_norm(x_TD, x_TD.shape[-1:])


class EncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, config: TrackTransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.gated = config.num_heads, config.dropout, config.gated
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, config.hidden * (2 if config.gated else 1))
        self.down = nn.Linear(config.hidden, config.width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, x_BTD: Tensor, attend_B11T: Tensor) -> Tensor:
        x_BTD = x_BTD + self._attention(plain_norm(x_BTD), attend_B11T)
        hidden = self.up(plain_norm(x_BTD))
        if self.gated:
            a, b = hidden.chunk(2, dim=-1)
            hidden = F.relu(a) * b
        else:
            hidden = F.relu(hidden)
        x_BTD = x_BTD + self.down(F.dropout(hidden, self.dropout, self.training))
        return x_BTD

    def _attention(self, x_BTD: Tensor, attend_B11T: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(x_BTD).chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=attend_B11T, dropout_p=dropout)
        mixed: Tensor = self.out(x.transpose(1, 2).flatten(2))
        return mixed


class TrackHeads(nn.Module):
    """Origin of every track, and whether an ordered pair of tracks comes from one vertex."""

    def __init__(self, config: TrackTransformerConfig) -> None:
        super().__init__()
        width = config.output_width
        self.origin = mlp(2 * width, *config.head_sizes, ORIGINS)
        self.vertex = mlp(3 * width, *config.head_sizes, 1)

    def forward(self, x_BPD: Tensor, pooled_BD: Tensor, tracks_BP: Tensor) -> tuple[Tensor, Tensor]:
        pooled_BPD = pooled_BD[:, None].expand_as(x_BPD)
        origin_BPO: Tensor = self.origin(torch.cat([x_BPD, pooled_BPD], dim=-1))
        return origin_BPO, self._same_vertex(x_BPD, pooled_BD, tracks_BP)

    def _same_vertex(self, x_BPD: Tensor, pooled_BD: Tensor, tracks_BP: Tensor) -> Tensor:
        first = self.vertex[0]
        assert isinstance(first, nn.Linear)
        # the first layer of [x_i; x_j; pooled] is a sum of three products, none of which needs all pairs
        to_i, to_j, to_pooled = first.weight.chunk(3, dim=1)
        i_BPD, j_BPD = F.linear(x_BPD, to_i), F.linear(x_BPD, to_j)
        both_BD = F.linear(pooled_BD, to_pooled, first.bias)
        pair_BPP = tracks_BP[:, :, None] & tracks_BP[:, None, :]
        pair_BPP = pair_BPP & ~torch.eye(tracks_BP.shape[1], dtype=torch.bool, device=tracks_BP.device)
        if torch.compiler.is_compiling():  # the number of pairs depends on the data
            hidden = i_BPD[:, :, None] + j_BPD[:, None, :] + both_BD[:, None, None]
            return torch.where(pair_BPP, self.vertex[1:](hidden)[..., 0], 0.0)
        jet_M, i_M, j_M = pair_BPP.nonzero(as_tuple=True)
        logit_M: Tensor = self.vertex[1:](i_BPD[jet_M, i_M] + j_BPD[jet_M, j_M] + both_BD[jet_M])[:, 0]
        logit_BPP = logit_M.new_zeros(pair_BPP.shape)
        return logit_BPP.index_put((jet_M, i_M, j_M), logit_M)


@register(GN2Config)
class GN2(nn.Module):
    """Transformer over a jet's tracks.

    Parameters
    ----------
    config : GN2Config
    num_features : int
        Features F per track, the jet's own included.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "mask", "track_mask")

    def __init__(self, config: TrackTransformerConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.track_net = mlp(num_features, config.width, config.width)
        self.registers = nn.Parameter(1e-4 * torch.randn(config.num_registers, config.width))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.out = nn.Linear(config.width, config.output_width)
        self.gate = nn.Linear(config.output_width, 1)
        self.jet_head = mlp(config.output_width, *config.head_sizes, num_classes)
        self.heads = TrackHeads(config) if config.track_heads else None

    def forward(self, features: Tensor, mask: Tensor, track_mask: Tensor) -> Tensor | TrackOutputs:
        """Logits (B, C) of constituents `features` (B, P, F) that are real in `mask` and tracks in `track_mask` (B, P).

        With track heads a `TrackOutputs`.
        """
        tracks_BP, features_BPF = cut_empty_slots(mask & track_mask, features)
        return self._from_streams(tracks_BP, [(self._embed(self.track_net, features_BPF, tracks_BP), tracks_BP)])

    @staticmethod
    def _embed(net: nn.Module, features_BPF: Tensor, real_BP: Tensor) -> Tensor:
        real_BP1 = real_BP[..., None]
        return torch.where(real_BP1, net(torch.where(real_BP1, features_BPF, 0.0)), 0.0)

    def _from_streams(self, tracks_BP: Tensor, streams: list[tuple[Tensor, Tensor]]) -> Tensor | TrackOutputs:
        """Encode registers and streams together; the first stream is that of the tracks."""
        size, num_registers = len(tracks_BP), len(self.registers)
        x_BTD = torch.cat(
            [
                self.registers.to(streams[0][0].dtype).expand(size, *self.registers.shape),
                *(embedded for embedded, _ in streams),
            ],
            dim=1,
        )
        real_BT = torch.cat([tracks_BP.new_ones(size, num_registers), *(real for _, real in streams)], dim=1)
        for layer in self.layers:
            x_BTD = layer(x_BTD, real_BT[:, None, None, :])
        x_BTD = plain_norm(self.out(x_BTD))
        pooled_BD = self._pool(x_BTD, real_BT)
        logits_BC: Tensor = self.jet_head(pooled_BD)
        if self.heads is None:
            return logits_BC
        x_BPD = x_BTD[:, num_registers : num_registers + tracks_BP.shape[1]]
        origin_BPO, same_BPP = self.heads(x_BPD, pooled_BD, tracks_BP)
        return TrackOutputs(logits_BC, tracks_BP, origin_BPO, same_BPP)

    def _pool(self, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
        """Weighted sum over the real tokens and one of zeros, as published."""
        x_BTD = F.pad(x_BTD, (0, 0, 0, 1))
        gate_BT: Tensor = self.gate(x_BTD)[..., 0].float()
        score_BT = gate_BT.masked_fill(~F.pad(real_BT, (0, 1), value=True), -torch.inf)
        return (score_BT.softmax(dim=1).to(x_BTD.dtype)[..., None] * x_BTD).sum(dim=1)
