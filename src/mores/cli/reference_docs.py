"""Reference page of the command line, from its commands and the models of JSON output.

`python -m mores.cli.reference_docs docs/reference` writes it to a folder.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from mores.cli import json_output
from mores.cli.app import app
from mores.cli.commands import COMMANDS
from mores.cli.exit_codes import CODES
from mores.experiments.scenario.field_descriptions import describe_field

HEAD = """\
# Command line

`mores COMMAND -h` prints the options of a command. Names of commands, options, scenarios and
entries are completed by the shell after `mores --install-completion`.

- **Standard output** has results: tables on a terminal of 120 columns or more, blocks of lines on a
  narrower one. In a pipe or file no line is broken, unless the variable COLUMNS gives a width.
- **Standard error** has progress and errors, one line for each error, with `-v` also log lines. On
  a terminal progress is a bar. `-q` leaves only errors.
- With `--json` standard output has one JSON object and nothing else; errors and progress stay on
  standard error. `mores check --json` gives the errors of the scenario as well. Numbers that are
  not finite are null. Later versions may add fields.
- An unexpected exception is one line and exit code 3; `-v`, or the variable MORES_TRACEBACK=1,
  prints its traceback.

This page is generated from the code.

## Exit codes

| code | meaning |
|---|---|
"""


def reference_markdown() -> str:
    """The page as markdown."""
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in CODES.items())
    group: Any = typer.main.get_command(app)
    sections = [HEAD + rows]
    for name in COMMANDS:
        sections.append("\n".join(_command_lines(name, group.commands[name])))
    models = "\n".join(line for model in _output_models() for line in _model_lines(model))
    return "\n".join([*sections, f"## JSON\n\n{models}"])


def _command_lines(name: str, command: Any) -> Iterator[str]:
    """A command of typer: how it is called, what it does, its arguments and options."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    words = [_argument_word(each) for each in arguments]
    yield f"## mores {name}\n"
    yield f"`mores {' '.join([name, *words])}`\n"
    paragraphs = command.help.strip().split("\n\n")
    yield "\n\n".join(re.sub(r"\s+", " ", paragraph.strip()) for paragraph in paragraphs)
    yield "\n| argument or option | meaning |\n|---|---|"
    for argument, word in zip(arguments, words, strict=True):
        yield f"| `{word}` | {argument.help} |"
    for option in sorted(options, key=lambda each: each.name != "help"):
        names = ", ".join(f"`{each}`" for each in option.opts)
        value = "" if option.is_flag else f" {option.metavar}"
        default = "" if option.is_flag or option.default in (None, ()) else option.default
        about = f"{option.help} Default: {default}." if default != "" else option.help
        yield f"| {names}{value} | {about} |"
    yield ""


def _argument_word(argument: Any) -> str:
    word = f"{argument.metavar} ..." if argument.nargs == -1 else argument.metavar
    return word if argument.required else f"[{word}]"


def _output_models() -> list[type[BaseModel]]:
    """The models of JSON output in the order of the module."""
    found = [each for each in vars(json_output).values() if isinstance(each, type)]
    public = [each for each in found if issubclass(each, BaseModel) and each is not BaseModel]
    return [each for each in public if not each.__name__.startswith("_")]


def _model_lines(model: type[BaseModel]) -> Iterator[str]:
    yield f"### {model.__name__}\n"
    yield f"{model.__doc__}\n"
    yield "| field | value | meaning |\n|---|---|---|"
    for name, field in model.model_fields.items():
        info = describe_field(name, field)
        kinds = {each.__name__ for each in _output_models()}
        annotation = str(field.annotation)
        value = info.allowed + (" or null" if "None" in annotation else "")
        nested = next((kind for kind in kinds if re.search(rf"\b{kind}\b", annotation)), None)
        if nested:
            value = re.sub(r"`[^`]*`", f"[{nested}](#{nested.lower()})", value)
        yield f"| `{name}` | {value} | {info.description} |"
    yield ""


if __name__ == "__main__":
    page = Path(sys.argv[1]) / "command_line.md"
    page.write_text(reference_markdown(), encoding="utf-8")
