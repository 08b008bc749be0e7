"""The application: its help, and the options that stand before a command."""

from __future__ import annotations

from typing import Annotated

import typer

from mores.cli.exit_codes import EXIT_CODES

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
    help="Communities of people and AI agents whose values move.",
    no_args_is_help=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print(f"mores {metadata.version('mores')}")
        raise typer.Exit(0)
