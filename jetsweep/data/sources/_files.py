"""What the sources that read published files share: finding them, reading in slices, one sentence on failure."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from jetsweep.data.config import SourceOptions
from jetsweep.data.sources._base import Progress, Source
from jetsweep.data.sources._jets import SPLITS, Jets, hash_split
from jetsweep.errors import DataError, JetsweepError

if TYPE_CHECKING:
    from jetsweep.data.writer import DatasetWriter


class FileOptions(SourceOptions):
    """Options of every source that reads files."""

    jets: PositiveInt | None = Field(
        None, description="Read so many jets in all, the leading rows of every file in proportion; default: all."
    )
    path: str | None = Field(None, description="Folder that holds the files under their published names.")
    files: dict[str, list[str]] | None = Field(
        None, description="Files of each split, e.g. {train: [a.h5], test: [b.h5]}; instead of `path`."
    )

    @model_validator(mode="after")
    def _one_place(self) -> FileOptions:
        if self.path is not None and self.files is not None:
            raise ValueError("give `path` or `files`, not both")
        return self


@dataclass(frozen=True)
class Published:
    """One published file: its name, its split, and where and with what md5 it is downloaded."""

    name: str
    split: str
    url: str
    md5: str | None


@dataclass(frozen=True)
class Input:
    """A file on this machine that is read into one split, or (an empty name) divided among them."""

    path: Path
    split: str


class FileSource(Source):
    """Reads files slice by slice; subclasses know one layout."""

    config: FileOptions
    slice_rows: ClassVar[int] = 5_000
    plausible_pt: ClassVar[tuple[float, float] | None] = None
    stored: Callable[[int], Iterator[Jets]] | None = None
    """Where the slices of a `planned` file are, by its place among them, if somebody has read the files already."""

    @property
    def must_download(self) -> bool:
        """Whether files have to be fetched first: none are given, and not all are here from an earlier time."""
        if self.config.path is not None or self.config.files is not None:
            return False
        from jetsweep.data.download import download_folder

        folder = download_folder() / self.config.name
        return not all((folder / file.name).is_file() for file in self.published())

    @property
    def unit_question(self) -> str:
        """What to ask where the jets' pT is not plausible."""
        return "is the unit GeV?"

    @abstractmethod
    def published(self) -> list[Published]:
        """Files that make up the dataset, with these options."""

    @abstractmethod
    def count(self, path: Path) -> int:
        """Number of jets in a file, after a look at its layout."""

    @abstractmethod
    def read(self, path: Path, rows: int) -> Iterator[Jets]:
        """The first `rows` jets of a file in slices of at most `slice_rows`; no padding, order as stored."""

    def inputs(self) -> list[Input]:
        """Files to read: as given, in the folder given, or downloaded."""
        if self.config.files is not None:
            found = [Input(Path(name), split) for split, names in self.config.files.items() for name in names]
        elif self.config.path is not None:
            folder = Path(self.config.path)
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder, expected the files {self._names()} in it")
            here = [f for f in self.published() if (folder / f.name).is_file()]
            if not here:
                raise DataError(f"{folder} holds none of the files of {self.config.name}: expected {self._names()}")
            found = [Input(folder / f.name, f.split) for f in here]
        else:
            from jetsweep.data.download import download, download_folder

            folder = download_folder() / self.config.name
            found = [Input(download(f.url, folder / f.name, md5=f.md5), f.split) for f in self.published()]
        for item in found:
            if not item.path.is_file():
                raise DataError(f"{item.path}: no such file (split {item.split} of source {self.config.name})")
        return found

    @cached_property
    def contents(self) -> list[tuple[Input, int]]:
        """The files with their numbers of jets."""
        return [(item, self.count(item.path)) for item in self.inputs()]

    def _names(self) -> str:
        names = [f.name for f in self.published()]
        return ", ".join(names) if len(names) <= 4 else f"{names[0]} … {names[-1]}"

    def provenance(self) -> dict[str, Any]:
        files = [
            {"file": i.path.name, "split": i.split, "bytes": i.path.stat().st_size, "sha256": sha256_of(i.path)}
            for i, _ in self.contents
        ]
        return {"files": files, "jet_scalars": "of the sum of the constituents"}

    @cached_property
    def planned(self) -> list[tuple[Input, int]]:
        """The files, with the number of jets that are read from the beginning of each; -1: all that it holds."""
        inputs, counts = zip(*self.contents)
        if sum(counts) == 0:
            raise DataError(f"{', '.join(str(i.path) for i in inputs)}: no jets in the file(s)")
        return list(zip(inputs, self.limits(counts)))

    def jets(self) -> Iterator[tuple[str, Jets]]:
        for split in dict.fromkeys(item.split for item, _ in self.planned):
            # one slice of every file in turn, because a file may hold one class only
            streams = [self.stream(place) for place, (item, _) in enumerate(self.planned) if item.split == split]
            while streams:
                for stream in list(streams):
                    chunk = next(stream, None)
                    if chunk is None:
                        streams.remove(stream)
                    elif split:
                        yield split, chunk
                    else:
                        yield from self.divided(chunk)

    def limits(self, counts: Sequence[int]) -> list[int]:
        """Jets to read from each file; rounding is made up for by the cumulative sum."""
        wanted = self.total
        assert wanted is not None
        edges = [round(wanted * part / sum(counts)) for part in np.cumsum([0, *counts])]
        return [int(rows) for rows in np.diff(edges)]

    @property
    def shares(self) -> Mapping[str, float]:
        """Shares of the splits, for files that belong to none (``Input.split`` is empty)."""
        return SPLITS

    def divided(self, chunk: Jets) -> Iterator[tuple[str, Jets]]:
        """Parts of `chunk` by a hash of file and row, or of file and `event_number`: an event is never torn apart."""
        dropped = chunk.dropped
        for name, part in hash_split(chunk, self.config.seed, self.shares, chunk.scalars.get("event_number")):
            yield name, replace(part, dropped=dropped)
            dropped = {}  # counted once

    @property
    def total(self) -> int | None:
        rows = sum(count for _, count in self.contents)
        return rows if self.config.jets is None else min(self.config.jets, rows)

    def convert(self, writer: DatasetWriter, progress: Progress | None = None) -> None:
        super().convert(writer, progress)
        if writer.num_rows == 0:
            files = ", ".join(str(item.path) for item, _ in self.contents)
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in writer.manifest.dropped.items())
            raise DataError(
                f"{files}: expected jets, found none that can be used ({reasons or 'none inside the cuts'})"
            )

    def stream(self, place: int) -> Iterator[Jets]:
        """Slices of a `planned` file, read now or before."""
        return self.slices(*self.planned[place]) if self.stored is None else self.stored(place)

    def slices(self, item: Input, rows: int) -> Iterator[Jets]:
        """Finished jets of one file, `slice_rows` at a time; no other file has a say in them."""
        start = 0
        for jets in self.read(item.path, rows) if rows else ():
            jets.source_file, jets.source_row = item.path.name, start + jets.source_row
            start += len(jets) + sum(jets.dropped.values())
            yield self.finished(jets, item.path)

    def finished(self, jets: Jets, path: Path) -> Jets:
        """Checked, sorted jets with their scalars; the jets' pT must be plausible."""
        from jetsweep.data.sources._jets import jet_scalars

        jets = jets.checked().sorted_by_pt()
        jets.scalars = jet_scalars(jets) | jets.scalars
        self.check_unit(jets.scalars["jet_pt"], path)
        return jets

    def check_unit(self, pt_B: np.ndarray, path: Path) -> None:
        """Raise where the jets' median pT is not plausible in GeV."""
        if self.plausible_pt is not None and len(pt_B):
            low, high = self.plausible_pt
            median = float(np.median(pt_B))
            if not low < median < high:
                raise DataError(
                    f"{path}: the median jet pT is {median:.4g}, expected {low:g} to {high:g} GeV; {self.unit_question}"
                )


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged file into one sentence."""
    try:
        yield
    except (JetsweepError, MemoryError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        size = os.path.getsize(path) if path.exists() else 0
        raise DataError(
            f"{path} cannot be read as {kind}, it is truncated or damaged ({size} bytes; {reason})"
        ) from error


def check_energy(p4: np.ndarray, path: Path, where: str) -> None:
    """Raise unless the fourth column of `p4` (N, 4) is the energy: E >= |p| for nearly all finite ones."""
    finite = p4[np.isfinite(p4).all(axis=1) & (np.abs(p4).sum(axis=1) > 0)].astype(np.float64)
    if len(finite) == 0:
        return

    def holds(column: int) -> float:
        others = np.delete(finite, column, axis=1)
        return float((finite[:, column] >= np.sqrt((others**2).sum(axis=1)) * (1 - 1e-3)).mean())

    share = holds(3)
    if share < 0.9:
        names = ("px", "py", "pz", "energy")
        better = next((names[i] for i in range(3) if holds(i) > 0.99), None)
        hint = f"; the energy seems to stand where {better} is expected" if better else "; no order of columns fits"
        raise DataError(f"{path}: E >= |p| holds for {share:.0%} of the constituents only, expected {where}{hint}")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
