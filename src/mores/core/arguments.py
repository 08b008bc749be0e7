"""Arguments as they come from Python: whole numbers, lists of names, devices."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch

from mores.core.errors import UserError, did_you_mean


def names_in(what: str, asked: Any, known: Collection[str] | None = None) -> list[str]:
    """A list of names that are all known, if it is said which are; each once.

    Raises:
        UserError: it is none, or one of them is not, with the nearest that is.
    """
    if isinstance(asked, str) or not isinstance(asked, Collection):
        shown = f"[{asked!r:.60}]" if isinstance(asked, str) else f"not {asked!r:.60}"
        raise UserError(f"{what}: a list of names, {shown}", code="wrong_type", path=what)
    for name in asked:
        if known is not None and name not in known:
            near = did_you_mean(name, known)
            raise UserError(
                f"{what}: there is no {name!r:.60}{near}", code="unknown_name", path=what
            )
    return list(dict.fromkeys(asked))


def whole_number(what: str, given: Any, least: int | None = 1, most: int | None = 1_000_000) -> int:
    """A whole number, numpy's as well; `least` and `most` are bounds, if there are any."""
    try:
        number = None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        number = None
    low = "" if least is None else f", at least {least}"
    if number is None or (least is not None and number < least):
        raise UserError(
            f"{what}: a whole number{low}, not {given!r:.40}",
            code="wrong_type" if number is None else "out_of_range",
            path=what,
        )
    if most is not None and number > most:
        raise UserError(
            f"{what}: at most {most:,}, not {given!r:.40}", code="out_of_range", path=what
        )
    return number


def device_of(asked: Any) -> torch.device:
    """A device that is here."""
    try:
        device = torch.device(asked)
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise UserError(
            f"there is no device {str(asked)!r:.40}{did_you_mean(asked, here)}",
            code="unknown_name",
            path="device",
        ) from None
    return device
