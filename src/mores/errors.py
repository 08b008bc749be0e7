"""The one exception for mistakes of the user, and the hint that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right: shown as one line, without a traceback."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"`, or `"; known: a, b, c"` where nothing is near."""
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {shown}" if names else ""
