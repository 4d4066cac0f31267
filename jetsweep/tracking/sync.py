"""Sweeps delivered to a store after the fact: from a cluster without a route to it, or when it was away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jetsweep.errors import JetsweepError, TrackingError
from jetsweep.tracking.client import first_line, open_client, shown
from jetsweep.tracking.mirror import Mirror
from jetsweep.tracking.record import RECORD, read_record, sweep_uri

WhoDrives = Callable[[Path], str | None]
"""Tells who runs a sweep now, e.g. ``process 71 on wn3``, or None."""


@dataclass(frozen=True)
class Synced:
    """What a sweep's delivery did.

    Parameters
    ----------
    sweep_dir : Path
    uri : str
        Of the store.
    runs : int
        Trials' runs there now.
    epochs : int
        Rows of the trials' histories that were delivered now.
    """

    sweep_dir: Path
    uri: str
    runs: int
    epochs: int


def nobody(sweep_dir: Path) -> None:
    """No sweep runs."""


def sync_sweep(sweep_dir: Path, uri: str | None = None, *, who_drives: WhoDrives = nobody) -> Synced:
    """Bring a store up to date with a sweep's folder; whatever it has already is left alone.

    Runs of a sweep that was killed are closed: as the folder says, else as KILLED.

    Parameters
    ----------
    sweep_dir : Path
    uri : str, optional
        Of MLflow; by default where the sweep was tracked. Each store has its own runs of the sweep.
    who_drives : callable
        Tells who runs the sweep now.

    Raises
    ------
    TrackingError
        If there is no tracked sweep, it still runs, or the store cannot take everything.
    """
    sweep_dir = Path(sweep_dir).absolute()
    record = read_record(sweep_dir)
    if record is None:
        raise TrackingError(f"{sweep_dir}: expected the folder of a sweep, found no {RECORD}")
    driver = who_drives(sweep_dir)
    if driver is not None:
        raise TrackingError(f"{sweep_dir}: {driver} runs this sweep and delivers it; wait for its end, or stop it")
    target = sweep_uri(uri, None, sweep_dir)
    client = open_client(target)
    try:
        mirror = Mirror(client, target, sweep_dir, record)
        epochs = mirror.close_all("KILLED")
    except JetsweepError:
        raise
    except Exception as error:  # SQLAlchemy's, requests' and the operating system's errors are not MLflow's
        raise TrackingError(
            f"tracking URI {shown(target)}: {sweep_dir.name} could not be delivered as a whole ({first_line(error)}); "
            "the same command again delivers the rest"
        ) from error
    return Synced(sweep_dir, target, len(mirror.trials), epochs)


def tracked_sweeps(runs_root: Path) -> list[Path]:
    """Folders of the sweeps of `runs_root` that were tracked, by name."""
    return sorted(path.parent for path in runs_root.glob(f"*/{RECORD}"))
