"""The console of standard output, and counts in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mores.cli.standard_streams import is_size

if TYPE_CHECKING:
    from rich.console import Console

MIN_WIDTH = 60
UNLIMITED_WIDTH = 1_000_000  # of a pipe or file: no line is broken


def pluralize(number: int, noun: str) -> str:
    """A count with its noun: `1 arm`, `2 arms`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def has_room_for_table(width: int, min_width: int) -> bool:
    """Whether a console has at least `min_width` columns and a finite width.

    Tables are padded to the width. Units: columns.
    """
    return min_width <= width < UNLIMITED_WIDTH


def stdout_console(silent: bool = False) -> Console:
    """Console on standard output: as wide as the terminal, but at least 60 columns.

    Lines of a pipe or file are not broken, unless the variable COLUMNS gives a width.

    Args:
        silent: print nothing.
    """
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # `main` handles it; rich would exit

    console = PipeConsole(quiet=silent)
    if not console.is_terminal and not is_size(os.environ.get("COLUMNS", "")):
        return PipeConsole(width=UNLIMITED_WIDTH, quiet=silent)
    return PipeConsole(width=max(MIN_WIDTH, console.width), quiet=silent)
