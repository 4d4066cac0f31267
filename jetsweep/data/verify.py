"""Whether a dataset is as it was made: shards against their checksums, their columns against the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs

from jetsweep.errors import DataError

if TYPE_CHECKING:
    from jetsweep.data.dataset import Dataset
    from jetsweep.data.manifest import Manifest, Shard

_BLOCK_BYTES = 1 << 22


def check_shards(dataset: Dataset, splits: Iterable[str] | None = None, *, at_origin: bool = False) -> int:
    """Compare every shard's size and sha256 with the manifest.

    Parameters
    ----------
    dataset : Dataset
    splits : iterable of str, optional
        All of them by default.
    at_origin : bool
        Of a dataset in an object store, check what is stored there and not what was brought to this machine.

    Returns
    -------
    int
        Number of shards.

    Raises
    ------
    DataError
        Naming every shard that is not as made.
    """
    names = dataset.splits if splits is None else tuple(splits)
    shards = [shard for name in names for shard in dataset.shards(name)]
    filesystem, folder = dataset.filesystem, dataset.folder
    if not at_origin:
        dataset.fetch(names)
        filesystem, folder = pa.fs.LocalFileSystem(), str(dataset.local_folder)
    # hashing lets other threads run
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        faults = [fault for fault in threads.map(lambda shard: _fault(filesystem, folder, shard), shards) if fault]
    if faults:
        raise DataError(f"{dataset.path}: {len(faults)} of {len(shards)} shards are not as made: {'; '.join(faults)}")
    return len(shards)


def _fault(filesystem: pa.fs.FileSystem, folder: str, shard: Shard) -> str | None:
    digest, size = hashlib.sha256(), 0
    try:
        with filesystem.open_input_stream(f"{folder}/{shard.file}") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        return f"{shard.file} is missing"
    except OSError as error:
        return f"{shard.file} cannot be read ({error.strerror or error})"
    if size != shard.bytes:
        return f"{shard.file} has {size} bytes, expected {shard.bytes}"
    return None if digest.hexdigest() == shard.sha256 else f"{shard.file} has a wrong sha256"


def check_columns(path: str, batch: pa.RecordBatch, manifest: Manifest) -> None:
    """Refuse a shard that does not hold what the manifest says: its columns, and labels of its classes.

    Raises
    ------
    DataError
    """
    for group, content in manifest.groups.items():
        there = _children(batch.schema, group)
        _require([f"{group}.{name}" for name in content.columns], [f"{group}.{name}" for name in there], path)
    _require([*manifest.scalars, *(["label"] if manifest.classes else [])], batch.schema.names, path)
    if manifest.classes:
        labels = batch.column("label")
        found = labels.dictionary.to_pylist() if isinstance(labels, pa.DictionaryArray) else None
        if found != manifest.classes:
            raise DataError(
                f"{path}: expected labels of the classes {manifest.classes} as in the manifest, "
                f"found {'numbers' if found is None else found}"
            )


def _children(schema: pa.Schema, group: str) -> list[str]:
    index = schema.get_field_index(group)
    if index < 0 or not pa.types.is_list(schema.field(index).type):
        return []
    return [field.name for field in schema.field(index).type.value_type]


def _require(expected: list[str], found: list[str], path: str) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise DataError(
            f"{path}: expected the column {missing[0]!r} as in the manifest, found {', '.join(found) or 'none'}"
        )
