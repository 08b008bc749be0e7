"""The one exception for mistakes of the user, and the hint that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
