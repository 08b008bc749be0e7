"""Checks of Python arguments: whole numbers, lists of names, devices, paths, functions."""

from __future__ import annotations

import operator
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from mores.core.errors import UserError, did_you_mean


def check_names(argument: str, names: Any, known: Collection[str] | None = None) -> list[str]:
    """The names without duplicates. `known`: allowed names; `None`: any.

    Raises:
        UserError: not a list, or an unknown name, with the nearest known one.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        hint = f": write [{names!r:.60}]" if isinstance(names, str) else f", not {names!r:.60}"
        message = f"{argument}: must be a list of names{hint}"
        raise UserError(message, code="wrong_type", path=argument)
    for name in names:
        if not isinstance(name, str):
            message = f"{argument}: names are text, not {name!r:.60}"
            raise UserError(message, code="wrong_type", path=argument)
        if known is not None and name not in known:
            message = f"{argument}: unknown name {name!r:.60}{did_you_mean(name, known)}"
            raise UserError(message, code="unknown_name", path=argument)
    return list(dict.fromkeys(names))


def check_integer(
    argument: str, value: Any, minimum: int | None = 1, maximum: int | None = 1_000_000
) -> int:
    """A whole number (also numpy's) as an int, between `minimum` and `maximum`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    bound = "" if minimum is None else f" of at least {minimum}"
    if number is None or (minimum is not None and number < minimum):
        raise UserError(
            f"{argument}: must be a whole number{bound}, not {value!r:.40}",
            code="wrong_type" if number is None else "out_of_range",
            path=argument,
        )
    if maximum is not None and number > maximum:
        raise UserError(
            f"{argument}: must be at most {maximum:,}, not {value!r:.40}",
            code="out_of_range",
            path=argument,
        )
    return number


def check_seed(seed: Any) -> int:
    """A seed of random numbers: a whole number from 0 to 2^64 - 1 (also numpy's), as an int."""
    number = check_integer("seed", seed, minimum=0, maximum=None)
    if number >= 2**64:
        raise UserError("seed: must be below 2^64", code="out_of_range", path="seed")
    return number


def check_path(argument: str, path: Any) -> Path:
    """The path of a file or folder, given as text or as a path."""
    if not isinstance(path, (str, Path)):
        message = f"{argument}: a path is needed, not {path!r:.60}"
        raise UserError(message, code="wrong_type", path=argument)
    if not str(path) or "\0" in str(path):
        message = f"{argument}: {str(path)!r} is not a path"
        raise UserError(message, code="invalid_value", path=argument)
    return Path(path)


def check_callable(argument: str, function: Any) -> None:
    """Refuse what cannot be called, where a function or None is expected."""
    if function is not None and not callable(function):
        message = f"{argument}: must be a function, not {function!r:.60}"
        raise UserError(message, code="wrong_type", path=argument)


def check_device(requested: Any) -> torch.device:
    """An available torch device."""
    try:
        device = torch.device(requested)
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        available = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise UserError(
            f"device {str(requested)!r:.40} is not available{did_you_mean(requested, available)}",
            code="unknown_name",
            path="device",
        ) from None
    return device
