"""Where runs are kept: the tracking URI, checked and its database migrated before anything else starts."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jetsweep.errors import TrackingError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SERVER_TIMEOUT_S = 5.0


def resolve_uri(given: str | None, in_file: str | None, runs_root: Path) -> str:
    """Tracking URI: as given, else ``MLFLOW_TRACKING_URI``, else the experiment's, else SQLite beside the sweeps."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or in_file
    return uri or f"sqlite:///{runs_root.absolute() / 'mlflow.db'}"


def open_client(uri: str) -> MlflowClient:
    """Open a tracking store, and create or migrate its database.

    Several processes that migrate one fresh SQLite file destroy each other's work, so the driver does it alone, first.

    Raises
    ------
    TrackingError
        If a database cannot be written, a server does not answer, or the URI means nothing to MLflow.
    """
    _check_reachable(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    for name in ("mlflow.store.db.utils", "alembic", "alembic.runtime.migration", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # MLflow's own imports use what pydantic and SQLAlchemy are about to remove
        warnings.simplefilter("ignore")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        except (MlflowException, OSError) as error:
            raise TrackingError(f"tracking URI {uri}: cannot be used: {_first_line(error)}") from error
        except Exception as error:  # SQLAlchemy's errors are not MLflow's
            raise TrackingError(f"tracking URI {uri}: cannot be used: {_first_line(error)}") from error
    return client


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _check_reachable(uri: str) -> None:
    """Refuse in seconds what MLflow would retry for minutes."""
    scheme = urlsplit(uri).scheme
    if scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab"):
                pass
        except OSError as error:
            raise TrackingError(f"tracking URI {uri}: {path} cannot be written: {error.strerror}") from error
    elif scheme in ("http", "https"):
        _ask_server(uri)
    elif scheme in ("", "file"):
        raise TrackingError(
            f"tracking URI {uri}: expected sqlite:///…, http(s)://… or a database, found a folder; "
            "MLflow no longer keeps runs in files"
        )


def _ask_server(uri: str) -> None:
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S):
            pass
    except HTTPError:
        # a server answered; whether it lets us in is found out by the first request
        return
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"tracking URI {uri}: the server does not answer within {SERVER_TIMEOUT_S:g} s ({reason})"
        ) from error
