"""Where an experiment's jets come from, and how many of their constituents are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from filelock import FileLock
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from jetsweep.data.reweight import ReweightConfig
from jetsweep.errors import DataError

if TYPE_CHECKING:
    from jetsweep.data.dataset import Dataset


class SourceOptions(BaseModel):
    """Base of every source's options; `name` selects the source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    jets: PositiveInt | None = Field(None, description="Number of jets in all; everything there is if not given.")
    seed: NonNegativeInt = Field(1, description="Seed of generation, splitting and shuffling.")


def _source_options(value: Any) -> Any:
    from jetsweep.data.sources._base import SOURCES

    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return SOURCES.get(value["name"]).options.model_validate(value)
    return value


AnySource = Annotated[SerializeAsAny[SourceOptions], BeforeValidator(_source_options)]


class DatasetConfig(BaseModel):
    """Where a dataset comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: AnySource | None = Field(
        None, description="Source that the dataset is made from, unless it is there already."
    )
    path: str | None = Field(None, description="Folder of a dataset made before.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.path is None):
            found = "both" if self.source else "neither"
            raise ValueError(f"expected either `source` or `path`, found {found}")
        return self


class DataConfig(DatasetConfig):
    """Section `data` of an experiment."""

    max_constituents: PositiveInt = Field(128, description="Leading constituents of each jet that the network sees.")
    train_fraction: float = Field(1.0, gt=0.0, le=1.0, description="Leading share of the training split that is used.")
    reweight: ReweightConfig | None = Field(
        None, description="Make the training jets flat in jet scalars, or like those of a reference class."
    )
    outliers: DatasetConfig | None = Field(
        None, description="A second dataset, of whose split `train` tasks take outliers to train on."
    )

    def without_outliers(self) -> DataConfig:
        """What a trained model is applied to."""
        return self.model_copy(update={"outliers": None})


def prepare(config: DataConfig, root: Path, progress: Callable[[int, int | None], None] | None = None) -> Dataset:
    """Open the dataset of an experiment; make it below `root` unless it is there.

    Parameters
    ----------
    config : DataConfig
    root : Path
        Folder of made datasets; the name of each is its source and a digest of the options.
    progress : callable, optional
        Called with (jets done, jets in all or None).

    Raises
    ------
    DataError
        If the dataset cannot be opened or made.
    """
    dataset = _prepared(config, root, progress)
    if config.outliers is not None:
        dataset.outliers = _prepared(config.outliers, root, progress)
    return dataset


def _prepared(config: DatasetConfig, root: Path, progress: Callable[[int, int | None], None] | None) -> Dataset:
    from jetsweep.data.dataset import open_dataset
    from jetsweep.data.make import make_dataset

    if config.source is None:
        assert config.path is not None
        dataset = open_dataset(config.path)
        if progress is not None:  # a trial fetches only the splits that it reads
            dataset.fetch(dataset.splits, progress)
        return dataset
    folder = made_folder(config.source, root)
    if not folder.exists():
        with _alone(folder):
            if not folder.exists():
                make_dataset(config.source, folder, progress)
    return open_dataset(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process make a dataset, the others wait here and then find it; after a failure nothing is left."""
    lock = folder.with_suffix(".lock")
    is_made = not folder.parent.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    with held:
        try:
            yield
        except BaseException:
            lock.unlink(missing_ok=True)  # whoever waits for it sees that it is gone, and makes another
            if is_made:
                with suppress(OSError):  # somebody else has begun there
                    folder.parent.rmdir()
            raise


def made_folder(source: SourceOptions, root: Path) -> Path:
    """Where the dataset of `source` lives below `root`."""
    options = json.dumps(source.model_dump(mode="json"), sort_keys=True)
    return Path(root) / f"{source.name}-{hashlib.sha256(options.encode()).hexdigest()[:12]}"
