"""What language models read in an environment: for `mores describe`."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError

from mores.core.environment import Environment
from mores.core.errors import UserError, printable
from mores.registry import class_of
from mores.sim.example_turns import example_turns

MAX_LINE = 2_000  # characters of a line


class ExampleText(NamedTuple):
    """A text with its heading; unprintable characters are escaped."""

    heading: str
    text: str


def example_texts(registry: str, name: str) -> list[ExampleText]:
    """The rules of each role, and a turn of each role and phase.

    Empty for entries other than environments, and for those that need parameters.

    Args:
        registry: name of the registry.
        name: name of the entry.
    """
    component = class_of(registry, name)
    if not (isinstance(component, type) and issubclass(component, Environment)):
        return []
    try:
        environment = component()
        turns = example_turns(environment)
    except (ValidationError, UserError):
        return []
    texts = [
        ExampleText(f"Rules of {role.name}, for language models", _printable(rules))
        for role in environment.roles
        if (rules := environment.role_rules(role.name))
    ]
    return texts + [
        ExampleText(f"A turn of {turn.role}, phase {turn.phase}", _printable(turn.text))
        for turn in turns
    ]


def _printable(text: str) -> str:
    return "\n".join(printable(line, MAX_LINE) for line in text.splitlines())
