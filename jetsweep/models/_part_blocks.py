"""Attention blocks and pair embedding of the Particle Transformer (arXiv:2202.03772)."""

# Shapes: B jets, P slots, N real slots, T pairs i <= j of slots, D width, H heads, M pairs of real slots.

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jetsweep.models._layers import MaskedBatchNorm, Slots
from jetsweep.models._pairwise import NUM_PAIR_FEATURES, pair_features


class PairEmbedding(nn.Module):
    """Attention bias U (B, H, P, P) from the four-vectors of all pairs, computed once for each pair and mirrored.

    Parameters
    ----------
    widths : tuple of int
        Hidden widths.
    num_heads : int
    last_activation : bool
        GELU after the last layer too, as in the published JetClass set-up.
    use_bias : bool
    """

    def __init__(self, widths: tuple[int, ...], num_heads: int, last_activation: bool, use_bias: bool = True) -> None:
        super().__init__()
        sizes = (NUM_PAIR_FEATURES, *widths, num_heads)
        self.input_norm = MaskedBatchNorm(NUM_PAIR_FEATURES)
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=use_bias) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(MaskedBatchNorm(b) for b in sizes[1:])
        self.last_activation = last_activation
        for linear in self.linears:
            # the default of a 1x1 convolution
            assert isinstance(linear, nn.Linear)
            nn.init.kaiming_uniform_(linear.weight, a=5**0.5)

    def forward(self, p4_BP4: Tensor, mask_BP: Tensor) -> Tensor:
        num_slots = mask_BP.shape[1]
        i_T, j_T = _lower_triangle(num_slots, mask_BP.device)
        pairs = Slots(mask_BP[:, i_T] & mask_BP[:, j_T])
        with torch.no_grad(), torch.autocast(p4_BP4.device.type, enabled=False):
            p4_BP4 = p4_BP4.to(torch.promote_types(p4_BP4.dtype, torch.float32))
            if pairs.row_mask is not None:
                x_MF = pair_features(pairs.rows(p4_BP4[:, i_T]), pairs.rows(p4_BP4[:, j_T]))
            else:
                index_M = torch.arange(pairs.mask_BP.numel(), device=i_T.device) if pairs.index is None else pairs.index
                jet_M, pair_M = index_M // len(i_T), index_M % len(i_T)
                p4_S4 = p4_BP4.flatten(0, 1)
                first_M, second_M = jet_M * num_slots + i_T[pair_M], jet_M * num_slots + j_T[pair_M]
                x_MF = pair_features(p4_S4[first_M], p4_S4[second_M])
        x_MF = self._embed(x_MF, pairs.row_mask)
        bias_BTH = pairs.padded(x_MF)
        place_PP = torch.zeros(num_slots, num_slots, dtype=torch.int64, device=mask_BP.device)
        order_T = torch.arange(len(i_T), device=mask_BP.device)
        place_PP = place_PP.index_put((i_T, j_T), order_T).index_put((j_T, i_T), order_T)
        bias_BHT = bias_BTH.transpose(1, 2)
        return bias_BHT[:, :, place_PP]

    def _embed(self, x_MF: Tensor, row_mask: Tensor | None) -> Tensor:
        x_MF = self.input_norm(x_MF, row_mask)
        for k, (linear, norm) in enumerate(zip(self.linears, self.norms)):
            x_MF = norm(linear(x_MF), row_mask)
            if k < len(self.linears) - 1 or self.last_activation:
                x_MF = F.gelu(x_MF)
        return x_MF


def _lower_triangle(num_slots: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pairs i >= j of slots; unlike `torch.tril_indices` in a graph whose number of slots is free too."""
    pair_T = torch.arange(num_slots * (num_slots + 1) // 2, device=device)
    # exact: roots of squares are, and all other roots lie between theirs
    i_T = ((torch.sqrt(8.0 * pair_T.double() + 1.0) - 1.0) / 2.0).floor().long()
    return i_T, pair_T - i_T * (i_T + 1) // 2


class Attention(nn.Module):
    """Projections of multi-head attention; query, key and value weights in one matrix."""

    def __init__(self, width: int, num_heads: int, dropout: float, use_bias: bool) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, 3 * width, bias=use_bias)
        self.out_proj = nn.Linear(width, width, bias=use_bias)
        self.num_heads, self.dropout = num_heads, dropout

    def heads(self, x_BPD: Tensor) -> Tensor:
        """Split the last dimension, shape (B, H, P, D / H)."""
        return x_BPD.view(*x_BPD.shape[:2], self.num_heads, -1).transpose(1, 2)

    def attend(self, q_BHPd: Tensor, k_BHPd: Tensor, v_BHPd: Tensor, bias: Tensor) -> Tensor:
        """Mixed values, shape (B, P, D); `bias` is added before the softmax."""
        dropout = self.dropout if self.training else 0.0
        out_BHPd = F.scaled_dot_product_attention(q_BHPd, k_BHPd, v_BHPd, bias.to(q_BHPd.dtype), dropout)
        return out_BHPd.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class BlockOptions:
    """What distinguishes the blocks of the three versions, and their regularisation."""

    version: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    drop_path: float = 0.0


class RMSNorm(nn.RMSNorm):
    """RMS norm in at least float32: autocast sees to that for layer norm only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(torch.promote_types(x.dtype, torch.float32)))


def norm_of(version: int, width: int) -> nn.Module:
    """Layer norm; in version 3 RMS norm, without centring and bias."""
    return RMSNorm(width) if version > 2 else nn.LayerNorm(width)


class Block(nn.Module):
    """What particle and class blocks share: attention and feed-forward, each a branch added to the residual stream.

    Version 1 scales the heads, norms what attention gives and the hidden layer, and weights the residual. Version 2 has
    a gated feed-forward, W2(SiLU(Wg x)·W1 x), instead of all that; version 3 is version 2 without biases, with RMS norm
    and stochastic depth.

    Parameters
    ----------
    width, num_heads, hidden : int
    options : BlockOptions
    """

    def __init__(self, width: int, num_heads: int, hidden: int, options: BlockOptions) -> None:
        super().__init__()
        first, use_bias = options.version == 1, options.version < 3
        self.pre_attn_norm = norm_of(options.version, width)
        self.attn = Attention(width, num_heads, options.attention_dropout, use_bias)
        self.c_attn = nn.Parameter(torch.ones(num_heads)) if first else None
        self.post_attn_norm = norm_of(options.version, width) if first else nn.Identity()
        self.pre_fc_norm = norm_of(options.version, width)
        self.fc1 = nn.Linear(width, hidden, bias=use_bias)
        self.fc1_g = None if first else nn.Linear(width, hidden, bias=use_bias)
        self.post_fc_norm = norm_of(options.version, hidden) if first else nn.Identity()
        self.fc2 = nn.Linear(hidden, width, bias=use_bias)
        self.w_resid = nn.Parameter(torch.ones(width)) if first else None
        self.dropout, self.activation_dropout = nn.Dropout(options.dropout), nn.Dropout(options.activation_dropout)
        self.drop_path = options.drop_path

    def kept_branches(self, x_BPD: Tensor) -> tuple[Tensor, Tensor] | None:
        """Factors of the two branches, each (B, 1, 1), 0 where a training jet skips it; None if no jet does."""
        if not (self.training and self.drop_path):
            return None
        kept = torch.rand(2, len(x_BPD), 1, 1, device=x_BPD.device) >= self.drop_path
        attention_B11, dense_B11 = kept.to(x_BPD.dtype) / (1 - self.drop_path)
        return attention_B11, dense_B11

    def finish(self, x: Tensor, mixed: Tensor, kept: tuple[Tensor, Tensor] | None) -> Tensor:
        """Residual stream `x` (..., D) after attention gave `mixed` (..., D); `kept` broadcasts to both."""
        mixed = self.attn.out_proj(mixed)
        if self.c_attn is not None:
            mixed = mixed * self.c_attn.repeat_interleave(mixed.shape[-1] // len(self.c_attn))
        mixed = self.dropout(self.post_attn_norm(mixed))
        x = x + (mixed if kept is None else kept[0] * mixed)
        h = self.pre_fc_norm(x)
        h = F.gelu(self.fc1(h)) if self.fc1_g is None else F.silu(self.fc1_g(h)) * self.fc1(h)
        h = self.dropout(self.fc2(self.post_fc_norm(self.activation_dropout(h))))
        h = h if kept is None else kept[1] * h
        out: Tensor = (x if self.w_resid is None else self.w_resid * x) + h
        return out


class ParticleBlock(Block):
    """Self-attention over the constituents of each jet, biased by the pair embedding."""

    def forward(self, x_ND: Tensor, slots: Slots, bias_BHPP: Tensor) -> Tensor:
        qkv_BP3D = slots.padded(self.attn.in_proj(self.pre_attn_norm(x_ND)))
        q, k, v = (self.attn.heads(part) for part in qkv_BP3D.chunk(3, dim=-1))
        mixed_ND = slots.rows(self.attn.attend(q, k, v, bias_BHPP))
        kept = self.kept_branches(qkv_BP3D)
        if kept is not None:
            attention_BP1, dense_BP1 = (x.expand(-1, qkv_BP3D.shape[1], -1) for x in kept)
            kept = slots.rows(attention_BP1), slots.rows(dense_BP1)
        return self.finish(x_ND, mixed_ND, kept)


class ClassBlock(Block):
    """Attention of the class token over itself and the constituents."""

    def forward(self, token_B1D: Tensor, x_BPD: Tensor, key_bias_B11S: Tensor) -> Tensor:
        u_BSD = self.pre_attn_norm(torch.cat([token_B1D, x_BPD], dim=1))
        width, weight, bias = x_BPD.shape[-1], self.attn.in_proj.weight, self.attn.in_proj.bias
        query_bias, other_bias = (None, None) if bias is None else (bias[:width], bias[width:])
        q = self.attn.heads(F.linear(token_B1D, weight[:width], query_bias))
        kv_BS2D = F.linear(u_BSD, weight[width:], other_bias)
        k, v = (self.attn.heads(part) for part in kv_BS2D.chunk(2, dim=-1))
        return self.finish(token_B1D, self.attn.attend(q, k, v, key_bias_B11S), self.kept_branches(token_B1D))
