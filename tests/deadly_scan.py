"""A scan that takes down the process that reads it, a number of times."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.volume import Volume, read_volume


@dataclass(frozen=True)
class DeadlyScan:
    """The image `path`, read only after so many processes died of it.

    Attributes:
        deaths: a folder with one file for each.
    """

    path: Path
    deaths: Path
    count: int

    def __str__(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, max_bytes: int, allocate: Allocate = in_memory) -> Volume:
        self.deaths.mkdir(exist_ok=True)
        if len(list(self.deaths.iterdir())) < self.count:
            (self.deaths / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read_volume(self.path, max_bytes, allocate=allocate)
