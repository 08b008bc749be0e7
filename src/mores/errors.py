"""The one exception for mistakes of the user, and how names and values are shown in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """Something the user can put right: shown as one line, without a traceback."""


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"`, or `"; known: a, b, c"` where nothing is near.

    What is given may be anything: a number where a name should be is near to nothing.
    """
    names = sorted(allowed)
    small = {name.lower(): name for name in reversed(names)}  # PPO is near to ppo
    near = difflib.get_close_matches(str(given).lower(), small, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {small[near[0]]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {shown}" if names else ""


def shown(part: object, most: int = 80) -> str:
    """Text of the user's on one line: what does not print is escaped, what is long is cut."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(part))
    return text if len(text) <= most else text[: most - 3] + "..."


def said(value: object) -> str:
    """A value, as a message speaks of it."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {shown(value, 40)}"
        case str():
            return f"the text '{shown(value, 40)}'" if value else "an empty text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return shown(value, 40)
