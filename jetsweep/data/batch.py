"""Ragged batches: values and offsets from disk to device; padding happens there."""

# Shapes: B jets (or events), N constituents of all jets, F columns, P padded slots.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from jetsweep.data import _host


@dataclass(frozen=True)
class Ragged:
    """A group of variable length per row: constituents of a jet, jets of an event.

    Parameters
    ----------
    values : Tensor, shape (N, F), float32
        Rows of all jets, one after the other.
    offsets : Tensor, shape (B + 1,), int64
        Row `i` owns ``values[offsets[i]:offsets[i + 1]]``.
    columns : tuple of str
        Names of the F columns, e.g. ``("px", "py", "pz", "energy")``, GeV.
    parent : str or None
        Group whose rows the offsets divide among; None for the batch itself (jets inside events set it).
    """

    values: Tensor
    offsets: Tensor
    columns: tuple[str, ...]
    parent: str | None = None

    @property
    def lengths(self) -> Tensor:
        """Number of entries per row, shape (B,), int64."""
        return self.offsets.diff()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Ragged:
        """Copy onto `device`."""
        return replace(
            self,
            values=self.values.to(device, non_blocking=non_blocking),
            offsets=self.offsets.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Ragged:
        """Copy into page-locked host memory."""
        return replace(self, values=self.values.pin_memory(), offsets=self.offsets.pin_memory())

    def take(self, index: Tensor) -> Ragged:
        """Rows in another order, or some of them; `index` has shape (R,), int64."""
        assert self.parent is None, "rows of a group inside another follow that group"
        lengths_R = self.lengths[index]
        offsets = torch.cat([lengths_R.new_zeros(1), lengths_R.cumsum(0)])
        shift_R = self.offsets[index] - offsets[:-1]
        place_N = torch.arange(int(offsets[-1]), device=index.device) + shift_R.repeat_interleave(lengths_R)
        return replace(self, values=self.values[place_N], offsets=offsets)

    def part(self, low: int, high: int) -> Ragged:
        """Rows `low` to `high`; the values are a view."""
        assert self.parent is None, "rows of a group inside another follow that group"
        bounds = self.offsets[low : high + 1]
        return replace(self, values=self.values[int(bounds[0]) : int(bounds[-1])], offsets=bounds - bounds[0])

    def pad(self, length: int) -> tuple[Tensor, Tensor]:
        """Spread into `length` slots; entries beyond are cut, empty slots are 0.

        Returns
        -------
        x_BPF : Tensor, shape (B, length, F)
        mask_BP : Tensor, shape (B, length), bool, True where an entry is real
        """
        padded = _host.pad(self.values, self.offsets, length)
        if padded is not None:
            return padded
        starts_B, lengths_B = self.offsets[:-1], self.lengths.clamp(max=length)
        slots_P = torch.arange(length, device=self.values.device)
        mask_BP = slots_P < lengths_B[:, None]
        # a gather that reads empty slots from a row of zeros: an index by mask would make the host wait for a GPU, and
        # break a graph that is being compiled
        padding = self.values.new_zeros(1, self.values.shape[1])
        row_BP = torch.where(mask_BP, starts_B[:, None] + slots_P, len(self.values))
        x_NF = torch.cat([self.values, padding]).index_select(0, row_BP.flatten())
        return x_NF.view(*mask_BP.shape, self.values.shape[1]), mask_BP


@dataclass(frozen=True)
class Batch:
    """One step's rows.

    Parameters
    ----------
    groups : mapping of str to Ragged
        E.g. ``{"constituents": ...}``; events carry several.
    scalars : mapping of str to Tensor, shape (B,), float32
        Jet scalars (GeV) and derived variables, by column name.
    targets : mapping of str to Tensor
        ``"label"``: int64 class index, shape (B,); other tasks add theirs.
    weight : Tensor or None, shape (B,), float32
        Per-jet weight; None means 1.
    rows : Tensor, shape (B,), int64
        Row number in the split, the same whatever the shuffling.
    """

    groups: Mapping[str, Ragged]
    scalars: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    weight: Tensor | None
    rows: Tensor
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.rows))

    def __len__(self) -> int:
        return self.size

    def take(self, index: Tensor) -> Batch:
        """Rows in another order, or some of them; `index` has shape (R,), int64."""
        return Batch(
            {name: group.take(index) for name, group in self.groups.items()},
            {name: x[index] for name, x in self.scalars.items()},
            {name: x[index] for name, x in self.targets.items()},
            None if self.weight is None else self.weight[index],
            self.rows[index],
        )

    def part(self, low: int, high: int) -> Batch:
        """Rows `low` to `high`; all but the offsets are views."""
        return Batch(
            {name: group.part(low, high) for name, group in self.groups.items()},
            {name: x[low:high] for name, x in self.scalars.items()},
            {name: x[low:high] for name, x in self.targets.items()},
            None if self.weight is None else self.weight[low:high],
            self.rows[low:high],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move ragged data; nothing is padded on the way."""
        return Batch(
            {name: group.to(device, non_blocking) for name, group in self.groups.items()},
            {name: x.to(device, non_blocking=non_blocking) for name, x in self.scalars.items()},
            {name: x.to(device, non_blocking=non_blocking) for name, x in self.targets.items()},
            None if self.weight is None else self.weight.to(device, non_blocking=non_blocking),
            self.rows.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Copy into page-locked host memory."""
        return Batch(
            {name: group.pin_memory() for name, group in self.groups.items()},
            {name: x.pin_memory() for name, x in self.scalars.items()},
            {name: x.pin_memory() for name, x in self.targets.items()},
            None if self.weight is None else self.weight.pin_memory(),
            self.rows.pin_memory(),
        )
