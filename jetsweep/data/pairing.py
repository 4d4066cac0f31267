"""A stream of outliers that are partners of the jets of another stream: alike in mass, or in mass and pT.

Around each jet lies a window in these variables, and its partner is drawn uniformly from the outliers inside. While
there are none, widths are doubled in turn, that of the last variable first: for (mass, pt) first pT, then mass, as in
the published outlier exposure of ATLAS.
"""

# Shapes: B jets of a global batch, P partners of them, D variables, K partners of each jet.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jetsweep.data._windows import Windows, hashed
from jetsweep.data.batch import Batch
from jetsweep.data.columns import ScalarColumns
from jetsweep.data.loader import Loader, in_thread
from jetsweep.data.order import EpochOrder
from jetsweep.errors import DataError

MOST_DOUBLINGS = 6
"""Of each width; where no jet finds a partner in windows that large, the outliers are others than these."""
_JETS_LOOKED_AT = 8_192
Width = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class PairingConfig(BaseModel):
    """How outliers are matched to background jets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: tuple[str, ...] = Field(
        ("mass",), min_length=1, description="Jet scalars in which partners are alike, with or without `jet_`."
    )
    window: tuple[Width, ...] = Field((), description="Full width of the window in each of them, GeV; 10 if not given.")

    @model_validator(mode="before")
    @classmethod
    def _ten_each(cls, values: Any) -> Any:
        by = values.get("by", ("mass",)) if isinstance(values, dict) else None
        if isinstance(by, list | tuple) and values.get("window") is None:
            return {**values, "window": (10.0,) * len(by)}
        return values

    @model_validator(mode="after")
    def _one_width_each(self) -> PairingConfig:
        if len(self.window) != len(self.by):
            raise ValueError(f"expected a width for each of {', '.join(self.by)}, found {len(self.window)} of them")
        return self


class PairedLoader:
    """Partners of the jets of `main`, batch by batch.

    Row `i` of the main stream's batch has `K` partners in rows ``i * K`` to ``(i + 1) * K`` if `ratio` is an integer K.
    Below 1 only ``round(ratio * batch)`` rows of a batch have one, spread evenly over it, so that every rank has its
    share. ``targets["pair"]`` says of each partner which row of this rank's main batch it belongs to.

    Which outlier is drawn follows from (seed, epoch, row in the main split) alone; of a row that is twice in a batch,
    as resampling makes them, each has a partner of its own.

    Parameters
    ----------
    config : PairingConfig
    main : Loader
    outliers : Loader
        Without shuffling and reweighting; its rows are those that partners are drawn from.
    main_values, outlier_values : ScalarColumns
        The variables in both splits.
    ratio : float
        Partners for each jet: at most 1, or an integer.

    Raises
    ------
    DataError
        If variables are not finite, or no jet has a partner nearby.
    """

    def __init__(
        self,
        config: PairingConfig,
        main: Loader,
        outliers: Loader,
        main_values: ScalarColumns,
        outlier_values: ScalarColumns,
        ratio: float = 1.0,
    ) -> None:
        self.config, self.main, self.outliers, self.ratio = config, main, outliers, ratio
        self._main_values = main_values
        self.batch_size = self._num_partners(main.batch_size)
        self.num_steps = main.num_steps
        self.num_rows = self._num_partners(main.num_rows)
        self._check_ranks(min(main.batch_size, main.num_rows))
        rows = outliers.order(0).rows(0, outliers.num_rows)
        values = outlier_values.table(rows)
        finite = np.isfinite(values).all(axis=1)
        self._rows, values = rows[finite], values[finite]
        if not len(values):
            raise DataError(f"pairing: no outlier has finite {', '.join(main_values.names)}")
        self._windows = Windows(values, np.array(config.window))
        self._look(values)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Partners of this rank's jets in the main stream's batches from `start_step` on."""
        order, steps = self.main.order(epoch), range(start_step, self.num_steps)
        batches = (self._batch(order, epoch, step) for step in steps)
        if self.outliers.prefetch < 1:
            return batches
        return in_thread(batches, self.outliers.prefetch)

    def _batch(self, order: EpochOrder, epoch: int, step: int) -> Batch:
        rows_B, mine = self.main.rows_of_step(order, step)
        place_P, copy_P = self._places(len(rows_B))
        first, end = np.searchsorted(place_P, (mine.start, mine.stop))
        place_P, copy_P = place_P[first:end], copy_P[first:end]
        # a row that comes again counts on from the partners that it had
        copy_P = copy_P + (np.arange(len(rows_B)) - np.searchsorted(rows_B, rows_B))[place_P] * self._copies
        state_P = hashed(self.main.seed, np.full(len(copy_P), epoch), rows_B[place_P], copy_P)
        values_PD = self._main_values.table(rows_B[place_P])
        self._require_finite(values_PD)
        drawn_P1, _ = self._windows.draw(values_PD, state_P[:, None])
        batch = self._read(self._rows[drawn_P1[:, 0]], place_P - mine.start)
        return batch.pin_memory() if self.outliers.pin_memory else batch

    def _read(self, partner_P: np.ndarray, pair_P: np.ndarray) -> Batch:
        batch = self.outliers.read(partner_P)
        return replace(batch, targets={**batch.targets, "pair": torch.from_numpy(pair_P.astype(np.int64))})

    @property
    def _copies(self) -> int:
        return max(1, round(self.ratio))

    def _num_partners(self, jets: int) -> int:
        return round(self.ratio * jets)

    def _places(self, jets: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (P,) in a global batch that have partners, and the number of each partner of a place."""
        if self.ratio >= 1:
            return np.repeat(np.arange(jets), self._copies), np.tile(np.arange(self._copies), jets)
        num = self._num_partners(jets)
        return (2 * np.arange(num) + 1) * jets // (2 * num), np.zeros(num, np.int64)

    def _check_ranks(self, jets: int) -> None:
        size = self.main.world_size
        place_P = self._places(jets)[0] if self._num_partners(jets) else np.zeros(0, np.int64)
        first = np.searchsorted(place_P, [jets * rank // size for rank in range(size + 1)])
        if not np.diff(first).all():
            raise DataError(
                f"pairing: a ratio of {self.ratio:g} to {jets} jets of a micro-batch gives {len(place_P)} partners, "
                f"expected some for each of {size} workers"
            )

    def _look(self, values_ND: np.ndarray) -> None:
        """Pair leading jets once: how often windows grow, and whether they have to grow without end."""
        rows = np.unique(self.main.order(0).rows(0, min(self.main.num_rows, _JETS_LOOKED_AT)))
        around_BD = self._main_values.table(rows)
        self._require_finite(around_BD)
        _, doublings_B = self._windows.draw(around_BD, hashed(self.main.seed, rows)[:, None])
        self._doublings = np.bincount(doublings_B)
        if doublings_B.min() > MOST_DOUBLINGS * len(self.config.by):
            ranges = [
                f"{name} of outliers is {values_ND[:, d].min():g} to {values_ND[:, d].max():g}, of background jets "
                f"{around_BD[:, d].min():g} to {around_BD[:, d].max():g}"
                for d, name in enumerate(self._main_values.names)
            ]
            raise DataError(
                f"pairing: no background jet has an outlier nearby, even in windows {2**MOST_DOUBLINGS} times as wide: "
                + "; ".join(ranges)
            )

    def _require_finite(self, values_BD: np.ndarray) -> None:
        bad = int((~np.isfinite(values_BD).all(axis=1)).sum())
        if bad:
            names = ", ".join(self._main_values.names)
            raise DataError(f"pairing: expected finite {names} of all background jets, {bad:,} have others")

    def record(self) -> dict[str, Any]:
        """What was done, for a trial's folder: settings, and how often windows had to be doubled."""
        return {
            **self.config.model_dump(mode="json"),
            "by": list(self._main_values.names),
            "ratio": self.ratio,
            "outliers": len(self._rows),
            "not_finite": self.outliers.num_rows - len(self._rows),
            "looked_at": int(self._doublings.sum()),
            "doublings": {str(n): int(jets) for n, jets in enumerate(self._doublings) if jets},
        }

    def sentence(self) -> str:
        """What a person should know before training: how well outliers match."""
        jets, grown = int(self._doublings.sum()), int(self._doublings[1:].sum())
        window = " x ".join(f"{width:g}" for width in self.config.window)
        return (
            f"pairing by {', '.join(self._main_values.names)} (window {window} GeV, {len(self._rows):,} outliers): of "
            f"{jets:,} background jets {grown:,} ({grown / jets:.2%}) need a wider window, at most "
            f"{len(self._doublings) - 1} doublings"
        )
