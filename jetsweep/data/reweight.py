"""Training jets that are flat in variables such as (pt, eta, mass), or distributed like a reference class.

In every class a jet's factor depends on its bin alone. ``to: flat`` gives all bins of a class that hold jets the same
sum of weights, ``to: <class>`` gives them the shape of that class; then all classes get the same sum of weights, or
what `class_weights` says. Factors are made from the training split and used in training alone.
"""

# Shapes: C classes, K bins of all variables together, R rows.

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from jetsweep.data.columns import ScalarColumns, hint, resolve
from jetsweep.data.derived import is_writable, save_atomically
from jetsweep.data.selection import SelectedRows, Selection
from jetsweep.errors import DataError

if TYPE_CHECKING:
    from jetsweep.data.dataset import Dataset

REWEIGHTING = "reweighting.json"
"""In a trial's folder, what `Reweighting.record` tells; only with `data.reweight`."""
MAX_BINS = 100_000
_ROWS_AT_ONCE = 65_536
_SUMS = ("jets", "content", "squares", "outside")


class Axis(BaseModel):
    """Bins of one variable; a lower edge belongs to its bin, of the upper ones only the last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    edges: tuple[float, ...] | None = Field(None, description="Edges in ascending order; a list alone means these.")
    bins: PositiveInt | None = Field(None, description="Number of bins of equal width in `range`.")
    range: tuple[float, float] | None = Field(None, description="Lowest and highest edge of `bins`.")

    @model_validator(mode="after")
    def _is_ascending(self) -> Axis:
        if self.edges is None and (self.bins is None or self.range is None):
            raise ValueError("expected a list of edges, or bins and range")
        if self.edges is not None and (self.bins is not None or self.range is not None):
            raise ValueError("expected either edges or bins and range, found both")
        edges = self.edges if self.edges is not None else self.range
        assert edges is not None
        if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)) or not _all_finite(edges):
            raise ValueError(f"expected at least two finite edges in ascending order, found {list(edges)}")
        return self

    def to_array(self) -> np.ndarray:
        """Edges, shape (number of bins + 1,)."""
        if self.edges is not None:
            return np.array(self.edges)
        assert self.bins is not None
        assert self.range is not None
        return np.linspace(*self.range, self.bins + 1)


def _all_finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _axis(value: Any) -> Any:
    return {"edges": value} if isinstance(value, list | tuple) else value


class ReweightConfig(BaseModel):
    """Section `data.reweight` of an experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str | tuple[str, ...] = Field(
        "flat",
        description="flat, or the class whose distribution the others take on; of several classes that of all their "
        "jets together.",
    )
    variables: dict[str, Annotated[Axis, BeforeValidator(_axis, json_schema_input_type=tuple[float, ...] | Axis)]] = (
        Field(
            min_length=1,
            description="Bins by variable: a list of edges, or {bins: n, range: [low, high]}; names of jet scalars, "
            "with or without `jet_` before them. Jets outside are not used in training.",
        )
    )
    method: Literal["weight", "sample"] = Field(
        "sample",
        description="weight: jets count more or less in the loss (after those outside the bins got 0); sample: every "
        "epoch draws them more or less often, and they count alike.",
    )
    percentile: float = Field(
        0.0,
        ge=0.0,
        lt=100.0,
        description="Bins with less than this percentile of a class's bins are raised no further than those, so that "
        "few jets do not stand for many; nearly empty bins are not counted among them.",
    )
    max_factor: PositiveFloat | None = Field(
        None,
        description="A bin's jets count at most this many times as much as the mean jet of their class, before classes "
        "are brought to their sums of weights.",
    )
    class_weights: dict[str, NonNegativeFloat] = Field(
        {}, description="Sum of weights of a class relative to the others; 1 where not named, 0 leaves it out."
    )

    @model_validator(mode="after")
    def _is_possible(self) -> ReweightConfig:
        num_bins = math.prod(len(axis.to_array()) - 1 for axis in self.variables.values())
        if num_bins > MAX_BINS:
            raise ValueError(f"expected at most {MAX_BINS:,} bins of all variables together, found {num_bins:,}")
        return self


class Reweighting:
    """What a `ReweightConfig` makes of the leading rows of a split.

    Its sums over jets are kept beside the shards, in ``derived/reweight/<digest>.npz`` of the dataset's folder.

    Parameters
    ----------
    dataset : Dataset
    config : ReweightConfig
    split : str
    num_rows : int
        Leading rows that are used.
    use_weights : bool
        Multiply the factors by the stored weights, where there are any.
    selection : Selection, optional
        Classes whose jets are reweighted; those of `ReweightConfig.to` need not be among them.

    Attributes
    ----------
    factors : array, shape (C, K)
        What the jets' weights are multiplied by; the mean weight of all jets stays what it was.
    sums : array, shape (blocks,)
        Sum of the new weights of each record batch.
    num_draws : int
        Jets whose new weight is positive: the length of an epoch that samples.

    Raises
    ------
    DataError
        If a variable or a class does not exist, a class has no jets inside the bins, or weights are negative or all 0.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ReweightConfig,
        split: str,
        num_rows: int,
        use_weights: bool = True,
        selection: Selection | None = None,
    ) -> None:
        self._dataset, self.config, self.method, self._split = dataset, config, config.method, split
        self._reader, self._num_rows = dataset.reader(split), num_rows
        self._is_weighted = use_weights and "weight" in dataset.manifest.scalars
        self._reference = (config.to,) if isinstance(config.to, str) else config.to
        self._check_classes()
        self.selection, self._ends_C = selection, np.full(len(dataset.classes), num_rows)
        self.num_selected = num_rows
        if selection is not None:
            selected = SelectedRows(dataset, selection, split, num_rows)
            self._ends_C, self.num_selected = selected.ends, selected.num_rows
        self._names = resolve(dataset, config.variables, "data.reweight.variables")
        self._edges = [axis.to_array() for axis in config.variables.values()]
        self._columns = ScalarColumns(
            dataset, split, [*self._names, "label", *(["weight"] if self._is_weighted else [])]
        )
        found = self._kept() or self._computed()
        self._jets_CK, self._content_CK, self._squares_CK, self._outside_C = (found[part] for part in _SUMS)
        self.factors, self.sums = found["factors"], found["sums"]
        self.num_draws = int(self._jets_CK[self.factors > 0].sum())

    def of_rows(self, rows_R: np.ndarray) -> np.ndarray:
        """New weights of ascending rows, shape (R,), float64; 0 outside the bins."""
        label_R, bin_R, weight_R = self._read(rows_R)
        is_used_R = (bin_R >= 0) & (rows_R < self._ends_C[label_R])
        return np.where(is_used_R, weight_R * self.factors[label_R, bin_R], 0.0)

    def of_block(self, block: int) -> np.ndarray:
        """New weights of the used rows of a record batch, shape (R,), float64."""
        first, end = (min(int(row), self._num_rows) for row in self._reader.starts[block : block + 2])
        return self.of_rows(np.arange(first, end))

    def record(self) -> dict[str, Any]:
        """What was done, for a trial's folder: settings, bins, and the training jets of every class.

        ``effective`` is (sum of weights)^2 / (sum of their squares): as many jets of equal weight fluctuate as much.
        Jets are ``unmatched`` in bins where the class to match has none, and where their class is left out.
        """
        used_CK, total_C = self.factors > 0, (self.factors * self._content_CK).sum(axis=1)
        squares_C = (self.factors**2 * self._squares_CK).sum(axis=1)
        classes = {
            name: {
                "used": int(self._jets_CK[c][used_CK[c]].sum()),
                "outside": int(self._outside_C[c]),
                "unmatched": int(self._jets_CK[c][~used_CK[c]].sum()),
                "effective": round(float(total_C[c] ** 2 / squares_C[c]), 1) if squares_C[c] else 0.0,
            }
            for c, name in enumerate(self._dataset.classes)
            if self._ends_C[c]
        }
        return {
            **self.config.model_dump(mode="json"),
            "variables": {name: edges.tolist() for name, edges in zip(self._names, self._edges)},
            "stored_weights": self._is_weighted,
            "jets": self.num_selected,
            "classes": classes,
        }

    def sentence(self) -> str:
        """What a person should know before training: how many jets are used, and what they are worth."""
        classes = self.record()["classes"]
        rest = {key: sum(c[key] for c in classes.values()) for key in ("outside", "unmatched")}
        worth = ", ".join(f"{c['effective']:,.0f} {name}" for name, c in classes.items())
        what = {"outside": "outside the bins", "unmatched": "without jets to match"}
        why = " and ".join(f"{number:,} {what[key]}" for key, number in rest.items() if number) or "none"
        return (
            f"data.reweight ({self.method}, to {self._target}): {self.num_draws:,} of {self.num_selected:,} training "
            f"jets are used, left out: {why}; they are worth as many as {worth} of equal weight"
        )

    @property
    def _target(self) -> str:
        return " and ".join(self._reference)

    def _error(self, message: str, key: str = "") -> DataError:
        return DataError(f"{self._dataset.path}: data.reweight{'.' + key if key else ''}: {message}")

    def _check_classes(self) -> None:
        named = [("class_weights", name) for name in self.config.class_weights]
        for key, name in [("to", name) for name in self._reference if self.config.to != "flat"] + named:
            if name not in self._dataset.classes:
                known = (*(("flat",) if key == "to" else ()), *self._dataset.classes)
                raise self._error(f"expected one of {', '.join(known)}, found {name!r}{hint(name, known)}", key)

    def _read(self, rows_R: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class, bin (-1 outside) and stored weight of ascending rows."""
        columns = self._columns.read(rows_R)
        bin_R, inside_R = np.zeros(len(rows_R), np.int64), np.ones(len(rows_R), bool)
        for name, edges in zip(self._names, self._edges):
            place_R = np.searchsorted(edges, columns[name], side="right") - 1  # NaN ends up behind the last edge
            place_R = np.where(columns[name] == edges[-1], len(edges) - 2, place_R)
            inside_R &= (place_R >= 0) & (place_R < len(edges) - 1)
            bin_R = bin_R * (len(edges) - 1) + place_R
        weight_R = columns["weight"].astype(np.float64) if self._is_weighted else np.ones(len(rows_R))
        return columns["label"].astype(np.int64), np.where(inside_R, bin_R, -1), weight_R

    @property
    def _file(self) -> Path:
        """Where the sums are kept."""
        config = self.config.model_dump(mode="json", exclude={"method"})
        key = [2, self._dataset.digest, self._split, self._num_rows, self._is_weighted, config, self._ends_C.tolist()]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return self._dataset.local_folder / "derived" / "reweight" / f"{digest[:16]}.npz"

    def _kept(self) -> dict[str, np.ndarray] | None:
        path = self._file
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    def _computed(self) -> dict[str, np.ndarray]:
        """Sums over all rows, the factors that follow, and their sums over blocks: two passes over a few columns."""
        found, total = self._summed()
        self.factors = self._factors(found["content"], total)
        last = int(np.searchsorted(self._reader.starts, self._num_rows))
        cumulated = (np.cumsum(self.of_block(block)) for block in range(last))
        sums = np.array([x[-1] if len(x) else 0.0 for x in cumulated])
        found |= {"factors": self.factors, "sums": sums}
        path = self._file
        if is_writable(path.parent):
            save_atomically(path, lambda file: np.savez(file, allow_pickle=False, **found))
        return found

    def _summed(self) -> tuple[dict[str, np.ndarray], float]:
        """Jets of positive weight, sums of weights and of their squares (C, K), jets outside (C,); all weights."""
        num_classes, num_bins = len(self._dataset.classes), math.prod(len(edges) - 1 for edges in self._edges)
        sums = [np.zeros(num_classes * num_bins) for _ in range(3)]
        seen_C = self._ends_C.copy()
        for name in self._reference if self.config.to != "flat" else ():  # its jets are counted, if not used
            label = self._dataset.classes.index(name)
            seen_C[label] = seen_C[label] or self._num_rows
        outside_C, total, num_negative = np.zeros(num_classes, np.int64), 0.0, 0
        for start in range(0, self._num_rows, _ROWS_AT_ONCE):
            rows_R = np.arange(start, min(start + _ROWS_AT_ONCE, self._num_rows))
            label_R, bin_R, weight_R = self._read(rows_R)
            is_seen_R = rows_R < seen_C[label_R]
            rows_R, label_R, bin_R, weight_R = (x[is_seen_R] for x in (rows_R, label_R, bin_R, weight_R))
            num_negative += int((~(weight_R >= 0)).sum())
            total += float(weight_R[rows_R < self._ends_C[label_R]].sum())
            inside_R = bin_R >= 0
            place_R, inside_weight_R = (label_R * num_bins + bin_R)[inside_R], weight_R[inside_R]
            for power, into in enumerate(sums):
                values_R = inside_weight_R > 0 if power == 0 else inside_weight_R**power
                into += np.bincount(place_R, values_R, minlength=len(into))
            outside_C += np.bincount(label_R[~inside_R], minlength=num_classes)
        if num_negative:
            raise self._error(f"expected weights of 0 and above, {num_negative:,} training jets have others")
        if not total > 0:
            raise self._error(f"the weights of all {self.num_selected:,} training jets are 0, expected some above")
        jets_CK, content_CK, squares_CK = (x.reshape(num_classes, num_bins) for x in sums)
        return {"jets": jets_CK, "content": content_CK, "squares": squares_CK, "outside": outside_C}, total

    def _factors(self, content_CK: np.ndarray, total: float) -> np.ndarray:
        classes, is_flat = self._dataset.classes, self.config.to == "flat"
        if not content_CK.any():
            raise self._error(
                f"none of the {self.num_selected:,} training jets is inside the bins of {', '.join(self._names)}"
                + self._seen()
            )
        share_C = np.array([self.config.class_weights.get(name, 1.0) for name in classes]) * (self._ends_C > 0)
        if not share_C.any():
            raise self._error("expected a class with a weight above 0, found none", "class_weights")
        reference = [] if is_flat else [classes.index(name) for name in self._reference]
        target_K = np.ones(content_CK.shape[1]) if is_flat else content_CK[reference].sum(axis=0)
        ratio_CK = np.divide(target_K, content_CK, out=np.zeros_like(content_CK), where=content_CK > 0)
        for ratio_K, content_K in zip(ratio_CK, content_CK):
            if self.config.percentile and ratio_K.any():
                np.minimum(ratio_K, self._ceiling(ratio_K, content_K), out=ratio_K)
            if self.config.max_factor is not None and ratio_K.any():
                mean = (ratio_K * content_K).sum() / content_K[ratio_K > 0].sum()
                np.minimum(ratio_K, self.config.max_factor * mean, out=ratio_K)
        sum_C = (ratio_CK * content_CK).sum(axis=1)
        for name, share, reached, content_K in zip(classes, share_C, sum_C, content_CK):
            if share and not reached:
                where = f"in the bins of {self._target}" if content_K.any() else "inside the bins"
                raise self._error(
                    f"class {name!r} has no training jets (of positive weight) {where}; class_weights: {{{name}: 0}} "
                    "would leave it out"
                )
        scale_C = np.divide(share_C, sum_C, out=np.zeros_like(sum_C), where=sum_C > 0)
        return np.asarray(ratio_CK * scale_C[:, None] * (total / share_C.sum()))

    def _ceiling(self, ratio_K: np.ndarray, content_K: np.ndarray) -> float:
        """Largest ratio of a class: that at the percentile, by weaver-core's rules, so that its files mean the same."""
        if self.config.to == "flat":
            filled = content_K[content_K > 0]
            return 1.0 / float(np.percentile(filled[filled > 0.01 * np.median(filled)], self.config.percentile))
        return float(np.percentile(ratio_K[ratio_K > 0], 100.0 - self.config.percentile))

    def _seen(self) -> str:
        """The range of each variable among leading jets, for the message that all are outside."""
        columns = self._columns.read(np.arange(min(self._num_rows, _ROWS_AT_ONCE)))
        ranges = [f"{name} is {np.min(columns[name]):g} to {np.max(columns[name]):g}" for name in self._names]
        return f" ({', '.join(ranges)})"
