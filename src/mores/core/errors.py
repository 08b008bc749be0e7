"""The exception for mistakes of the user, and the format of names and values in messages."""

from __future__ import annotations

import copyreg
import difflib
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

# Kinds of mistakes. Tests and callers compare these codes; the wording of messages may change.
CODES: Mapping[str, str] = {
    "unknown_name": "no environment, policy, role, key, metric ... of that name",
    "missing": "a required value, key, column, file or role is not given",
    "wrong_type": "a value of the wrong type",
    "out_of_range": "a number outside its range",
    "invalid_value": "a value of the right type that is not allowed",
    "wrong_shape": "a tensor or list of the wrong shape or length",
    "not_finite": "a number is NaN or infinite where it must be finite",
    "conflict": "values that are allowed one by one and not together",
    "duplicate": "a name or key given twice",
    "unsupported": "the object cannot do what it was asked to do",
    "wrong_order": "a call that must come after another one",
    "too_large": "a size beyond a stated limit",
    "unreadable": "a file that does not exist, cannot be read, or does not hold what it should",
    "not_writable": "a file or folder that cannot be written",
    "incompatible": "saved by another version, or for another environment or network",
    "busy": "a run that another process has locked",
    "not_installed": "an optional dependency is not installed",
    "not_trained": "parameters that were never trained, or never would be",
    "unseeded": "random numbers that the seed of the simulation does not set",
    "world_leak": "results of a world that depend on the other worlds of the batch",
    "modified_input": "a method that modified a tensor it was given",
    "server_failed": "a server that did not answer after all repetitions, or answered nonsense",
    "server_refused": "a request that a server refused: key, name of the model, parameters",
    "other_model": "a server that answered with another model than the one asked for",
    "budget": "the next call would exceed a budget; a run can be resumed with a larger one",
    "not_recorded": "a request that a recording does not contain",
    "failed": "a user's class raised an exception or violated its contract",
}

MAX_NEAR_NAMES = 3  # in a message


class UserError(Exception):
    """A mistake that the user can correct, shown as one line without a traceback.

    Args:
        message: what is wrong, where, what is allowed, the nearest right name; or an error, whose
            text, code and path the new one has.
        code: the kind of mistake, one of `CODES`.
        path: the parameter, key or file that is wrong, dotted (`env.people`); empty if unknown.
    """

    @overload
    def __init__(self, message: str, *, code: str, path: str = "") -> None: ...

    @overload
    def __init__(self, message: UserError) -> None: ...

    def __init__(self, message: str | UserError, *, code: str = "", path: str = "") -> None:
        # Gymnasium raises the error of another process as `type(error)(error)`.
        if isinstance(message, UserError):
            code, path = message.code, message.path
        super().__init__(str(message))
        self.code, self.path = code, path

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with code and path, which exceptions omit by default."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore


def unreadable(path: object, reason: object) -> UserError:
    """The error of a file that cannot be read; the reason of a library may have several lines."""
    text = printable(str(reason).strip(), 500)
    return UserError(f"cannot read {path}: {text}", code="unreadable", path=str(path))


class ParameterError(ValueError):
    """A `ValueError` with a code, for validators of parameters; pydantic preserves it.

    Args:
        path: the wrong field, relative to the validated one.
        message: what is wrong.
        code: one of `CODES`.
    """

    def __init__(self, *path: str | int, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.path, self.code = path, code


def near_names(given: object, allowed: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """At most three names that are similar to a text, the nearest first.

    These are the names that are about as similar as the nearest one, and those that begin with the
    text. Case does not count: PPO is near to ppo.

    Args:
        given: what was written; of any type: a number in place of a name is similar to none.
        allowed: the names.
        cutoff: least similarity, between 0 and 1, as of `difflib.SequenceMatcher.ratio`.
    """
    text = str(given).lower()
    names = {name.lower(): name for name in sorted(allowed, reverse=True)}
    similarity = {name: difflib.SequenceMatcher(None, name, text).ratio() for name in names}
    least = max(cutoff, max(similarity.values(), default=0.0) - 0.1)
    close = [name for name in names if similarity[name] >= least]
    longer = [name for name in names if len(text) >= 3 and name.startswith(text)]
    nearest = sorted({*close, *longer}, key=lambda name: (-similarity[name], name))
    return [names[name] for name in nearest[:MAX_NEAR_NAMES]]


def nearest_name(given: object, allowed: Iterable[str], cutoff: float = 0.6) -> str:
    """`"; did you mean 'x' or 'y'?"` with the names of `near_names`, or `""` if there are none."""
    *others, last = [repr(name) for name in near_names(given, allowed, cutoff)] or [""]
    return f"; did you mean {' or '.join(filter(None, [', '.join(others), last]))}?" if last else ""


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """`nearest_name`, or `"; known: a, b, c"` if no name is similar."""
    names = sorted(allowed)
    if near := nearest_name(given, names):
        return near
    return list_known(names)


def list_known(names: Sequence[str]) -> str:
    """`"; known: a, b, c"`, the first twelve names in this order; `""` if there are none."""
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {listed}" if names else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is lacking. On a CPU PyTorch has no class for it."""
    return isinstance(error, MemoryError) or "allocate" in str(error)


def describe_exception(error: BaseException, with_place: bool = True) -> str:
    """An exception in one line, by default with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__) if with_place else []
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {printable(error, 300)}{place}"


def printable(value: object, max_length: int = 80) -> str:
    """A user's text on one line: unprintable characters are escaped, long text is cut."""
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)
    )
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def describe_value(value: object) -> str:
    """A value as text for a message."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {printable(value, 40)}"
        case str():
            return f"the text '{printable(value, 40)}'" if value else "an empty text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return printable(value, 40)
