"""Where runs are kept: the tracking URI, checked and its database migrated before anything else starts."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jetsweep.errors import TrackingError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SERVER_TIMEOUT_S = 5.0

GATEWAY_ERRORS = (502, 503, 504)
"""A proxy answers, the server behind it does not."""

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

HOSTED = ("databricks", "databricks-uc")
"""URIs, and schemes, whose address MLflow finds elsewhere."""

EXPECTED = "expected sqlite:///relative/path, sqlite:////absolute/path, http(s)://… or a database"

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # for every run that is closed, into the sweep's table
    # 2 + 4 + 8 s; MLflow's own seven retries hold every request for four minutes when a server is gone
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Settings of MLflow in the driver; what the user has set stays."""

QUIET_LOGGERS = ("mlflow.store.db.utils", "mlflow.tracking", "mlflow.system_metrics", "alembic")


def local_uri(runs_root: Path) -> str:
    """SQLite database beside the sweeps of `runs_root`."""
    return f"sqlite:///{Path(runs_root).absolute() / 'mlflow.db'}"


def resolve_uri(given: str | None, in_file: str | None, runs_root: Path) -> str:
    """Tracking URI: as given, else ``MLFLOW_TRACKING_URI``, else the experiment's, else SQLite beside the sweeps."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or in_file or local_uri(runs_root)
    # a relative path would mean another file in every process that has another working directory
    return f"sqlite:///{sqlite_path(uri).absolute()}" if uri.startswith("sqlite:///") else uri


def sqlite_path(uri: str) -> Path:
    """File behind ``sqlite:///relative`` or ``sqlite:////absolute``."""
    return Path(uri.removeprefix("sqlite:///"))


def artifact_location(uri: str, experiment: str) -> str | None:
    """Folder of an experiment's artifacts beside a local database; a server has its own idea (None)."""
    return (sqlite_path(uri).parent / "mlartifacts" / experiment).as_uri() if uri.startswith("sqlite:///") else None


def check_uri(uri: str) -> None:
    """Refuse within seconds, without importing MLflow, what MLflow would retry for minutes.

    Raises
    ------
    TrackingError
        If a database file cannot be written, or a server does not answer.
    """
    try:
        parts = urlsplit(uri)
        kind, host, port = parts.scheme.partition("+")[0], parts.hostname, parts.port
    except ValueError as error:
        raise TrackingError(f"tracking URI {shown(uri)}: {EXPECTED}, found no address: {error}") from error
    if uri.startswith("sqlite:///"):
        _check_writable(uri)
    elif kind in ("http", "https"):
        _ask_server(uri)
    elif kind in DATABASE_PORTS and host:
        _connect(uri, host, port or DATABASE_PORTS[kind])
    elif kind in ("", "file") and uri not in HOSTED:
        raise TrackingError(f"tracking URI {uri}: {EXPECTED}, found a folder; MLflow no longer keeps runs in files")
    elif kind == "sqlite" or kind not in {*DATABASE_PORTS, *HOSTED, *_plugins()}:
        found = "no path" if kind == "sqlite" else f"the scheme {kind!r}"
        raise TrackingError(f"tracking URI {shown(uri)}: {EXPECTED}, found {found}")


def shown(uri: str) -> str:
    """A tracking URI without its password, for messages."""
    try:
        password = urlsplit(uri).password
    except ValueError:
        return uri
    return uri.replace(f":{password}@", ":…@") if password else uri


def _plugins() -> set[str]:
    """Schemes that other packages teach MLflow."""
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group="mlflow.tracking_store")}


def is_reachable(uri: str) -> bool:
    """Whether `check_uri` finds nothing wrong."""
    try:
        check_uri(uri)
    except TrackingError:
        return False
    return True


def open_client(uri: str) -> MlflowClient:
    """Open a tracking store, and create or migrate its database.

    Several processes that migrate one fresh SQLite file destroy each other's work, so the driver does it alone, first.

    Raises
    ------
    TrackingError
        If a database cannot be written, a server does not answer, or the URI means nothing to MLflow.
    """
    check_uri(uri)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # MLflow's own imports use what pydantic and SQLAlchemy are about to remove
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        is_new = uri.startswith("sqlite:///") and not sqlite_path(uri).exists()
        try:
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        except Exception as error:  # SQLAlchemy's, requests' and the operating system's errors are not MLflow's
            if is_new:  # half a database would be no database tomorrow either
                _remove_database(sqlite_path(uri))
            raise TrackingError(f"tracking URI {shown(uri)}: cannot be used: {first_line(error)}") from error
    return client


def _remove_database(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            Path(f"{path}{suffix}").unlink()


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _check_writable(uri: str) -> None:
    import sqlite3

    path = sqlite_path(uri)
    is_there, made = path.exists(), [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if is_there:
            with sqlite3.connect(path) as database:
                database.execute("PRAGMA schema_version").fetchone()
            database.close()
        else:  # nothing is made yet by those who only ask
            path.unlink()
            with suppress(OSError):  # another process may have put something there
                for folder in made:
                    folder.rmdir()
    except OSError as error:
        raise TrackingError(f"tracking URI {uri}: {path} cannot be written: {error.strerror}") from error
    except sqlite3.DatabaseError as error:
        raise TrackingError(f"tracking URI {uri}: {path} is no SQLite database: {first_line(error)}") from error


def _connect(uri: str, host: str, port: int) -> None:
    import socket

    try:
        socket.create_connection((host, port), timeout=SERVER_TIMEOUT_S).close()
    except OSError as error:
        raise TrackingError(
            f"tracking URI {shown(uri)}: the database does not answer within {SERVER_TIMEOUT_S:g} s ({error})"
        ) from error


def _ask_server(uri: str) -> None:
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S):
            pass
    except HTTPError as error:
        if error.code not in GATEWAY_ERRORS:  # a server answered; whether it lets us in the first request finds out
            return
        raise TrackingError(
            f"tracking URI {shown(uri)}: the server does not answer ({error.code} {error.reason} of what is before it)"
        ) from error
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"tracking URI {shown(uri)}: the server does not answer within {SERVER_TIMEOUT_S:g} s ({reason})"
        ) from error
