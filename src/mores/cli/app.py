"""The application: its help, its general options."""

from __future__ import annotations

from typing import Annotated

import typer

from mores.cli.exit_codes import EXIT_CODES

app = typer.Typer(
    epilog=EXIT_CODES,
    help="Communities of people and AI agents whose values move.",
    add_completion=False,
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print(f"mores {metadata.version('mores')}")
        raise typer.Exit(0)
