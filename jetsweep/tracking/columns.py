"""Which metrics of a task a table of trials shows. Kept apart from the tasks, since tables are read without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jetsweep.tracking.results import TrialRecord


@dataclass(frozen=True)
class TableColumn:
    """A metric of the test split in a table of trials.

    Parameters
    ----------
    title : str
    metric : str
        Name without the split.
    error : str
        Metric that is its uncertainty; none if empty.
    is_early : bool
        Of a trial that did not end the validation metric is shown here, in brackets.
    """

    title: str
    metric: str
    error: str = ""
    is_early: bool = False


TAGGING = (
    TableColumn("accuracy", "accuracy"),
    TableColumn("AUC", "auc", is_early=True),
    *(
        TableColumn(f"1/εB @ {efficiency:g}", f"rejection_at_{efficiency:g}", f"rejection_at_{efficiency:g}_error")
        for efficiency in (0.3, 0.5, 0.8)
    ),
)
ANOMALY = (
    TableColumn("worst AUC", "worst_signal_auc", is_early=True),
    TableColumn("worst SIC", "worst_signal_max_sic"),
    TableColumn("reported AUC", "reported_worst_signal_auc"),
    TableColumn("reported SIC", "reported_worst_signal_max_sic"),
    TableColumn("JSD @ 0.1", "mass_jsd_at_0.1"),
    TableColumn("dCorr", "mass_correlation"),
)
ANY = (TableColumn("loss", "loss", is_early=True),)
"""Of a task that is not named here."""
WEAK_SUPERVISION = (*TAGGING[:2], TableColumn("max SIC", "max_sic"), *TAGGING[2:])
COLUMNS = {"weak-supervision": WEAK_SUPERVISION, "tagging": TAGGING, "flavour-tagging": TAGGING, "anomaly": ANOMALY}
TAGGING_NOTE = "1/εB at signal efficiency εS with binomial uncertainty; "
NOTES = {
    "weak-supervision": "against the truth; SIC: at its best cut; " + TAGGING_NOTE,
    "tagging": TAGGING_NOTE,
    "flavour-tagging": TAGGING_NOTE,
    "anomaly": "worst: of the signals of select_on, reported: the worst of the others, SIC: at its best cut; JSD of "
    "the background's mass at εB = 0.1, dCorr: of score and mass; ",
}


def columns_of(records: Iterable[TrialRecord]) -> tuple[TableColumn, ...]:
    """Columns of all tasks among the records, each once, in order of the tasks' names."""
    tasks = sorted({record.task for record in records})
    return tuple(dict.fromkeys(column for name in tasks for column in COLUMNS.get(name, ANY)))


def notes_of(records: Iterable[TrialRecord]) -> str:
    """What these columns are, as parts of a sentence."""
    return "".join(dict.fromkeys(NOTES.get(name, "") for name in sorted({record.task for record in records})))
