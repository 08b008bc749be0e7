"""Structural equality of two objects, also of classes without `__eq__`.

Used for descriptions in policy states: an object taken from a template must be equal to that of the
saved state. Objects that are not equal by `==` are compared by the parts from which `copy` would
rebuild them. Cached results (`functools.cached_property`) are left out.
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
    """Whether two objects have equal structure; False if that cannot be determined.

    Args:
        left, right: the objects.
        visited: pairs under comparison further up, by `id`: objects may contain themselves.
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
            left.values(), right.values(), visited
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
        reduced, other = left.__reduce_ex__(4), right.__reduce_ex__(4)
    except Exception:  # the class refuses comparison or copying
        return False
    return _all_equal(_reduce_parts(reduced, type(left)), _reduce_parts(other, type(left)), visited)


def _all_equal(left: Any, right: Any, visited: IdPairs) -> bool:
    left, right = list(left), list(right)
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(structurally_equal(a, b, visited) for a, b in pairs)


def _captured_values(function: types.FunctionType) -> list[Any]:
    """Values that a function holds beside its code: closure and defaults."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [*cells, function.__defaults__, function.__kwdefaults__]


def _reduce_parts(reduced: Any, cls: type) -> list[Any]:
    """Parts that rebuild an object of a class; iterators as lists, cached properties left out."""
    if isinstance(reduced, str):
        return [reduced]
    factory, arguments, *rest = reduced
    cached = {name for base in cls.__mro__ for name, value in vars(base).items()
              if isinstance(value, functools.cached_property)}  # fmt: skip

    def plain(state: Any) -> Any:
        if isinstance(state, dict):
            return {name: plain(part) for name, part in state.items() if name not in cached}
        return list(state) if hasattr(state, "__next__") else state

    return [factory, arguments, *map(plain, rest)]
