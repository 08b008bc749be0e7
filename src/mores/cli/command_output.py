"""What a command prints, and where: `--quiet`, `--verbose`, `--json`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mores.cli.console import stdout_console
from mores.core.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


@runtime_checkable
class Stream(Protocol):
    """Where text is written."""

    def write(self, text: str, /) -> Any:
        """Write text."""
        ...

    def flush(self) -> Any:
        """Pass on what was written."""
        ...


class CommandOutput:
    """The standard output of a command.

    Args:
        stream: standard output, where JSON is written.
        quiet: whether to print only errors.
        json: whether to print JSON in place of tables and lines.

    Attributes:
        console: prints tables and lines; prints nothing if `quiet` or `json`.
    """

    def __init__(self, stream: Stream, quiet: bool, json: bool) -> None:
        self._stream, self.json = stream, json
        self.console: Console = stdout_console(silent=quiet or json)

    def print(self, text: str) -> None:
        """Print a line as it is: no markup, no line breaks."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def print_json(self, content: BaseModel) -> None:
        """Print JSON; numbers that are not finite are null."""
        self._stream.write(content.model_dump_json(indent=2, by_alias=True) + "\n")
        self._stream.flush()


@contextlib.contextmanager
def command_output(
    quiet: bool = False, verbose: bool = False, json: bool = False
) -> Iterator[CommandOutput]:
    """The output of a command, with the options that it was given.

    Raises:
        UserError: quiet and verbose together.
    """
    if quiet and verbose:
        message = "--quiet and --verbose exclude each other"
        raise UserError(message, code="conflict", path="quiet")
    with contextlib.ExitStack() as stack:
        if quiet:
            from mores.experiments.progress import hide_progress

            stack.enter_context(hide_progress())
        if verbose:
            stack.enter_context(_log_lines())
        stream = stack.enter_context(_reserved_stdout()) if json else sys.stdout
        try:
            yield CommandOutput(stream, quiet, json)
        except Exception as error:
            # typer ends a command by exceptions that have an exit code
            if verbose and not isinstance(error, UserError) and not hasattr(error, "exit_code"):
                traceback.print_exception(error)
            raise


class _StderrHandler(logging.Handler):
    """Writes lines to the present `sys.stderr`, which a progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def _log_lines() -> Iterator[None]:
    """Print on standard error what is written to the log of a run."""
    logger, handler = logging.getLogger("mores.run"), _StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def _reserved_stdout() -> Iterator[Stream]:
    """Standard output; what users' classes and worker processes print goes to standard error."""
    stdout = sys.stdout
    try:
        number = stdout.fileno()
    except io.UnsupportedOperation:  # not a file: worker processes do not write to it
        with contextlib.redirect_stdout(sys.stderr):
            yield stdout
        return
    stdout.flush()
    copy = os.dup(number)
    os.dup2(2, number)
    try:
        with (
            open(copy, "w", encoding="utf-8", closefd=False) as stream,
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield stream
    finally:
        stdout.flush()
        os.dup2(copy, number)
        os.close(copy)
