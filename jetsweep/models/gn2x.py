"""GN2X: attention over tracks and flow constituents (ATL-PHYS-PUB-2023-021)."""

# Shapes: B jets, P slots, F features, C classes.

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from jetsweep.models._base import register
from jetsweep.models._layers import cut_empty_slots
from jetsweep.models.gn2 import GN2, TrackOutputs, TrackTransformerConfig, mlp

FLOW_FEATURES = 6


class GN2XConfig(TrackTransformerConfig):
    """GN2X: tracks and flow constituents; the defaults are the published network."""

    name: Literal["gn2x"] = "gn2x"
    num_layers: PositiveInt = Field(8, description="Encoder layers.")
    gated: bool = Field(True, description="Feed-forward of the form relu(a) b.")
    num_registers: PositiveInt = Field(8, description="Learned tokens beside those of the jet.")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout in attention and feed-forward.")


@register(GN2XConfig)
class GN2X(GN2):
    """GN2 with a second stream: all constituents as flow objects.

    Parameters
    ----------
    config : GN2XConfig
    num_features : int
        Features F per track; flow constituents have six.
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "flow", "mask", "track_mask")

    def __init__(self, config: GN2XConfig, num_features: int, num_classes: int) -> None:
        super().__init__(config, num_features, num_classes)
        self.flow_net = mlp(FLOW_FEATURES, config.width, config.width)

    def forward(  # type: ignore[override]
        self, features: Tensor, flow: Tensor, mask: Tensor, track_mask: Tensor
    ) -> Tensor | TrackOutputs:
        """As `GN2.forward`, with `flow` (B, P, 6) of all real constituents."""
        real_BP, tracks_BP, features_BPF, flow_BPF = cut_empty_slots(mask, mask & track_mask, features, flow)
        tracks = self._embed(self.track_net, features_BPF, tracks_BP)
        return self._from_streams(
            tracks_BP, [(tracks, tracks_BP), (self._embed(self.flow_net, flow_BPF, real_BP), real_BP)]
        )
