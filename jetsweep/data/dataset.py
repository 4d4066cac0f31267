"""Open a dataset folder: splits, schema, loaders, and conversion to the formats people analyse."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
from pydantic import ValidationError

from jetsweep.data._shards import SplitReader
from jetsweep.data.derived import DerivedColumns, derivable, derived_group
from jetsweep.data.loader import Loader
from jetsweep.data.manifest import FILE_NAME, SCHEMA_VERSION, Manifest, Shard
from jetsweep.data.mirror import fetch_shards, mirror_folder, open_filesystem
from jetsweep.data.verify import check_columns
from jetsweep.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from jetsweep.data.reweight import ReweightConfig, Reweighting
    from jetsweep.data.selection import SelectedRows, Selection


def open_dataset(path: str | Path) -> Dataset:
    """Open the dataset at `path`: a local folder or any URI that pyarrow's filesystems know (s3://, gs://, hdfs://).

    Raises
    ------
    DataError
        If there is no dataset, or its manifest cannot be understood.
    """
    return Dataset(path)


class Dataset:
    """A dataset folder, read through its manifest.

    Parameters
    ----------
    path : str or Path
        Folder or URI.

    Attributes
    ----------
    outliers : Dataset or None
        A second dataset of the same experiment, `data.outliers`.
    local_folder : Path
        Where the shards are mapped from, and what is derived from them is kept: the folder itself, or a mirror of it.
    """

    outliers: Dataset | None = None

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        if "://" in self.path:
            self.filesystem, self.folder = open_filesystem(self.path)
        else:
            self.filesystem, self.folder = pa.fs.LocalFileSystem(), str(Path(path).resolve())
        self.manifest = self._read_manifest()
        self.classes = tuple(self.manifest.classes)
        self.digest = self.manifest.digest
        is_local = isinstance(self.filesystem, pa.fs.LocalFileSystem)
        self.local_folder = Path(self.folder) if is_local else mirror_folder(self.digest)
        self._readers: dict[str, SplitReader] = {}

    def _read_manifest(self) -> Manifest:
        file = f"{self.folder}/{FILE_NAME}"
        try:
            with self.filesystem.open_input_stream(file) as stream:
                text = stream.read()
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: expected a dataset folder with {FILE_NAME}, found none") from error
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error}") from error
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(f"{file}: {where}: {first['msg']}; it is not a manifest of jetsweep") from error
        if manifest.schema_version != SCHEMA_VERSION:
            raise DataError(f"{file}: expected schema version {SCHEMA_VERSION}, found {manifest.schema_version}")
        if not manifest.splits:
            raise DataError(f"{file}: expected at least one split, found none")
        return manifest

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.manifest.splits)

    def _check_split(self, split: str) -> None:
        if split not in self.manifest.splits:
            close = difflib.get_close_matches(split, self.splits, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise DataError(f"{self.path}: expected one of the splits {list(self.splits)}, found {split!r}{hint}")

    def _check_filled(self, split: str) -> None:
        if self.num_rows(split) == 0:
            raise DataError(f"{self.path}: the split {split!r} is empty")

    def num_rows(self, split: str) -> int:
        """Number of jets of a split."""
        self._check_split(split)
        return self.manifest.rows(split)

    def shards(self, split: str) -> list[Shard]:
        """Files of a split."""
        self._check_split(split)
        return self.manifest.splits[split]

    def class_counts(self, split: str) -> dict[str, int]:
        """Number of jets of each class in a split."""
        total = np.zeros(len(self.classes), np.int64)
        for block in self.reader(split).blocks if self.classes else ():
            total += np.bincount(block.scalar("label"), minlength=len(self.classes))
        return dict(zip(self.classes, map(int, total)))

    def fetch(self, splits: Iterable[str], progress: Callable[[int, int | None], None] | None = None) -> None:
        """Bring shards of an object store to this machine, unless they are there; `reader` does it for its split.

        Parameters
        ----------
        splits : iterable of str
        progress : callable, optional
            Called with (jets brought, jets that are brought in all).

        Raises
        ------
        DataError
            See `jetsweep.data.mirror.fetch_shards`.
        """
        if not isinstance(self.filesystem, pa.fs.LocalFileSystem):
            shards = [shard for split in splits for shard in self.shards(split)]
            fetch_shards(self.filesystem, self.folder, shards, self.local_folder, progress)

    def reader(self, split: str) -> SplitReader:
        """Record batches of a split; opened once."""
        self._check_split(split)
        if split not in self._readers:
            self.fetch([split])
            self._readers[split] = SplitReader(
                self.local_folder,
                self.manifest.splits[split],
                lambda path, batch: check_columns(path, batch, self.manifest),
            )
        return self._readers[split]

    def has_column(self, name: str, group: str | None = None) -> bool:
        """Whether a scalar, or a child of a group, is stored."""
        if group is None:
            return name in self.manifest.scalars or (name in ("label", "weight") and self._has_weight(name))
        return group in self.manifest.groups and name in self.manifest.groups[group].columns

    def _has_weight(self, name: str) -> bool:
        return name == "label" or name in self.manifest.scalars

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        constituents: tuple[str, ...] = ("px", "py", "pz", "energy"),
        scalars: tuple[str, ...] = (),
        groups: Mapping[str, tuple[str, ...]] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        max_constituents: int | None = None,
        fraction: float = 1.0,
        drop_last: bool = False,
        prefetch: int = 8,
        pin_memory: bool = False,
        reweighting: Reweighting | None = None,
        selection: Selection | None = None,
    ) -> Loader:
        """Batches of a split; see `Loader`.

        Parameters
        ----------
        constituents : tuple of str
            Children of the group `constituents`; empty for none.
        scalars : tuple of str
            Stored scalars, and high-level variables, which are derived from the constituents where they are not stored.
        groups : mapping, optional
            Further list columns and their children; also ``"lund"`` (no children named), the declusterings of the
            leading `max_constituents` constituents of each jet, see `jetsweep.physics.lund.lund_nodes`; with cuts by
            the name that `jetsweep.data.derived.lund_group_name` gives.
        fraction : float, in (0, 1]
            Leading share of the split.
        reweighting : Reweighting, optional
            Of the same split, share and selection, see `reweighting`.
        selection : Selection, optional
            Classes whose jets are read; all jets without it.

        Raises
        ------
        DataError
            If a column or a class does not exist, or there are no jets, or too few for a contamination.
        """
        self._check_filled(split)
        if reweighting is not None and reweighting.selection != selection:
            raise DataError(f"{self.path}: the reweighting is of {reweighting.selection}, the loader of {selection}")
        wanted = {**({"constituents": constituents} if constituents else {}), **(groups or {})}
        self.require_columns(constituents, scalars, groups)
        derived_groups = tuple(name for name in groups or {} if self._is_derived_group(name))
        wanted = {name: columns for name, columns in wanted.items() if name not in derived_groups}
        derived = tuple(name for name in scalars if name not in self.manifest.scalars and derivable(name))
        stored = tuple(name for name in scalars if name not in derived)
        return Loader(
            self.reader(split),
            batch_size,
            groups=wanted,
            scalars=stored,
            extra=DerivedColumns(self, split, derived).read if derived else None,
            derived_groups=derived_groups,
            weights="weight" in self.manifest.scalars,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
            max_constituents=max_constituents,
            num_rows=self._leading(split, fraction),
            drop_last=drop_last,
            prefetch=prefetch,
            pin_memory=pin_memory,
            reweighting=reweighting,
            selected=self.selected(selection, split, fraction=fraction),
        )

    def reweighting(
        self,
        config: ReweightConfig,
        split: str = "train",
        *,
        fraction: float = 1.0,
        use_weights: bool = True,
        selection: Selection | None = None,
    ) -> Reweighting:
        """What `config` makes of (the selected jets of) a split's leading share; see `jetsweep.data.reweight`."""
        from jetsweep.data.reweight import Reweighting

        self._check_filled(split)
        return Reweighting(self, config, split, self._leading(split, fraction), use_weights, selection)

    def selected(self, selection: Selection | None, split: str, *, fraction: float = 1.0) -> SelectedRows | None:
        """The rows that `selection` takes of the leading share of a split; None where it is None."""
        from jetsweep.data.selection import SelectedRows

        self._check_filled(split)
        return None if selection is None else SelectedRows(self, selection, split, self._leading(split, fraction))

    def _leading(self, split: str, fraction: float) -> int:
        return max(1, round(fraction * self.num_rows(split)))

    def require_columns(
        self,
        constituents: tuple[str, ...],
        scalars: tuple[str, ...] = (),
        groups: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Refuse columns that `loader` could not give.

        Raises
        ------
        DataError
            Naming the first that is neither stored nor derived from the constituents.
        """
        for group, columns in {"constituents": constituents, **(groups or {})}.items():
            for name in ("px", "py", "pz", "energy") if self._is_derived_group(group) else columns:
                self._require(name, "constituents" if self._is_derived_group(group) else group)
        for name in scalars:
            if name in self.manifest.scalars or not self._can_derive(name):
                self._require(name, None)

    def _can_derive(self, name: str) -> bool:
        return derivable(name) and "constituents" in self.manifest.groups

    def _is_derived_group(self, name: str) -> bool:
        return name not in self.manifest.groups and derived_group(name) is not None

    def _require(self, name: str, group: str | None) -> None:
        if not self.has_column(name, group):
            place = f"group {group!r}" if group else "scalars"
            if group is not None and group not in self.manifest.groups:
                raise DataError(
                    f"{self.path}: expected column {name!r} among the {place}, found rows without {group}; they have "
                    f"the scalars {', '.join(self.manifest.scalars)}"
                )
            there = self.manifest.groups[group].columns if group else self.manifest.scalars
            raise DataError(f"{self.path}: expected column {name!r} among the {place}, found {', '.join(there)}")

    def ensure_derived(self, split: str, scalars: tuple[str, ...]) -> None:
        """Compute derived columns now, so that trials only read them."""
        derived = tuple(name for name in scalars if name not in self.manifest.scalars and derivable(name))
        if derived:
            DerivedColumns(self, split, derived)

    def to_arrow(self, split: str, limit: int | None = None) -> pa.Table:
        """Rows of a split as an Arrow table (memory-mapped, no copy)."""
        table = pa.Table.from_batches([block.batch for block in self.reader(split).blocks])
        return table if limit is None else table.slice(0, limit)

    def to_pandas(self, split: str, limit: int | None = None) -> pd.DataFrame:
        """Scalar columns and labels of a split as a data frame; constituents stay in Arrow or awkward."""
        table = self.to_arrow(split, limit)
        return table.select([name for name in table.column_names if name not in self.manifest.groups]).to_pandas()

    def to_awkward(self, split: str, limit: int | None = None) -> Any:
        """Rows of a split as records of awkward arrays."""
        import awkward

        return awkward.from_arrow(self.to_arrow(split, limit))


def label_counts(dataset: Dataset, split: str) -> dict[str, int]:
    """Jets of every class in a split."""
    counts = np.zeros(len(dataset.classes), dtype=np.int64)
    for block in dataset.reader(split).blocks:
        counts += np.bincount(block.scalar("label"), minlength=len(counts))
    return dict(zip(dataset.classes, counts.tolist()))
