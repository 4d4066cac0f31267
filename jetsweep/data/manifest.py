"""The manifest `dataset.json`: what a dataset folder holds, where it came from, and the checksums that prove it."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

FILE_NAME = "dataset.json"
SCHEMA_VERSION = 1


class Shard(BaseModel):
    """One Arrow IPC file."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(description="Path below the dataset folder.")
    rows: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        # a shard of an object store is written under this name
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"expected a path below the dataset folder, found {value!r}")
        return value


class Group(BaseModel):
    """A list column: its children and their units ("" where there is none)."""

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, str]


class Manifest(BaseModel):
    """Content of ``dataset.json``."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    source: str
    options: dict[str, Any]
    classes: list[str] = Field(description="Class names; a label is an index into them.")
    splits: dict[str, list[Shard]]
    groups: dict[str, Group]
    scalars: dict[str, str] = Field(description="Scalar columns and their units.")
    dropped: dict[str, int] = Field({}, description="Rows left out at conversion, by reason.")
    provenance: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """sha256 of the manifest, which holds the sha256 of every shard."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def rows(self, split: str) -> int:
        """Number of rows of a split."""
        return sum(shard.rows for shard in self.splits[split])
