"""Trackers: where training curves are logged while a training runs, such as TensorBoard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mores.core.config import Config

# Logs the numbers of a step by name. Steps count episodes, or rounds; names may contain "/".
Log = Callable[[int, Mapping[str, float]], None]


class Tracker(Config, ABC):
    """Writes the numbers of a training, or of a cell of a run, as one log.

    Attributes:
        modules: modules that must be installed.
    """

    modules: ClassVar[tuple[str, ...]] = ()

    folder: str = Field(
        default="", description="folder of the log; default: logs, in a run logs in its folder"
    )
    name: str = Field(
        default="", description="name of the log; default: the environment and the time"
    )

    @abstractmethod
    def open(
        self, name: str, folder: Path, parameters: Mapping[str, object]
    ) -> AbstractContextManager[Log]:
        """A log that is open within a `with` block.

        A run that is resumed opens the log of an unfinished cell again and logs its last steps once
        more, with equal numbers.

        Args:
            name: of the log; of a cell of a run the name of the cell, with `/`.
            folder: of logs; it need not exist.
            parameters: seed, replicates, rounds ..., for services that show them.
        """
