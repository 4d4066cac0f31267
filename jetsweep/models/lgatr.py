"""L-GATr: Lorentz-equivariant transformer on multivectors (arXiv:2405.14806, 2411.00446), by its authors' package."""

# Shapes: B jets, P slots, N = 1 + R + P tokens (global, references, constituents), S scalar channels, C classes,
# 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from jetsweep.errors import JetsweepError
from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import cut_empty_slots


class LGATrConfig(ModelConfig):
    """L-GATr; the defaults are the published top tagger. Needs the extra `lgatr`."""

    name: Literal["lgatr"] = "lgatr"
    num_blocks: PositiveInt = Field(12, description="Transformer blocks.")
    num_heads: PositiveInt = Field(8, description="Attention heads.")
    num_multivectors: PositiveInt = Field(16, description="Hidden multivector channels.")
    num_scalars: PositiveInt = Field(32, description="Hidden scalar channels.")
    attention_ratio: PositiveInt = Field(2, description="Channels inside attention over hidden channels.")
    feed_forward_ratio: PositiveInt = Field(2, description="Channels inside the feed-forward over hidden channels.")
    beam: Literal["xyplane", "lightlike", "spacelike", "timelike", "none"] = Field(
        "xyplane", description="Reference of the beam: the plane across it, or its two directions as four-vectors."
    )
    time: bool = Field(True, description="Reference of time; with beam none and time false all the symmetry is kept.")
    scalars: Literal["none", "features"] = Field(
        "none", description="Scalar inputs: the feature set gives up the invariance that the features do not have."
    )
    momentum_scale: PositiveFloat = Field(20.0, description="Four-vectors are divided by it, GeV.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout after attention and feed-forward.")


@register(LGATrConfig)
class LGATr(nn.Module):
    """L-GATr with a global token, whose scalar components are the logits.

    Parameters
    ----------
    config : LGATrConfig
    num_features : int
        Features F per constituent, used if `config.scalars` is "features".
    num_classes : int
        Outputs C.

    Raises
    ------
    JetsweepError
        If the package lgatr is not installed.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "p4", "mask")
    symmetries: ClassVar[tuple[str, ...]] = ("rotation",)

    def __init__(self, config: LGATrConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        package = self.require_packages()
        self.momentum_scale = config.momentum_scale
        self.num_inputs = num_features if config.scalars == "features" else 0
        spurions_R16 = package.get_spurions(
            beam_spurion=None if config.beam == "none" else config.beam, add_time_spurion=config.time
        )
        self.register_buffer("spurions", spurions_R16, persistent=False)
        self.spurions: Tensor
        network = package.LGATr(
            num_blocks=config.num_blocks,
            in_mv_channels=1,
            out_mv_channels=num_classes,
            hidden_mv_channels=config.num_multivectors,
            in_s_channels=1 + self.num_inputs,
            out_s_channels=0,
            hidden_s_channels=config.num_scalars,
            attention=package.SelfAttentionConfig(
                num_heads=config.num_heads, attn_ratio=config.attention_ratio, head_scale=True
            ),
            mlp=package.MLPConfig(mlp_ratio=config.feed_forward_ratio),
            dropout_prob=config.dropout or None,
            norm_elementwise_affine=False,  # came after the paper
        )
        # casting fills the package's caches of constants; filled while a graph is traced they would hold its tensors
        self.network = network.float()

    @staticmethod
    def require_packages() -> Any:
        """Return the package lgatr; raise a `JetsweepError` where it is not installed."""
        try:
            with torch.device("cpu"):  # it computes constants when it is imported, which may be where shapes are traced
                import lgatr
        except ImportError as error:
            raise JetsweepError(
                "model.name: lgatr needs the package lgatr, not installed: pip install 'jetsweep[lgatr]'"
            ) from error
        return lgatr

    def forward(self, features: Tensor, p4: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of four-vectors `p4` (B, P, 4) and `features` (B, P, F) where `mask` (B, P) is True."""
        mask, features, p4 = cut_empty_slots(mask, features, p4)
        features, p4 = (torch.where(mask[..., None], x, 0.0) for x in (features, p4))
        num_jets, num_first = len(p4), 1 + len(self.spurions)
        # a multivector's components 1 to 4 are the vector (t, x, y, z)
        vectors_BP16 = nn.functional.pad(p4[..., [3, 0, 1, 2]] / self.momentum_scale, (1, 11))
        first_BR16 = nn.functional.pad(self.spurions, (0, 0, 1, 0)).to(p4.dtype).expand(num_jets, -1, -1)
        multivectors_BN16 = torch.cat([first_BR16, vectors_BP16], dim=1)
        inputs_BNS = nn.functional.pad(features[..., : self.num_inputs], (0, 0, num_first, 0))
        is_global_N = torch.arange(inputs_BNS.shape[1], device=p4.device) == 0
        is_global_BN1 = is_global_N.to(p4.dtype).expand(num_jets, -1)[..., None]
        scalars_BNS = torch.cat([is_global_BN1, inputs_BNS], dim=-1)
        mask_BN = nn.functional.pad(mask, (num_first, 0), value=True)
        outputs_BNC16, _ = self.network(
            multivectors_BN16[:, :, None], scalars=scalars_BNS, attn_mask=mask_BN[:, None, None, :]
        )
        logits_BC: Tensor = outputs_BNC16[:, 0, :, 0]
        return logits_BC
