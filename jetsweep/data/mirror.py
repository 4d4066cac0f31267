"""A dataset in an object store: its shards are brought to this machine once, checked, and mapped from there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs
from filelock import FileLock

from jetsweep.data.manifest import Shard
from jetsweep.errors import DataError

_BLOCK_BYTES = 1 << 22
_STREAMS = 8
_SECONDS_OF_RETRIES = 30


def open_filesystem(uri: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system behind a URI, and the folder in it.

    Raises
    ------
    DataError
        If pyarrow knows no such file system, cannot start it, no folder is named, or a password is.
    """
    if urlsplit(uri).password is not None:  # a URI goes into experiment files, tables and MLflow
        raise DataError(
            f"{uri.split('://')[0]}://…: expected credentials in the environment, found a password in the URI"
        )
    try:
        filesystem, folder = pa.fs.FileSystem.from_uri(_patient(uri))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, ValueError) as error:
        raise DataError(f"{uri}: cannot be opened: {str(error).splitlines()[0]}") from error
    if not folder.strip("/"):
        raise DataError(f"{uri}: expected a folder behind the name of the file system, found none")
    return filesystem, folder


def require_local(path: Path, what: str) -> None:
    """Refuse a URI where something is to be written; a path would make a folder of its name here.

    Raises
    ------
    DataError
    """
    found = re.search(r"(?:^|/)([a-z][a-z0-9+.-]+):/+", str(path))  # a command may have made it absolute
    if found is not None:
        uri = f"{found[1]}://{str(path)[found.end() :]}"
        raise DataError(f"{what}: expected a folder on this machine, found {uri}; make it here, and copy it there")


def _patient(uri: str) -> str:
    """Google's client tries for a quarter of an hour where nobody answers, unless the URI says otherwise."""
    if not uri.startswith(("gs://", "gcs://")) or "retry_limit_seconds" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={_SECONDS_OF_RETRIES}"


def mirror_folder(digest: str) -> Path:
    """Where the shards of the dataset with this digest are kept: below ``$JETSWEEP_CACHE`` or the user's cache."""
    cache = os.environ.get("JETSWEEP_CACHE")
    if not cache:
        import pooch

        cache = pooch.os_cache("jetsweep")
    return Path(cache) / "datasets" / digest[:16]


def fetch_shards(
    filesystem: pa.fs.FileSystem,
    folder: str,
    shards: Sequence[Shard],
    target: Path,
    progress: Callable[[int, int | None], None] | None = None,
) -> None:
    """Bring the shards that are not in `target` there; processes of one machine wait for each other.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
    folder : str
        The dataset's, in `filesystem`.
    shards : sequence of Shard
    target : Path
        A shard appears in it when it is complete and its sha256 is that of the manifest.
    progress : callable, optional
        Called with (rows brought, rows of all shards that are brought).

    Raises
    ------
    DataError
        If a shard is missing, cannot be read, is not as made, or cannot be kept.
    """
    if all(_is_there(target, shard) for shard in shards):
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        held = FileLock(target / "fetch.lock").acquire()
    except OSError as error:
        raise _cannot_keep(target, error) from error
    with held:
        missing = [shard for shard in shards if not _is_there(target, shard)]
        rows, done = sum(shard.rows for shard in missing), 0
        with ThreadPoolExecutor(_STREAMS) as threads:
            fetched = {threads.submit(_fetch, filesystem, folder, shard, target): shard for shard in missing}
            try:
                for future in as_completed(fetched):
                    future.result()
                    done += fetched[future].rows
                    if progress is not None:
                        progress(done, rows)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise


def _is_there(target: Path, shard: Shard) -> bool:
    try:
        return (target / shard.file).stat().st_size == shard.bytes
    except OSError:
        return False


def _fetch(filesystem: pa.fs.FileSystem, folder: str, shard: Shard, target: Path) -> None:
    place, path = f"{folder}/{shard.file}", target / shard.file
    part, digest = path.with_name(f"{path.name}.part"), hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for block in _blocks(filesystem, place, shard):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != shard.sha256:
            raise DataError(f"{place}: shard damaged (wrong sha256); run `jetsweep data verify`")
        part.replace(path)
    except OSError as error:
        raise _cannot_keep(target, error) from error
    finally:
        part.unlink(missing_ok=True)


def _blocks(filesystem: pa.fs.FileSystem, place: str, shard: Shard) -> Iterator[bytes]:
    try:
        with filesystem.open_input_stream(place) as stream:
            while block := stream.read(_BLOCK_BYTES):
                yield block
    except FileNotFoundError as error:
        raise DataError(f"{place}: shard missing; the manifest lists it with {shard.rows} rows") from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read: {str(error).splitlines()[0]}") from error


def _cannot_keep(target: Path, error: OSError) -> DataError:
    return DataError(
        f"{target}: shards cannot be kept here: {error.strerror or error}; JETSWEEP_CACHE names another folder"
    )
