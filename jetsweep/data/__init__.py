"""What a dataset is on disk, and how it becomes ragged batches."""

from jetsweep.data.batch import Batch, Ragged
from jetsweep.data.config import DataConfig, SourceOptions, prepare
from jetsweep.data.dataset import Dataset, open_dataset
from jetsweep.data.loader import Loader
from jetsweep.data.make import make_dataset
from jetsweep.data.pairing import PairedLoader, PairingConfig
from jetsweep.data.selection import Selection

__all__ = [
    "Batch",
    "DataConfig",
    "Dataset",
    "Loader",
    "PairedLoader",
    "PairingConfig",
    "Ragged",
    "Selection",
    "SourceOptions",
    "make_dataset",
    "open_dataset",
    "prepare",
]
