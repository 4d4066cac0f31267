"""The sweep's ``system.jsonl``: load of the driver's machine, kept beside the trials until a store has it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

SYSTEM = "system.jsonl"

_TAIL_BYTES = 65536


class Sample(TypedDict):
    """One line: number of the sample, milliseconds since 1970, metrics by name."""

    step: int
    time: int
    metrics: dict[str, float]


class SystemJournal:
    """Appends samples; numbers go on where an earlier driver stopped.

    Parameters
    ----------
    sweep_dir : Path
    """

    def __init__(self, sweep_dir: Path) -> None:
        self.path = sweep_dir / SYSTEM
        last = _last_sample(self.path)
        self._step = 0 if last is None else last["step"] + 1

    def append(self, metrics: Mapping[str, float]) -> None:
        """Write one sample; a full disk costs the sample, it is worth no trial."""
        sample: Sample = {"step": self._step, "time": int(time.time() * 1000), "metrics": dict(metrics)}
        with contextlib.suppress(OSError), self.path.open("ab+") as file:
            if file.tell() and _last_byte(self.path) != b"\n":  # a kill cut the line before
                file.write(b"\n")
            file.write(json.dumps(sample).encode() + b"\n")
            self._step += 1


def read_samples(sweep_dir: Path, start: int = 0) -> tuple[list[Sample], int]:
    """Samples from the byte `start` on, and the byte after the last whole line; lines cut by a kill are left out."""
    path = sweep_dir / SYSTEM
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    return _parse(whole), start + len(whole)


def _parse(lines: bytes) -> list[Sample]:
    samples: list[Sample] = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):
            sample = json.loads(line)
            if isinstance(sample, dict) and sample.keys() == Sample.__required_keys__:
                samples.append(sample)  # type: ignore[arg-type]
    return samples


def _last_sample(path: Path) -> Sample | None:
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        samples = _parse(file.read())
    return samples[-1] if samples else None


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
