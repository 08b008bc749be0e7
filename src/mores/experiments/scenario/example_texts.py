"""Who acts by default in an environment, and what language models read: for `mores describe`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from mores.core.environment import Environment
from mores.core.errors import UserError, printable
from mores.registry import class_of, to_spec
from mores.sim.example_turns import example_turns

MAX_LINE = 2_000  # characters of a line


class ExampleText(NamedTuple):
    """A text with its heading; unprintable characters are escaped."""

    heading: str
    text: str


def example_texts(registry: str, name: str) -> list[ExampleText]:
    """The default policies, the rules of each role, and a turn of each role and phase.

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
    policies = [_default_policies(environment)] if environment.roles else []
    return [*policies, *texts] + [
        ExampleText(f"A turn of {turn.role}, phase {turn.phase}", _printable(turn.text))
        for turn in turns
    ]


def _default_policies(environment: Environment[Any]) -> ExampleText:
    """Default policy of each role, as a scenario file states it."""
    policies = environment.default_policies()
    lines = []
    for role in environment.roles:
        policy = policies.get(role.name)
        if policy is not None and not isinstance(policy, (str, Mapping)):
            policy = to_spec("policy", policy)
        text = "none" if policy is None else yaml.safe_dump(policy, default_flow_style=True)
        lines.append(f"{role.name}: {text.removesuffix(chr(10)).removesuffix('...').strip()}")
    return ExampleText("Default policies", _printable("\n".join(lines)))


def _printable(text: str) -> str:
    return "\n".join(printable(line, MAX_LINE) for line in text.splitlines())
