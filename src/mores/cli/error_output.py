"""Errors of the command line: lines on standard error."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from mores.cli.exit_codes import USER_ERROR
from mores.core.errors import nearest_name, printable
from mores.registry import REGISTRIES


def with_remedy(lines: str, error: BaseException) -> str:
    """The lines of an error, and the command that resumes its run if there is one."""
    notes = [note for note in getattr(error, "__notes__", []) if "mores resume" in note]
    return "\n".join([lines, *notes[-1:]])


def print_errors(lines: str) -> int:
    """Print the lines of an error; returns the exit code of wrong input."""
    for line in lines.splitlines():
        print(printable(line, 2000), file=sys.stderr)
    return USER_ERROR


def usage_message(error: Any, command: Any, arguments: Sequence[str]) -> str:
    """Message for a wrong option or command, with the nearest valid one."""
    context = getattr(error, "ctx", None)
    name = f"mores {arguments[0]}" if arguments and arguments[0] in command.commands else "mores"
    message = error.format_message().splitlines()[0]
    message = re.sub(r" ?\(Possible options: .*\)| Did you mean .*", "", message).rstrip(".")
    option = getattr(error, "option_name", None)
    wrong = re.search(r"No such command '(.*)'", message)
    if option and context is not None:
        known = [text for parameter in context.command.params for text in parameter.opts]
        message += nearest_name(option, [text for text in known if text.startswith("-")])
    elif wrong:
        message += _command_hint(wrong[1]) or nearest_name(wrong[1], command.commands)
    return f"{name}: {message[:1].lower()}{message[1:]}; see {name} --help"


def _command_hint(name: str) -> str:
    """The command that was probably meant where a scenario or an entry stands in its place."""
    if name in REGISTRIES["scenario"] or name.endswith((".yaml", ".yml")):
        return f"; did you mean mores run {name}?"
    if any(name in registry for registry in REGISTRIES.values()):
        return f"; did you mean mores describe {name}?"
    return ""
