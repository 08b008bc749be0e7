"""The console of the command line, and words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def pluralize(number: int, noun: str) -> str:
    """A count with its noun: `1 arm`, `2 arms`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def stdout_console() -> Console:
    """Console on standard output, at least 60 columns wide."""
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # `main` handles it; rich would exit

    console = PipeConsole()
    return console if console.width >= 60 else PipeConsole(width=60)
