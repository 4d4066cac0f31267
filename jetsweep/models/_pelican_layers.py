"""Permutation-equivariant maps between scalars of constituents and of their pairs (arXiv:2211.00454, 2307.16506)."""

# Shapes: B jets, N nodes (references and constituents), M ordered pairs of real nodes, an own pair included, L labels,
# c and m channels in and out, K maps, 2 = (sum over pairs, sum over the diagonal).

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jetsweep.models._layers import MaskedBatchNorm, Slots

MEAN_NODES = 49.0
"""Multiplicity at which sums are means: published, that of the top-tagging reference."""


def multiplicity_scale(num_nodes_B: Tensor, alpha_cK: Tensor) -> Tensor:
    """Factors (N / 49)^alpha by which means come close to sums, shape (B, c, K)."""
    return torch.exp(torch.log(num_nodes_B / MEAN_NODES)[:, None, None] * alpha_cK)


class ProductEncoder(nn.Module):
    """Channels sgn(x) ((1 + |x|)^a - 1) / a of Minkowski products, a = 1e-6 + alpha^2 learned.

    Parameters
    ----------
    num_channels : int
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, num_channels)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.alpha = nn.Parameter(torch.linspace(0.05, 0.5, num_channels))

    def forward(self, product_M1: Tensor) -> Tensor:
        """Channels (M, c) of products (M, 1) in GeV^2."""
        with torch.autocast(product_M1.device.type, enabled=False):  # GeV^2 by the million: not in bf16
            x_Mc = self.linear(product_M1)
            power_c = 1e-6 + self.alpha**2
            return torch.sign(x_Mc) * torch.expm1(power_c * torch.log1p(x_Mc.abs())) / power_c


class Labels(nn.Module):
    """Channels of pairs from the labels of their nodes: five maps from nodes to pairs.

    Parameters
    ----------
    num_labels : int
    num_channels : int
    """

    def __init__(self, num_labels: int, num_channels: int) -> None:
        super().__init__()
        self.coefs = nn.Parameter(torch.randn(num_labels, num_channels, 5) * (2 / (5 * num_labels)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.alpha = nn.Parameter(torch.zeros(num_labels, 5))

    def forward(self, label_BNL: Tensor, num_nodes_B: Tensor, pairs: Slots) -> Tensor:
        """Channels (M, m) of labels (B, N, L)."""
        scale_BL5 = multiplicity_scale(num_nodes_B, self.alpha)
        total_BL = label_BNL.sum(dim=1) / num_nodes_B[:, None]
        node_BN3m = torch.einsum("bnl,blk,lmk->bnkm", label_BNL, scale_BL5[..., :3], self.coefs[..., :3])
        jet_B2m = torch.einsum("bl,blk,lmk->bkm", total_BL, scale_BL5[..., 3:], self.coefs[..., 3:])
        on_diagonal_BNm, column_BNm, row_BNm = node_BN3m.unbind(dim=2)
        out_BNNm = _over_pairs(on_diagonal_BNm + jet_B2m[:, None, 0], column_BNm, row_BNm, jet_B2m[:, 1])
        return F.leaky_relu(pairs.rows((out_BNNm + self.bias).flatten(1, 2)))


class Message(nn.Module):
    """Linear, leaky relu, batch norm over real pairs, dropout.

    Parameters
    ----------
    num_in, num_out : int
    dropout : float
    """

    def __init__(self, num_in: int, num_out: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(num_in, num_out)
        self.norm = MaskedBatchNorm(num_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_Mc: Tensor, pairs: Slots) -> Tensor:
        out_Mm: Tensor = self.dropout(self.norm(F.leaky_relu(self.linear(x_Mc)), pairs.row_mask))
        return out_Mm


class PairsToPairs(nn.Module):
    """The fifteen linear maps of pairs to pairs that commute with permutations of nodes, mixed, then leaky relu.

    Sums are means over real nodes times (N / 49)^alpha. Thirteen maps depend on single nodes or on the jet, so they are
    mixed there; only a pair and its transpose are mixed for every pair.

    Parameters
    ----------
    num_in, num_out : int
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.map_in = nn.Parameter(torch.randn(num_in, 15) / 15**0.5)
        self.map_out = nn.Parameter(torch.randn(num_out, 15) / 15**0.5)
        self.mix_in = nn.Parameter(torch.randn(num_in, num_out) / num_in**0.5)
        self.mix_out = nn.Parameter(torch.randn(num_in, num_out) / num_in**0.5)
        self.alpha = nn.Parameter(torch.rand(num_in, 10))
        self.bias = nn.Parameter(torch.zeros(num_out))
        self.diagonal_bias = nn.Parameter(torch.zeros(num_out))

    def forward(self, x_Mc: Tensor, num_nodes_B: Tensor, pairs: Slots) -> Tensor:
        """Channels (M, m) of pairs with channels (M, c)."""
        num_slots = round(pairs.mask_BP.shape[1] ** 0.5)
        coefs_Kcm = torch.einsum("ck,cm->kcm", self.map_in, self.mix_in)
        coefs_Kcm = coefs_Kcm + torch.einsum("mk,cm->kcm", self.map_out, self.mix_out)
        both_M2m = x_Mc @ torch.cat([coefs_Kcm[0], coefs_Kcm[1]], dim=-1)
        both_BNN2m = pairs.padded(both_M2m).view(len(num_nodes_B), num_slots, num_slots, -1)
        plain_BNNm, turned_BNNm = both_BNN2m.chunk(2, dim=-1)
        x_BNNc = pairs.padded(x_Mc).view(len(num_nodes_B), num_slots, num_slots, -1)
        nodes_3BNm, jets_2Bm = self._of_nodes(x_BNNc, num_nodes_B, coefs_Kcm[2:])
        on_diagonal_BNm = nodes_3BNm[0] + jets_2Bm[0][:, None] + self.diagonal_bias
        out_BNNm = plain_BNNm + turned_BNNm.transpose(1, 2) + self.bias
        out_BNNm = out_BNNm + _over_pairs(on_diagonal_BNm, nodes_3BNm[1], nodes_3BNm[2], jets_2Bm[1])
        return F.leaky_relu(pairs.rows(out_BNNm.flatten(1, 2)))

    def _of_nodes(self, x_BNNc: Tensor, num_nodes_B: Tensor, coefs_Kcm: Tensor) -> tuple[Tensor, Tensor]:
        """What diagonal, columns and rows get from single nodes (3, B, N, m), what diagonal and pairs from the jet."""
        diagonal_BNc = x_BNNc.diagonal(dim1=1, dim2=2).transpose(1, 2)
        columns_BNc = x_BNNc.sum(dim=1) / num_nodes_B[:, None, None]
        rows_BNc = x_BNNc.sum(dim=2) / num_nodes_B[:, None, None]
        jet_2Bc = torch.stack([diagonal_BNc.sum(dim=1), rows_BNc.sum(dim=1)]) / num_nodes_B[:, None]
        scale_BcK = multiplicity_scale(num_nodes_B, self.alpha)
        nodes_3BNm = torch.stack(
            [
                diagonal_BNc @ coefs_Kcm[k]
                + (columns_BNc * scale_BcK[:, None, :, k]) @ coefs_Kcm[3 + k]
                + (rows_BNc * scale_BcK[:, None, :, 3 + k]) @ coefs_Kcm[6 + k]
                for k in range(3)
            ]
        )
        jets_2Bm = torch.stack(
            [
                (jet_2Bc[0] * scale_BcK[..., 6 + k]) @ coefs_Kcm[9 + k]
                + (jet_2Bc[1] * scale_BcK[..., 8 + k]) @ coefs_Kcm[11 + k]
                for k in range(2)
            ]
        )
        return nodes_3BNm, jets_2Bm


class PairsToJet(nn.Module):
    """Mix of the sum over pairs and the sum over the diagonal, leaky relu before the mix.

    Parameters
    ----------
    num_in, num_out : int
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.coefs = nn.Parameter(torch.randn(num_in, num_out, 2) * (2 / num_in) ** 0.5)
        self.alpha = nn.Parameter(torch.rand(num_in, 2))
        self.bias = nn.Parameter(torch.zeros(num_out))

    def forward(self, x_Mc: Tensor, num_nodes_B: Tensor, pairs: Slots) -> Tensor:
        """Channels of jets (B, m) from those of pairs (M, c)."""
        num_slots = round(pairs.mask_BP.shape[1] ** 0.5)
        x_BNNc = pairs.padded(x_Mc).view(len(num_nodes_B), num_slots, num_slots, -1)
        total_Bc = x_BNNc.sum(dim=(1, 2)) / num_nodes_B[:, None] ** 2
        trace_Bc = x_BNNc.diagonal(dim1=1, dim2=2).sum(dim=-1) / num_nodes_B[:, None]
        sums_Bc2 = torch.stack([total_Bc, trace_Bc], dim=-1) * multiplicity_scale(num_nodes_B, self.alpha)
        return torch.einsum("bck,cmk->bm", F.leaky_relu(sums_Bc2), self.coefs) + self.bias


def _over_pairs(on_diagonal_BNm: Tensor, column_BNm: Tensor, row_BNm: Tensor, jet_Bm: Tensor) -> Tensor:
    """Sum (B, N, N, m) of values of the diagonal, of the second node, of the first node and of the jet."""
    num_slots = row_BNm.shape[1]
    itself_NN1 = torch.eye(num_slots, dtype=torch.bool, device=row_BNm.device)[..., None]
    everywhere_BNNm = column_BNm[:, None] + (row_BNm + jet_Bm[:, None])[:, :, None]
    return everywhere_BNNm + torch.where(itself_NN1, on_diagonal_BNm[:, None], 0.0)
