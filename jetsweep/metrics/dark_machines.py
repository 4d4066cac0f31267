"""Score tables of the Dark Machines challenge (arXiv:2105.14027): CSV files without a header."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from jetsweep.errors import DataError


@dataclass(frozen=True)
class DarkMachinesScore:
    """Figures of one model on one signal.

    Parameters
    ----------
    signal, model : str
    score : str
        Kind of score, empty where the file has no such column.
    channel : str
    auc : float
    signal_efficiency : tuple of float
        At the background efficiencies 1e-2, 1e-3 and 1e-4; inferred, the files do not say.
    """

    signal: str
    model: str
    score: str
    channel: str
    auc: float
    signal_efficiency: tuple[float, float, float]


def read_dark_machines(path: str | Path) -> list[DarkMachinesScore]:
    """Read a table: signal, model, a kind of score (or not), channel, AUC, and three falling signal efficiencies.

    Raises
    ------
    DataError
        If the file is not there, or a line has another number of columns, or a number that cannot be.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [(i, [cell.strip() for cell in row]) for i, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read as a table of scores: {reason}") from error
    if not lines:
        raise DataError(f"{path}: expected a table of scores, found an empty file")
    return [_score(cells, f"{path}:{number}") for number, cells in lines]


def _score(cells: list[str], where: str) -> DarkMachinesScore:
    if len(cells) not in (7, 8):
        raise DataError(
            f"{where}: expected 7 or 8 columns (signal, model, [score,] channel, AUC, three efficiencies), found "
            f"{len(cells)}"
        )
    try:
        auc, *efficiencies = (float(cell) for cell in cells[-4:])
    except ValueError as error:
        raise DataError(f"{where}: expected four numbers at the end, found {', '.join(cells[-4:])}") from error
    # written so that NaN is refused too
    if not all(0.0 <= x <= 1.0 for x in (auc, *efficiencies)):
        raise DataError(f"{where}: expected AUC and efficiencies in [0, 1], found {', '.join(cells[-4:])}")
    first, second, third = efficiencies
    if not first >= second >= third:
        raise DataError(
            f"{where}: expected signal efficiencies at background efficiencies 1e-2, 1e-3, 1e-4, which fall, found "
            f"{', '.join(cells[-3:])}"
        )
    kind = cells[2] if len(cells) == 8 else ""
    return DarkMachinesScore(cells[0], cells[1], kind, cells[-5], auc, (first, second, third))
