"""Write a dataset folder: shuffled Arrow shards with checksums, complete or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from jetsweep.data.manifest import FILE_NAME, Group, Manifest, Shard
from jetsweep.data.mirror import require_local
from jetsweep.errors import DataError

ROWS_PER_RECORD_BATCH = 4096
"""A record batch is the unit of shuffled reading: large enough for sequential disk access."""


class DatasetWriter:
    """Fills `out`, which appears under its name only when it is complete.

    Parameters
    ----------
    out : Path
        Folder to make; it must not exist.
    source, options, classes, provenance
        See `Manifest`.
    groups : mapping
        List columns: name → {child: unit}.
    scalars : mapping
        Scalar columns: name → unit.
    seed : int
        Seed of the shuffling.
    shard_rows : int
        Rows of a shard, and of the window that is shuffled: no more rows than this per split are held in memory.
    shuffle : bool
        Shuffle rows inside every shard.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        source: str,
        options: Mapping[str, Any],
        classes: Sequence[str],
        groups: Mapping[str, Mapping[str, str]],
        scalars: Mapping[str, str],
        provenance: Mapping[str, Any],
        seed: int = 1,
        shard_rows: int = 50_000,
        shuffle: bool = True,
    ) -> None:
        self.out = Path(out)
        self.manifest = Manifest(
            source=source,
            options=dict(options),
            classes=list(classes),
            splits={},
            groups={name: Group(columns=dict(columns)) for name, columns in groups.items()},
            scalars=dict(scalars),
            provenance=dict(provenance),
        )
        self.seed, self.shard_rows, self.shuffle = seed, shard_rows, shuffle
        self._pending: dict[str, list[pa.Table]] = {}
        self._folder: Path | None = None
        self._num_rows = 0

    def __enter__(self) -> DatasetWriter:
        require_local(self.out, "dataset")
        if self.out.exists():
            raise DataError(
                f"{self.out}: expected a folder to make, found one that exists; remove it or choose another"
            )
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self.out.name}-", dir=self.out.parent))
        except OSError as error:
            raise DataError(f"{self.out}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as fault:
            raise DataError(f"{self.out}: cannot be written: {fault.strerror}; nothing was kept") from fault
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None and error.strerror:
            raise DataError(f"{self.out}: cannot be written: {error.strerror}; nothing was kept") from error

    @property
    def folder(self) -> Path:
        """Temporary folder beside `out`."""
        assert self._folder is not None, "use `with DatasetWriter(...)`"
        return self._folder

    @property
    def num_rows(self) -> int:
        """Rows taken so far."""
        return self._num_rows

    def drop(self, reason: str, count: int) -> None:
        """Count rows that the source left out."""
        self.manifest.dropped[reason] = self.manifest.dropped.get(reason, 0) + int(count)

    def write(self, split: str, table: pa.Table) -> None:
        """Append rows to a split; a shard is written whenever it is full."""
        parts = self._pending.setdefault(split, [])
        parts.append(table)
        self._num_rows += table.num_rows
        if sum(part.num_rows for part in parts) >= self.shard_rows:
            whole = pa.concat_tables(parts)
            while whole.num_rows >= self.shard_rows:
                self._write_shard(split, whole.slice(0, self.shard_rows))
                whole = whole.slice(self.shard_rows)
            self._pending[split] = [whole] if whole.num_rows else []

    def _write_shard(self, split: str, table: pa.Table) -> None:
        shards = self.manifest.splits.setdefault(split, [])
        if self.shuffle:
            order = np.random.default_rng([self.seed, len(split), len(shards)]).permutation(table.num_rows)
            table = table.take(pa.array(order))
        table = table.combine_chunks().unify_dictionaries()
        name = f"{split}/{len(shards):05d}.arrow"
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        with path.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as sink:
                sink.write_table(table, max_chunksize=ROWS_PER_RECORD_BATCH)
            file.flush()
            os.fsync(file.fileno())
        shards.append(Shard(file=name, rows=table.num_rows, bytes=path.stat().st_size, sha256=sha256_of(path)))

    def _finish(self) -> None:
        for split, parts in self._pending.items():
            if parts:
                self._write_shard(split, pa.concat_tables(parts))
        if not self.manifest.splits:
            left_out = f" ({self.manifest.dropped} left out)" if self.manifest.dropped else ""
            raise DataError(f"{self.out}: expected jets, the source {self.manifest.source!r} gave none{left_out}")
        with (self.folder / FILE_NAME).open("w") as file:
            file.write(self.manifest.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        self.folder.chmod(0o755)
        self.folder.rename(self.out)


def sha256_of(path: Path) -> str:
    """Checksum of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
