"""Trackers: where training curves are logged while a training runs, such as TensorBoard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from mores.core.config import Config
from mores.core.errors import ParameterError, printable

# Logs the numbers of a step by name. Steps count episodes, or rounds; names may contain "/".
Log = Callable[[int, Mapping[str, float]], None]


MAX_NAME_LENGTH = 200


def _part_problem(part: str) -> bool:
    return not part or part.startswith(".") or not part.isprintable()


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

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        """Refuse a name that is a path to somewhere else, or the name of no file."""
        parts = name.split("/")
        if name and (len(name) > MAX_NAME_LENGTH or any(map(_part_problem, parts))):
            message = f"{printable(name, 60)!r}: a name has at most {MAX_NAME_LENGTH} printable "
            message += "characters, and its parts between / are not empty and do not begin with ."
            raise ParameterError("name", message=message)
        return name

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
