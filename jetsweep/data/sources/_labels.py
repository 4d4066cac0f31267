"""Which class a jet belongs to: by a column, by one expression for each class, or by the name of its file."""

# Shapes: R jets of a slice.

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from jetsweep.data.sources._expressions import ColumnExpression
from jetsweep.errors import DataError


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Values = Annotated[list[int | float | str], BeforeValidator(_as_list)]


class LabelMapping(BaseModel):
    """Where a jet's class is found: one of `column` with `classes`, `columns`, or `files`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str | None = Field(None, description="Column, or expression of columns, whose value tells the class.")
    classes: dict[str, Values] | None = Field(
        None, description="Value or values of `column` for every class, e.g. {qcd: 0, top: [1, 2]}."
    )
    columns: dict[str, str] | None = Field(
        None, description="For every class an expression that is 1 (true) for its jets, e.g. {qcd: label_QCD}."
    )
    files: dict[str, list[str]] | None = Field(
        None, description="For every class patterns of file names, e.g. {qcd: ['qcd_*'], top: ['tt_*']}."
    )
    others: Literal["refuse", "drop"] = Field("refuse", description="What happens to jets of no class.")

    @model_validator(mode="after")
    def _one_way(self) -> LabelMapping:
        ways = [name for name in ("column", "columns", "files") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"give one of `column`, `columns` and `files`, found {' and '.join(ways) or 'none'}")
        if (self.column is None) != (self.classes is None):
            raise ValueError("`column` and `classes` belong together")
        if not self.names:
            raise ValueError("expected at least one class")
        values = [value for some in (self.classes or {}).values() for value in some]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"the value {twice!r} belongs to two classes")
        for text in (*([self.column] if self.column else []), *(self.columns or {}).values()):
            check_expression(text)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Classes in order."""
        return tuple(self.classes or self.columns or self.files or ())


def check_expression(text: str) -> None:
    """Raise unless `text` is an expression, or the name of a column that cannot be one (``jets:label``)."""
    if ":" not in text:
        ColumnExpression(text)


def class_indices(
    label: LabelMapping, value: Callable[[str], np.ndarray], rows: int, wanted: np.ndarray, path: Path
) -> np.ndarray:
    """Class of every jet, -1 where it has none and may be left out.

    Parameters
    ----------
    label : LabelMapping
    value : callable
        Gives the values of a column or an expression, shape (R,).
    rows : int
        Number of jets R.
    wanted : array, shape (R,), bool
        Jets that must have a class.
    path : Path
        Their file.

    Raises
    ------
    DataError
        If a wanted jet has no class, or several.
    """
    if label.files is not None:
        fitting = [
            i
            for i, patterns in enumerate(label.files.values())
            if any(fnmatch.fnmatch(path.name, p) or path.match(p) for p in patterns)
        ]
        if len(fitting) != 1:
            found = "several" if fitting else "none"
            raise DataError(
                f"{path}: expected a name that fits the patterns of one class in label.files, found {found}"
            )
        return np.full(rows, fitting[0], np.int64)
    index = np.full(rows, -1, np.int64)
    if label.columns is not None:
        hits_RC = np.column_stack([value(text) for text in label.columns.values()]).astype(bool)
        several = (hits_RC.sum(axis=1) > 1) & wanted
        if several.any():
            raise DataError(f"{path}: {int(several.sum())} jets belong to several classes of label.columns")
        index[hits_RC.any(axis=1)] = hits_RC.argmax(axis=1)[hits_RC.any(axis=1)]
        found = "none of " + ", ".join(label.columns)
    else:
        assert label.column is not None
        assert label.classes is not None
        given = value(label.column)
        for i, accepted in enumerate(label.classes.values()):
            index[np.isin(given, accepted) if given.dtype.kind != "U" else np.isin(given, list(map(str, accepted)))] = i
        outside = np.unique(given[(index < 0) & wanted])[:5].tolist()
        known = [x for accepted in label.classes.values() for x in accepted]
        found = (
            f"{label.column} = {', '.join(map(str, outside))}, which is not in the map ({', '.join(map(str, known))})"
        )
    missing = int(((index < 0) & wanted).sum())
    if missing and label.others == "refuse":
        raise DataError(f"{path}: {missing} jets have {found}; label.others: drop leaves them out")
    return index
