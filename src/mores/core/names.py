"""Names of values, traits and groups: what a name may be, and known sets of names of values.

`schwartz10` are the basic values of Schwartz (1992, Advances in Experimental Social Psychology 25,
1-65), in the order of their circle; `schwartz4` are the higher-order values, in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from mores.core.errors import ParameterError, did_you_mean, printable

SCHWARTZ10 = (
    *("self_direction", "stimulation", "hedonism", "achievement", "power"),
    *("security", "conformity", "tradition", "benevolence", "universalism"),
)
SCHWARTZ4 = ("openness_to_change", "self_enhancement", "conservation", "self_transcendence")
VALUE_NAME_SETS: Mapping[str, tuple[str, ...]] = {"schwartz10": SCHWARTZ10, "schwartz4": SCHWARTZ4}
MAX_NAME_LENGTH = 60
_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_FORBIDDEN = "[]/"  # `mean_value[care]` is a component; a name is part of the name of a file


def name_problem(name: str) -> str | None:
    """Why a text cannot be the name of a value, trait or group; None if it can.

    A whole number is no name, because `mean_value[1]` is the second component.
    """
    if not name or name != name.strip():
        return "a name is not empty and has no blanks around it"
    if len(name) > MAX_NAME_LENGTH:
        return f"a name has at most {MAX_NAME_LENGTH} characters"
    if not name.isprintable() or name.startswith(".") or set(name) & set(_FORBIDDEN):
        return "a name has no line breaks, no [ ] / and no . at its beginning"
    if _WHOLE_NUMBER.fullmatch(name):
        return "a name is no whole number, which would be an index"
    return None


def check_distinct_names(names: Iterable[str]) -> None:
    """Refuse texts that cannot be names, and a name given twice.

    Raises:
        ParameterError: at the index of the name.
    """
    known: set[str] = set()
    for i, name in enumerate(names):
        if problem := name_problem(name):
            message = f"{printable(name, 40)!r}: {problem}"
            raise ParameterError(i, message=message, code="invalid_value")
        if name in known:
            raise ParameterError(i, message=f"{name!r} is named twice", code="duplicate")
        known.add(name)


def _resolve(value: Any) -> Any:
    """Names of a known set, or the list itself."""
    if isinstance(value, str):
        if value not in VALUE_NAME_SETS:
            message = f"no set of names {printable(value, 40)!r}"
            message += did_you_mean(value, VALUE_NAME_SETS)
            raise ParameterError(message=message, code="unknown_name")
        return VALUE_NAME_SETS[value]
    return _as_tuple(value)


def _as_tuple(value: Any) -> Any:
    """A list of a file as a tuple; anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    check_distinct_names(names)
    return names


ValueNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_resolve, json_schema_input_type=str | list[str]),
    AfterValidator(_checked),
]
"""Type of a field: a list of names of values, or the name of a known set."""


def _checked_people(names: tuple[str, ...]) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            message = f"{printable(name, 40)!r} is also the name of person {first[name]}"
            raise ParameterError(index, message=message, code="duplicate")
        first[name] = index
    return names


def check_num_people(names: Sequence[str], num_people: int) -> None:
    """Check that there are no names of people, or as many as people.

    Raises:
        ParameterError: at `person_names`.
    """
    if len(names) not in (0, num_people):
        message = f"{len(names)} names for {num_people} people"
        raise ParameterError("person_names", message=message, code="conflict")


PersonNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_tuple, json_schema_input_type=list[str]),
    AfterValidator(_checked_people),
]
"""Type of a field: names of people in their order, as a graph file may name them."""


def fill_num_values(data: Any) -> Any:
    """Parameters with `num_values` from `value_names` where the former is not given.

    For a validator of mode "before" of a class with both fields.
    """
    if not isinstance(data, dict) or "num_values" in data or "value_names" not in data:
        return data
    names = resolve_value_names(data["value_names"])
    return {**data, "num_values": len(names)} if isinstance(names, list) and names else data


def resolve_value_names(given: Any) -> Any:
    """The names of a known set or of a sequence as a list; anything else unchanged."""
    if isinstance(given, str) and given in VALUE_NAME_SETS:
        return list(VALUE_NAME_SETS[given])
    return list(given) if isinstance(given, (list, tuple)) else given


def check_num_names(names: Sequence[str], num_values: int) -> None:
    """Refuse another number of names than of values; no names are allowed.

    Raises:
        ParameterError: the numbers differ.
    """
    if names and len(names) != num_values:
        message = f"has {len(names)} names for {num_values} values"
        raise ParameterError("value_names", message=message, code="conflict")
