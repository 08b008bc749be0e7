"""Arguments as they come from Python: whole numbers, lists of names, devices."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch

from mores.core.errors import UserError, did_you_mean


def check_names(argument: str, names: Any, known: Collection[str] | None = None) -> list[str]:
    """A list of names that are all known, if it is said which are; each once.

    Raises:
        UserError: it is none, or one of them is not, with the nearest that is.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        shown = f"[{names!r:.60}]" if isinstance(names, str) else f"not {names!r:.60}"
        raise UserError(f"{argument}: a list of names, {shown}", code="wrong_type", path=argument)
    for name in names:
        if known is not None and name not in known:
            near = did_you_mean(name, known)
            raise UserError(
                f"{argument}: there is no {name!r:.60}{near}", code="unknown_name", path=argument
            )
    return list(dict.fromkeys(names))


def check_integer(
    argument: str, value: Any, minimum: int | None = 1, maximum: int | None = 1_000_000
) -> int:
    """A whole number, numpy's as well; `minimum` and `maximum` are bounds, if there are any."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    low = "" if minimum is None else f", at least {minimum}"
    if number is None or (minimum is not None and number < minimum):
        raise UserError(
            f"{argument}: a whole number{low}, not {value!r:.40}",
            code="wrong_type" if number is None else "out_of_range",
            path=argument,
        )
    if maximum is not None and number > maximum:
        raise UserError(
            f"{argument}: at most {maximum:,}, not {value!r:.40}",
            code="out_of_range",
            path=argument,
        )
    return number


def check_device(requested: Any) -> torch.device:
    """A device that is here."""
    try:
        device = torch.device(requested)
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise UserError(
            f"there is no device {str(requested)!r:.40}{did_you_mean(requested, here)}",
            code="unknown_name",
            path="device",
        ) from None
    return device
