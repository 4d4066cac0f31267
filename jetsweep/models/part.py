"""Particle Transformer: attention over constituents, biased by their pairs (arXiv:2202.03772)."""

# Shapes: B jets, P slots, N real slots, F features, D width, H heads, C classes, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm, Slots, cut_empty_slots
from jetsweep.models._part_blocks import Block, BlockOptions, ClassBlock, PairEmbedding, ParticleBlock, norm_of


def _probability(default: float, description: str) -> float:
    value: float = Field(default, ge=0.0, lt=1.0, description=description)
    return value


_VERSION_3 = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "drop_path": 0.1}


class ParTConfig(ModelConfig):
    """Particle Transformer; the defaults are the published JetClass network, for `version` 2 and 3 those of weaver."""

    name: Literal["part"] = "part"
    version: Literal[1, 2, 3] = Field(
        1,
        description="1: as published. 2: gated feed-forward without the extra norms and scales. 3: version 2 with RMS "
        "norm and stochastic depth, without biases; its dropouts are 0 if not given.",
    )
    embed_dims: tuple[PositiveInt, ...] = Field(
        (128, 512, 128), min_length=1, description="Widths of the embedding of a constituent; the last is the model's."
    )
    pair_embed_dims: tuple[PositiveInt, ...] = Field((64, 64, 64), description="Hidden widths of the pair embedding.")
    num_heads: PositiveInt = Field(8, description="Attention heads.")
    num_layers: PositiveInt = Field(8, description="Blocks of attention among constituents.")
    num_class_layers: PositiveInt = Field(2, description="Blocks in which the class token looks at the constituents.")
    hidden_ratio: PositiveInt = Field(4, description="Width of the feed-forward layers over the model's.")
    dropout: float = _probability(0.1, "Dropout after attention and feed-forward of particle blocks.")
    attention_dropout: float = _probability(0.1, "Dropout on attention weights of particle blocks.")
    activation_dropout: float = _probability(0.1, "Dropout inside the feed-forward of particle blocks.")
    drop_path: float = _probability(
        0.0, "Stochastic depth: how often a jet skips a branch; 0.1 in version 3 if not given."
    )
    use_pairs: bool = Field(True, description="Bias attention by pair features; false is the plain transformer.")
    last_pair_activation: bool = Field(True, description="GELU after the last pair layer, as in the JetClass set-up.")
    trim: bool = Field(
        True,
        description="Training: cut long jets to a random quantile of the multiplicities; compiled graphs never do.",
    )
    head_dims: tuple[NonNegativeInt, ...] = Field((), description="Hidden widths between class token and output.")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_version(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("version") == 3:
            return {**_VERSION_3, **data}
        return data

    @model_validator(mode="after")
    def _heads_divide(self) -> ParTConfig:
        width = self.embed_dims[-1]
        if width % self.num_heads:
            fitting = [h for h in range(1, width + 1) if width % h == 0 and h <= 2 * self.num_heads]
            raise ValueError(
                f"num_heads={self.num_heads} does not divide the width {width}, the last of embed_dims; "
                f"use one of {', '.join(map(str, fitting))}"
            )
        return self


@register(ParTConfig)
class ParT(nn.Module):
    """Particle Transformer.

    Parameters
    ----------
    config : ParTConfig
    num_features : int
        Features F per constituent.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "p4", "mask")

    def __init__(self, config: ParTConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.embed_dims[-1], config.hidden_ratio * config.embed_dims[-1]
        self.input_norm = MaskedBatchNorm(num_features)
        sizes = (num_features, *config.embed_dims)
        self.embed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()) for a, b in pairwise(sizes)
        )
        self.pair_embed = (
            PairEmbedding(config.pair_embed_dims, config.num_heads, config.last_pair_activation, config.version < 3)
            if config.use_pairs
            else None
        )
        dropouts = (config.dropout, config.attention_dropout, config.activation_dropout)
        options = BlockOptions(config.version, *dropouts, config.drop_path)
        class_options = BlockOptions(config.version, drop_path=config.drop_path)
        self.blocks = nn.ModuleList(
            ParticleBlock(width, config.num_heads, hidden, options) for _ in range(config.num_layers)
        )
        self.class_blocks = nn.ModuleList(
            ClassBlock(width, config.num_heads, hidden, class_options) for _ in range(config.num_class_layers)
        )
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.norm = norm_of(config.version, width)
        head = [
            nn.Sequential(nn.Linear(a, b, bias=config.version < 3), nn.ReLU())
            for a, b in zip((width, *config.head_dims), config.head_dims)
        ]
        self.head = nn.Sequential(*head, nn.Linear((width, *config.head_dims)[-1], num_classes))
        self._initialise()

    def _initialise(self) -> None:
        """Xavier-uniform matrices (q, k, v as three), zero biases, deep residual branches scaled down."""
        for module in [*self.embed, *self.blocks, *self.class_blocks, self.head]:
            for linear in module.modules():
                if isinstance(linear, nn.Linear):
                    nn.init.xavier_uniform_(linear.weight)
                    if linear.bias is not None:
                        nn.init.zeros_(linear.bias)
        for block in [*self.blocks, *self.class_blocks]:
            assert isinstance(block, Block)
            for square in block.attn.in_proj.weight.chunk(3):
                nn.init.xavier_uniform_(square)
        for depth, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            with torch.no_grad():
                block.attn.out_proj.weight.div_(math.sqrt(2 * depth))
                block.fc2.weight.div_(math.sqrt(2 * depth))
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def forward(self, features: Tensor, p4: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of `features` (B, P, F) and four-vectors `p4` (B, P, 4) where `mask` (B, P) is True."""
        if self.training and self.config.trim and not torch.compiler.is_compiling():
            features, p4, mask = trim_randomly(features, p4, mask)
        mask, features, p4 = cut_empty_slots(mask, features, p4)
        features, p4 = (torch.where(mask[..., None], x, 0.0) for x in (features, p4))
        # a jet without constituents attends to its first, all-zero slot: finite, and alone concerned
        mask = mask | (~mask.any(dim=1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0))
        slots = Slots(mask)
        x_ND = self.input_norm(slots.rows(features), slots.row_mask)
        for layer in self.embed:
            x_ND = layer(x_ND)
        key_bias_BP = torch.zeros_like(mask, dtype=x_ND.dtype).masked_fill(~mask, -math.inf)
        bias_BHPP = key_bias_BP[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        if self.pair_embed is not None:
            bias_BHPP = bias_BHPP + self.pair_embed(p4, mask)
        for block in self.blocks:
            x_ND = block(x_ND, slots, bias_BHPP)
        return self._classify(slots.padded(x_ND), key_bias_BP)

    def _classify(self, x_BPD: Tensor, key_bias_BP: Tensor) -> Tensor:
        token_B1D = self.class_token.expand(len(x_BPD), -1, -1).to(x_BPD.dtype)
        token_bias_B1 = torch.zeros_like(key_bias_BP[:, :1])
        key_bias_B11S = torch.cat([token_bias_B1, key_bias_BP], dim=1)[:, None, None, :]
        for block in self.class_blocks:
            token_B1D = block(token_B1D, x_BPD, key_bias_B11S)
        logits_BC: Tensor = self.head(self.norm(token_B1D)[:, 0])
        return logits_BC


def trim_randomly(features: Tensor, p4: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a training batch to a random quantile, 0.9 to 1, of its multiplicities; longer jets lose some at random."""
    counts_B = mask.sum(dim=1).float()
    quantile = torch.empty((), device=mask.device).uniform_(0.9, 1.02).clamp(max=1.0)
    length = max(1, int(torch.quantile(counts_B, quantile)))
    score_BP = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
    kept_BL = score_BP.topk(min(length, mask.shape[1]), dim=1).indices

    def keep(x_BPF: Tensor) -> Tensor:
        return x_BPF.gather(1, kept_BL[..., None].expand(-1, -1, x_BPF.shape[-1]))

    return keep(features), keep(p4), mask.gather(1, kept_BL)
