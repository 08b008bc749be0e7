"""Errors of a client's constructor that its callers expect as `TypeError`s.

Libraries probe constructors: TorchRL's `GymEnv` passes `frameskip`, Stable-Baselines3 a render
mode, and both go on without it after a `TypeError`, of which TorchRL also reads the text.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from mores.core.errors import UserError

GYMNASIUM_TEXT = " was raised from the environment creator for "


class ClientTypeError(UserError, TypeError):
    """A mistake of the user in an argument. A `TypeError`, which libraries catch."""

    default_code: ClassVar[str] = "wrong_type"

    def __init__(self, message: Any, *, code: str = "", path: str = "") -> None:
        # `gymnasium.make` raises a TypeError again: `type(error)(f"{error} was raised from ...")`
        if isinstance(message, str) and not code:
            message = message.partition(GYMNASIUM_TEXT)[0]
            code, path = self.default_code, message.partition(": ")[0]
        super().__init__(message, code=code, path=path)


class RenderModeError(ClientTypeError):
    """Unknown render mode, upon which Stable-Baselines3 falls back to another mode."""

    default_code = "unknown_name"


class UnknownArgumentError(ClientTypeError):
    """An argument that neither the client nor its environment has."""

    default_code = "unknown_name"


def argument_names(client: Callable[..., Any]) -> list[str]:
    """Names of the arguments of a client, without those of the environment (`**parameters`)."""
    if isinstance(client, type):  # TorchRL's metaclass hides the signature of the class
        client = functools.partial(client.__init__, None)
    parameters = inspect.signature(client).parameters.values()
    return [each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]


def check_arguments(
    kind: str, given: Collection[str], of_environment: Collection[str], client: type[Any] | None
) -> None:
    """Raise an `UnknownArgumentError` if an argument is not one of the environment.

    Args:
        kind: the environment.
        given: arguments that the client passes on to it.
        of_environment: its parameters.
        client: the client, whose own arguments are also named.
    """
    unknown = [name for name in given if name not in of_environment]
    if not unknown:
        return
    known = {kind: [*of_environment]}
    if client is not None:
        own = argument_names(client)
        known[client.__name__] = [name for name in own if name != "environment"]
    lines = [
        f"{kind}.{name}: got an unexpected keyword argument {name!r}{_alternatives(name, known)}"
        for name in unknown
    ]
    raise UnknownArgumentError("\n".join(lines), code="unknown_name", path=f"{kind}.{unknown[0]}")


def _alternatives(name: str, known: Mapping[str, list[str]]) -> str:
    """Nearest names of every owner; else all of them."""
    near: list[str] = []
    for names in known.values():
        near += difflib.get_close_matches(name.lower(), sorted(names), n=1, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?"
    return "".join(f"; {owner} has: {', '.join(sorted(each))}" for owner, each in known.items())
