"""Endless streams of micro-batches whose position is the number of optimizer steps done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import islice

from jetsweep.data.batch import Batch
from jetsweep.errors import JetsweepError
from jetsweep.training.evaluate import Batches
from jetsweep.training.world import World


class Stream:
    """One data stream of a task.

    The micro-batches of one step are consecutive batches of a loader of `batch_size` / `accumulate` jets: together they
    hold the jets of one batch of `batch_size`.

    Parameters
    ----------
    loader : Batches
        Made with ``drop_last=True``; its batches have `micro_batch_size` jets over all ranks.
    micro_batch_size, accumulate : int
    """

    def __init__(self, loader: Batches, micro_batch_size: int, accumulate: int) -> None:
        self.loader = loader
        # a split smaller than one batch is one short step
        self.num_micro = min(accumulate, loader.num_steps)
        self.num_rows = min(micro_batch_size, loader.num_rows) * self.num_micro
        self.num_steps = loader.num_steps // self.num_micro

    def steps(self, start: int) -> Iterator[list[Batch]]:
        """Micro-batches of step `start`, of the next, and so on through all epochs of the loader."""
        epoch, step = divmod(start, self.num_steps)
        while True:
            with closing(self.loader.batches(epoch, step * self.num_micro)) as batches:  # type: ignore[type-var]
                for _ in range(step, self.num_steps):
                    yield list(islice(batches, self.num_micro))
            epoch, step = epoch + 1, 0


def open_streams(loaders: Mapping[str, Batches], batch_size: int, accumulate: int, world: World) -> dict[str, Stream]:
    """Streams of a task from one loader each.

    Raises
    ------
    JetsweepError
        If a stream has no jets, or too few for every worker to have one in each micro-batch.
    """
    streams = {}
    for name, loader in loaders.items():
        micro = batch_size // accumulate
        if name != "main":  # of a batch size of its own, by its ratio to the main stream
            micro = getattr(loader, "batch_size", micro)
        if min(micro, loader.num_rows) < world.size:
            raise JetsweepError(
                f"training stream {name!r}: expected at least {world.size} jets (one per worker) in each micro-batch, "
                f"found {min(micro, loader.num_rows)} (the split has {loader.num_rows} jets, batch_size={batch_size}, "
                f"accumulate={accumulate})"
            )
        streams[name] = Stream(loader, micro, accumulate)
    return streams


def joint_steps(streams: Mapping[str, Stream], start: int) -> Iterator[list[dict[str, Batch]]]:
    """For each step from `start` on: a list of micro-batches, each with one batch of every stream."""
    with ExitStack() as stack:
        iterators = {name: stack.enter_context(closing(stream.steps(start))) for name, stream in streams.items()}  # type: ignore[type-var]
        num_micro = streams["main"].num_micro
        while True:
            drawn = {name: next(iterator) for name, iterator in iterators.items()}
            # a stream smaller than the main one repeats its micro-batches
            yield [{name: micro[i % len(micro)] for name, micro in drawn.items()} for i in range(num_micro)]
