"""What simulates the cells of a command: this process, or the executor of a launcher."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mores.core.errors import UserError
from mores.registry.plugins import load_plugins

if TYPE_CHECKING:
    from mores.experiments.run.cell_executor import CellExecutor


@contextlib.contextmanager
def cell_workers(
    jobs: int | None,
    launcher: str | None,
    options: Sequence[str] | None,
    load: Sequence[Path] | None = None,
) -> Iterator[int | CellExecutor]:
    """The argument `jobs` of `run_scenario` and others, for the options of a command.

    Args:
        jobs: `--jobs`.
        launcher: `--launcher`.
        options: each `--launcher-option`.
        load: Python files of the user that are not loaded yet, of which one may have the launcher.

    Raises:
        UserError: an unknown launcher or option; a library that it needs is not installed.
    """
    if launcher is None and options:
        message = "--launcher-option is an option of a launcher: add --launcher NAME"
        raise UserError(message, code="conflict", path="launcher_option")
    if launcher is None and jobs in (None, 1):
        yield 1  # this process
        return
    from mores.experiments.launchers.launcher import open_executor, parse_options

    if launcher is not None:
        load_plugins(load or ())
    name = "local" if launcher is None else launcher
    with open_executor(name, jobs, parse_options(options or ())) as executor:
        yield executor
