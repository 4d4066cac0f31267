"""LorentzNet: Lorentz-equivariant message passing among constituents (arXiv:2201.08187)."""

# Shapes: B jets, P slots, N = beams + P nodes, E = N·N ordered pairs, M pairs that exist, S scalars of a node, D width,
# C classes, 4 = (px, py, pz, E) in GeV.

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from jetsweep.models._base import ModelConfig, register
from jetsweep.models._layers import MaskedBatchNorm, Slots, cut_empty_slots, mean_over_slots
from jetsweep.models._minkowski import gram_matrix, with_references

BEAMS = ((0.0, 0.0, 1.0, math.sqrt(2.0)), (0.0, 0.0, -1.0, math.sqrt(2.0)))
WEIGHT_BOUND = 100.0


class LorentzNetConfig(ModelConfig):
    """LorentzNet; the defaults are the published top tagger.

    The published quark-gluon tagger: scalars features (its eight species), beams false, step 1e-3.
    """

    name: Literal["lorentznet"] = "lorentznet"
    width: PositiveInt = Field(72, description="Width of node scalars and messages.")
    num_layers: PositiveInt = Field(6, description="Rounds of message passing.")
    scalars: Literal["mass", "features"] = Field(
        "mass",
        description="Scalars of a node: its mass, apart for beams and constituents; or the feature set, which gives up "
        "the invariance that the features do not have.",
    )
    beams: bool = Field(True, description="Two beam nodes: they leave rotations about the beam as the only symmetry.")
    step: PositiveFloat = Field(5e-3, description="Weight of the update of four-vectors.")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="Dropout before the output.")


def psi(x: Tensor) -> Tensor:
    """sgn(x) ln(1 + |x|)."""
    return torch.sign(x) * torch.log1p(x.abs())


class LorentzLayer(nn.Module):
    """One round of messages; four-vectors change by combinations of their differences, so their products suffice.

    Parameters
    ----------
    width : int
    num_scalars : int
    step : float
    is_last : bool
        Leaves the four-vectors as they are.
    """

    def __init__(self, width: int, num_scalars: int, step: float, is_last: bool) -> None:
        super().__init__()
        self.step = step
        self.edge_in = nn.Linear(2 * width + 2, width, bias=False)
        self.edge_norm = MaskedBatchNorm(width)
        self.edge_out = nn.Linear(width, width)
        self.gate = nn.Linear(width, 1)
        self.node_in = nn.Linear(2 * width + num_scalars, width)
        self.node_norm = MaskedBatchNorm(width)
        self.node_out = nn.Linear(width, width)
        self.vector_weight: nn.Sequential | None = None
        if not is_last:
            last = nn.Linear(width, 1, bias=False)
            nn.init.xavier_uniform_(last.weight, gain=1e-3)
            self.vector_weight = nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)

    def forward(
        self, h_BND: Tensor, scalars_BNS: Tensor, gram_BNN: Tensor, nodes: Slots, pairs: Slots
    ) -> tuple[Tensor, Tensor]:
        """Node scalars (B, N, D) and products of four-vectors (B, N, N) after the round."""
        num_nodes = h_BND.shape[1]
        message_MD = self._messages(h_BND, gram_BNN, pairs)
        pooled_BND = pairs.padded(message_MD).view(-1, num_nodes, num_nodes, h_BND.shape[2]).sum(dim=2)
        update_ND = self.node_in(nodes.rows(torch.cat([h_BND, pooled_BND, scalars_BNS.to(h_BND.dtype)], dim=-1)))
        update_ND = self.node_out(torch.relu(self.node_norm(update_ND, nodes.row_mask)))
        if self.vector_weight is not None:
            weight_BE1 = pairs.padded(self.vector_weight(message_MD).clamp(-WEIGHT_BOUND, WEIGHT_BOUND))
            gram_BNN = self._moved(gram_BNN, weight_BE1.view_as(gram_BNN), nodes.mask_BP)
        return h_BND + nodes.padded(update_ND), gram_BNN

    def _messages(self, h_BND: Tensor, gram_BNN: Tensor, pairs: Slots) -> Tensor:
        """Gated messages (M, D). The first layer is linear, so nodes go through their part of it before they pair."""
        width = h_BND.shape[-1]
        weight = self.edge_in.weight
        own, other, products = weight[:, :width], weight[:, width : 2 * width], weight[:, 2 * width :]
        square_BN = gram_BNN.diagonal(dim1=1, dim2=2)
        distance_BNN = square_BN[:, :, None] + square_BN[:, None] - 2 * gram_BNN
        products_BE2 = psi(torch.stack([distance_BNN, gram_BNN], dim=-1)).flatten(1, 2)
        ends_BED = ((h_BND @ own.T)[:, :, None] + (h_BND @ other.T)[:, None]).flatten(1, 2)
        edge_MD = pairs.rows(ends_BED) + pairs.rows(products_BE2) @ products.T
        edge_MD = torch.relu(self.edge_out(torch.relu(self.edge_norm(edge_MD, pairs.row_mask))))
        return edge_MD * torch.sigmoid(self.gate(edge_MD))

    def _moved(self, gram_BNN: Tensor, weight_BNN: Tensor, mask_BN: Tensor) -> Tensor:
        """Products of x_i + step · mean_j w_ij (x_i - x_j) = sum_j A_ij x_j, that is A G A^T."""
        with torch.autocast(gram_BNN.device.type, enabled=False):
            weight_BNN = weight_BNN.to(gram_BNN.dtype)
            num_others_B11 = (mask_BN.sum(dim=1) - 1).clamp(min=1)[:, None, None]
            shift_BNN = self.step * (torch.diag_embed(weight_BNN.sum(dim=2)) - weight_BNN) / num_others_B11
            moved_BNN = gram_BNN + shift_BNN @ gram_BNN
            return moved_BNN + moved_BNN @ shift_BNN.transpose(1, 2)


@register(LorentzNetConfig)
class LorentzNet(nn.Module):
    """LorentzNet, a function of the Minkowski products of constituents and beams.

    Unlike the published code the mean over nodes leaves padding out, and the bound on the update of four-vectors acts
    on its invariant weight rather than on components.

    Parameters
    ----------
    config : LorentzNetConfig
    num_features : int
        Features F per constituent, used if `config.scalars` is "features".
    num_classes : int
        Outputs C.
    """

    inputs: ClassVar[tuple[str, ...]] = ("features", "p4", "mask")
    symmetries: ClassVar[tuple[str, ...]] = ("rotation", "lorentz")

    def __init__(self, config: LorentzNetConfig, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.scalars = config.scalars
        num_scalars = 2 if config.scalars == "mass" else num_features
        self.register_buffer("references", torch.tensor(BEAMS if config.beams else ()).view(-1, 4), persistent=False)
        self.references: Tensor
        self.embed = nn.Linear(num_scalars, config.width)
        self.layers = nn.ModuleList(
            LorentzLayer(config.width, num_scalars, config.step, is_last=k == config.num_layers - 1)
            for k in range(config.num_layers)
        )
        self.dense = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.width, num_classes)

    def forward(self, features: Tensor, p4: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (B, C), of four-vectors `p4` (B, P, 4) and `features` (B, P, F) where `mask` (B, P) is True."""
        mask, features, p4 = cut_empty_slots(mask, features, p4)
        features_BPF = torch.where(mask[..., None], features, 0.0)
        p4_BN4, mask_BN = with_references(p4, mask, self.references)
        gram_BNN = gram_matrix(p4_BN4)
        itself_NN = torch.eye(mask_BN.shape[1], dtype=torch.bool, device=mask.device)
        nodes, pairs = Slots(mask_BN), Slots((mask_BN[:, :, None] & mask_BN[:, None] & ~itself_NN).flatten(1))
        scalars_BNS = self._mass_scalars(gram_BNN) if self.scalars == "mass" else self._feature_scalars(features_BPF)
        h_BND = nodes.padded(self.embed(nodes.rows(scalars_BNS)))
        for layer in self.layers:
            h_BND, gram_BNN = layer(h_BND, scalars_BNS, gram_BNN, nodes, pairs)
        jet_BD = mean_over_slots(h_BND, mask_BN)
        logits_BC: Tensor = self.output(self.dropout(torch.relu(self.dense(jet_BD))))
        return logits_BC

    def _mass_scalars(self, gram_BNN: Tensor) -> Tensor:
        """ψ(mass) in the first column for constituents, in the second for beams, shape (B, N, 2)."""
        # the clamp keeps gradients with respect to four-vectors finite at mass 0
        mass_BN = psi(gram_BNN.diagonal(dim1=1, dim2=2).abs().clamp(min=1e-20).sqrt())
        is_beam_N = torch.arange(mass_BN.shape[1], device=mass_BN.device) < len(self.references)
        return torch.stack([mass_BN.masked_fill(is_beam_N, 0.0), mass_BN.masked_fill(~is_beam_N, 0.0)], dim=-1)

    def _feature_scalars(self, features_BPF: Tensor) -> Tensor:
        """Features of constituents, 0 for beams, shape (B, N, F)."""
        beams_BSF = features_BPF.new_zeros(len(features_BPF), len(self.references), features_BPF.shape[-1])
        return torch.cat([beams_BSF, features_BPF], dim=1)
