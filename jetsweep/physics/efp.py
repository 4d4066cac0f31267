"""Energy-flow polynomials of jets (arXiv:1712.07124): a linear basis of infrared- and collinear-safe observables.

EFP_G = sum over constituents i_1 … i_N of  z_i1 … z_iN  times θ_ab for every edge (a, b) of the multigraph G.

===========  ==========================  =========================================================================
measure      energy z                    angle θ
===========  ==========================  =========================================================================
hadr         pT^κ                        (Δy² + Δφ²)^(β/2)
hadrdot      pT^κ                        (2 p_i·p_j / (pT_i pT_j))^(β/2), with the Minkowski product
eedot        E^κ                         (2 p_i·p_j / (E_i E_j))^(β/2)
===========  ==========================  =========================================================================

Only κ = 1 is infrared and collinear safe. `hadr` ignores masses of constituents; `hadrdot` and `eedot` are safe for
massless ones.
"""

# Shapes: B jets, P constituent slots, 4 = (px, py, pz, E) in GeV, G graphs.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from jetsweep.physics._contraction import Program
from jetsweep.physics._multigraphs import Multigraph, multigraphs
from jetsweep.physics.fourvectors import TINY, delta_phi, phi, pt, rapidity

__all__ = ["EnergyFlowPolynomials", "Measure", "Multigraph", "multigraphs"]

_ELEMENTS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 25}
"""Entries of one (B, P, P) matrix that are worked on together: on a CPU what stays near its cache."""


@dataclass(frozen=True)
class Measure:
    """How energies and angles of constituents are defined.

    Parameters
    ----------
    name : "hadr", "hadrdot" or "eedot"
    beta : float
        Angular exponent β > 0.
    kappa : float
        Energy exponent κ.
    normed : bool
        Divide the energies by (sum of the jet's pT or E)^κ.

    Raises
    ------
    ValueError
        If `beta` is not positive.
    """

    name: Literal["hadr", "hadrdot", "eedot"] = "hadr"
    beta: float = 1.0
    kappa: float = 1.0
    normed: bool = True

    def __post_init__(self) -> None:
        if self.name not in ("hadr", "hadrdot", "eedot"):
            raise ValueError(f"expected one of the measures hadr, hadrdot, eedot, found {self.name!r}")
        if not self.beta > 0:
            raise ValueError(f"expected an angular exponent beta above 0, found {self.beta}")

    def of_four_vectors(self, p4_BP4: Tensor, mask_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (B, P), 0 in empty slots, and angles (B, P, P) of constituents."""
        p4_BP4 = torch.where(mask_BP[..., None], p4_BP4, 0.0)
        size_BP = p4_BP4[..., 3] if self.name == "eedot" else pt(p4_BP4)
        if self.name == "hadr":
            return self.of_coordinates(size_BP, rapidity(p4_BP4), phi(p4_BP4), mask_BP)
        square_BPP = _dot_eedot(p4_BP4) if self.name == "eedot" else _dot_hadrdot(p4_BP4, size_BP)
        return self._energies(size_BP, mask_BP), self._angles(square_BPP)

    def of_coordinates(self, pt_BP: Tensor, eta_BP: Tensor, phi_BP: Tensor, mask_BP: Tensor) -> tuple[Tensor, Tensor]:
        """The same of transverse momenta and directions: rapidities, pseudorapidities, or both relative to the jet.

        Raises
        ------
        ValueError
            If the measure needs four-vectors.
        """
        if self.name != "hadr":
            raise ValueError(f"the measure {self.name!r} needs four-vectors; from coordinates there is only hadr")
        pt_BP, eta_BP, phi_BP = (torch.where(mask_BP, x, 0.0) for x in (pt_BP, eta_BP, phi_BP))
        eta_BPP = eta_BP[:, :, None] - eta_BP[:, None, :]
        phi_BPP = delta_phi(phi_BP[:, :, None], phi_BP[:, None, :])
        return self._energies(pt_BP, mask_BP), self._angles(eta_BPP.square() + phi_BPP.square())

    def _energies(self, size_BP: Tensor, mask_BP: Tensor) -> Tensor:
        if self.normed:
            size_BP = size_BP / size_BP.sum(dim=1, keepdim=True).clamp(min=TINY)
        # 0 to the power 0 is 1, also in empty slots
        return torch.where(mask_BP, size_BP**self.kappa, 0.0)

    def _angles(self, square_BPP: Tensor) -> Tensor:
        if self.beta == 2:
            return square_BPP
        # the gradient of a root is infinite at 0, where a constituent meets itself
        is_apart = square_BPP > 0
        return torch.where(is_apart, torch.where(is_apart, square_BPP, 1.0) ** (self.beta / 2), 0.0)


def _dot_hadrdot(p4_BP4: Tensor, pt_BP: Tensor) -> Tensor:
    """2 p_i·p_j / (pT_i pT_j) from rapidities and azimuths, without cancellation for small angles."""
    y_BP, phi_BP = rapidity(p4_BP4), phi(p4_BP4)
    x_BP = _mass_squared(p4_BP4) / pt_BP.clamp(min=TINY).square().clamp(min=TINY)
    x_BPP = x_BP[:, :, None] + x_BP[:, None, :] + x_BP[:, :, None] * x_BP[:, None, :]
    # transverse masses over transverse momenta
    ratio_BPP = (1 + x_BPP).sqrt()
    along_BPP = 2 * torch.sinh((y_BP[:, :, None] - y_BP[:, None, :]) / 2).square()
    around_BPP = 2 * torch.sin((phi_BP[:, :, None] - phi_BP[:, None, :]) / 2).square()
    return 2 * (ratio_BPP * along_BPP + around_BPP + x_BPP / (ratio_BPP + 1))


def _dot_eedot(p4_BP4: Tensor) -> Tensor:
    """2 p_i·p_j / (E_i E_j) from velocities v: (1 - v_i²) + (1 - v_j²) + |v_i - v_j|²."""
    energy_BP = p4_BP4[..., 3].clamp(min=TINY)
    v_BP3 = p4_BP4[..., :3] / energy_BP[..., None]
    lag_BP = _mass_squared(p4_BP4) / energy_BP.square().clamp(min=TINY)
    apart_BPP = (v_BP3[:, :, None] - v_BP3[:, None, :]).square().sum(dim=-1)
    return lag_BP[:, :, None] + lag_BP[:, None, :] + apart_BPP


def _mass_squared(p4_BP4: Tensor) -> Tensor:
    p_BP = torch.linalg.vector_norm(p4_BP4[..., :3], dim=-1)
    square_BP: Tensor = ((p4_BP4[..., 3] - p_BP) * (p4_BP4[..., 3] + p_BP)).clamp(min=0.0)
    return square_BP


class EnergyFlowPolynomials:
    """Polynomials of a set of graphs; the order of contraction is found once, here.

    Parameters
    ----------
    graphs : int or sequence of Multigraph
        A number stands for all graphs with so many edges at most, `multigraphs`: the linear basis. Up to 5 edges the
        cost per jet grows like P^3, with K4 inside (6 edges) like P^4.
    measure : Measure

    Examples
    --------
    >>> import torch
    >>> basis = EnergyFlowPolynomials(4)
    >>> len(basis.graphs)
    36
    >>> p4 = torch.tensor([[[60.0, 0.0, 0.0, 60.0], [40.0, 0.0, 0.0, 40.0]]], dtype=torch.float64)
    >>> basis(p4, torch.ones(1, 2, dtype=torch.bool))[0, 0].item()
    1.0
    """

    def __init__(self, graphs: int | Sequence[Multigraph], measure: Measure | None = None) -> None:
        self.graphs = multigraphs(graphs) if isinstance(graphs, int) else tuple(graphs)
        if not self.graphs:
            raise ValueError("expected at least one graph, found none")
        self.measure = measure or Measure()
        self._program = Program(self.graphs)

    def __call__(self, p4_BP4: Tensor, mask_BP: Tensor) -> Tensor:
        """Polynomials of padded jets, shape (B, G), in the dtype of `p4_BP4`; float64 for precise small angles.

        Parameters
        ----------
        p4_BP4 : Tensor, shape (B, P, 4), GeV
            Empty slots may hold anything.
        mask_BP : Tensor, shape (B, P), bool
            True where a constituent is real. A jet without any is all zeros.
        """
        return self._in_parts((p4_BP4,), mask_BP)

    def of_coordinates(self, pt_BP: Tensor, eta_BP: Tensor, phi_BP: Tensor, mask_BP: Tensor) -> Tensor:
        """The same from coordinates, absolute or relative to the jet; see `Measure.of_coordinates`."""
        return self._in_parts((pt_BP, eta_BP, phi_BP), mask_BP)

    def _in_parts(self, tensors: tuple[Tensor, ...], mask_BP: Tensor) -> Tensor:
        """Jets of about the same length together, in slots that the longest of them fills."""
        num_jets, num_slots = mask_BP.shape
        if num_jets == 0:
            return tensors[0].new_zeros(0, len(self.graphs))
        # the last real slot, so that a hole in front of it does no harm
        length_B = torch.where(mask_BP, torch.arange(1, num_slots + 1, device=mask_BP.device), 0).amax(dim=1)
        order_B = length_B.argsort(stable=True)
        length = length_B[order_B].tolist()
        room = _ELEMENTS_AT_ONCE.get(mask_BP.device.type, _ELEMENTS_AT_ONCE["cuda"])
        parts, low = [], 0
        while low < num_jets:
            high = low + 1
            while high < num_jets and (high + 1 - low) * length[high] ** 2 <= room:
                high += 1
            rows, slots = order_B[low:high], max(1, length[high - 1])
            mask = mask_BP[rows, :slots]
            cut = tuple(x[rows, :slots] for x in tensors)
            measured: Any = self.measure.of_four_vectors if len(cut) == 1 else self.measure.of_coordinates
            parts.append(self._program.run(*measured(*cut, mask)))
            low = high
        return torch.cat(parts)[order_B.argsort()]
