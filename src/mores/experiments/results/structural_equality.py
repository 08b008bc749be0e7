"""Whether two objects say the same, even where their classes do not say so.

For descriptions in players' memories: what is taken from a memory made anew must be what was in the
old one. Objects that are not equal by themselves are compared by what it would take to make them
again, as `copy` asks them; what was only worked out from that (`functools.cached_property`) is left
out.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

IdPairs = set[tuple[int, int]]


def structurally_equal(left: Any, right: Any, visited: IdPairs | None = None) -> bool:
    """Whether they say the same; where it cannot be known, they do not.

    Args:
        left, right: the objects.
        visited: pairs that are being compared further up, by `id`: they may hold themselves.
    """
    visited = set() if visited is None else visited
    if left is right or (id(left), id(right)) in visited:
        return True
    if type(left) is not type(right):
        return False
    visited.add((id(left), id(right)))
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, (bool, int, float, complex, str, bytes, np.generic, type)):
        return bool(left == right)
    if isinstance(left, Mapping):
        return structurally_equal(list(left), list(right), visited) and _all_equal(
            left.values(), right.value_locations(), visited
        )
    if isinstance(left, (tuple, list)):
        return _all_equal(left, right, visited)
    if isinstance(left, types.FunctionType):
        return left.__code__ == right.__code__ and _all_equal(
            _captured_values(left), _captured_values(right), visited
        )
    try:
        if bool(left == right):
            return True
        way, other_way = left.__reduce_ex__(4), right.__reduce_ex__(4)
    except Exception:  # it will not be compared, or copied
        return False
    return _all_equal(_reduce_parts(way, type(left)), _reduce_parts(other_way, type(left)), visited)


def _all_equal(left: Any, right: Any, visited: IdPairs) -> bool:
    left, right = list(left), list(right)
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(
        structurally_equal(one, other, visited) for one, other in pairs
    )


def _captured_values(function: types.FunctionType) -> list[Any]:
    """What a function holds beside its code."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [*cells, function.__defaults__, function.__kwdefaults__]


def _reduce_parts(reduced: Any, cls: type) -> list[Any]:
    """How to make an object of a kind again; iterators in it as lists."""
    if isinstance(reduced, str):
        return [reduced]
    made_by, arguments, *rest = reduced
    found = {name for above in cls.__mro__ for name, held in vars(above).items()
             if isinstance(held, functools.cached_property)}  # fmt: skip

    def plain(state: Any) -> Any:
        if isinstance(state, dict):
            return {name: plain(part) for name, part in state.items() if name not in found}
        return list(state) if hasattr(state, "__next__") else state

    return [made_by, arguments, *map(plain, rest)]
