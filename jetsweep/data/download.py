"""Published files: fetched once with pooch, continued where they broke off, accepted only with the right checksum."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jetsweep.errors import DataError

CHUNK_BYTES = 1 << 16
"""Small enough that little is lost when a connection breaks off."""


def download_folder() -> Path:
    """Where downloads are kept: ``$JETSWEEP_DATA/downloads``, by default below ``./jetsweep-data``."""
    return Path(os.environ.get("JETSWEEP_DATA", "jetsweep-data")) / "downloads"


def download(
    url: str, target: Path, *, md5: str | None, progress: Callable[[int, int | None], None] | None = None
) -> Path:
    """Make sure that `target` is the file behind `url`.

    Parameters
    ----------
    url : str
    target : Path
        A file already there is kept if its checksum is right.
    md5 : str or None
        Expected checksum; None asks Zenodo's record for it.
    progress : callable, optional
        Called with (bytes so far, bytes in all or None).

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DataError
        Without a network, saying which file to put where; or if the checksum is wrong.
    """
    import pooch
    import requests

    if md5 is None:
        md5 = _known_md5(url, target)
    if target.is_file():
        found = pooch.file_hash(str(target), alg="md5")
        if found != md5:
            raise DataError(f"{target}: md5 is {found}, expected {md5}; delete the file to download it again")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            url, f"md5:{md5}", fname=target.name, path=target.parent, downloader=_Resumable(target, progress)
        )
    except ValueError as error:
        raise DataError(
            f"{url}: the file downloaded has a wrong checksum, expected md5 {md5}; it was deleted"
        ) from error
    except requests.RequestException as error:
        raise DataError(_by_hand(url, target, error)) from error
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


class _Resumable:
    """A pooch downloader that keeps ``NAME.part`` and asks the server for the rest of it."""

    def __init__(self, target: Path, progress: Callable[[int, int | None], None] | None) -> None:
        self.part = target.with_name(target.name + ".part")
        self.progress = progress

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
            if answer.status_code == 416:
                # nothing is left to send: the part is complete
                self.part.replace(output_file)
                return
            answer.raise_for_status()
            if answer.status_code != 206:
                have = 0
            rest = answer.headers.get("Content-Length")
            total = have + int(rest) if rest is not None else None
            with self.part.open("ab" if have else "wb") as file:
                for block in answer.iter_content(CHUNK_BYTES):
                    have += file.write(block)
                    if self.progress is not None:
                        self.progress(have, total)
        if total is not None and have < total:
            raise requests.ConnectionError(f"the connection broke off after {have} of {total} bytes")
        self.part.replace(output_file)


def _known_md5(url: str, target: Path) -> str:
    """The checksum that Zenodo's record states; kept beside the file for times without a network."""
    import requests

    note = target.with_name(target.name + ".md5")
    if note.exists():
        return note.read_text().strip()
    record = re.search(r"zenodo\.org/records/(\d+)/", url)
    if record is None:
        raise DataError(f"{url} has no known checksum, so it is not downloaded")
    try:
        answer = requests.get(f"https://zenodo.org/api/records/{record[1]}", timeout=30)
        answer.raise_for_status()
        sums = {file["key"]: file["checksum"].removeprefix("md5:") for file in answer.json()["files"]}
    except (requests.RequestException, KeyError, json.JSONDecodeError) as error:
        raise DataError(_by_hand(url, target, error)) from error
    if target.name not in sums:
        raise DataError(f"Zenodo record {record[1]} has no file {target.name}; it has {', '.join(sorted(sums))}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(sums[target.name] + "\n")
    except OSError as error:
        raise DataError(f"{note} cannot be written: {error.strerror or error}") from error
    return str(sums[target.name])


def _by_hand(url: str, target: Path, error: Exception) -> str:
    return (
        f"{url} cannot be downloaded ({type(error).__name__}): fetch it on a machine with a network, "
        f"put {target.name} into a folder and name that folder with the option path"
    )
