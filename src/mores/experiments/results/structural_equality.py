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

Pairs = set[tuple[int, int]]


def alike(one: Any, other: Any, known: Pairs | None = None) -> bool:
    """Whether they say the same; where it cannot be known, they do not.

    Args:
        one, other: the objects.
        known: pairs that are being compared further up, by `id`: they may hold themselves.
    """
    known = set() if known is None else known
    if one is other or (id(one), id(other)) in known:
        return True
    if type(one) is not type(other):
        return False
    known.add((id(one), id(other)))
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, (bool, int, float, complex, str, bytes, np.generic, type)):
        return bool(one == other)
    if isinstance(one, Mapping):
        return alike(list(one), list(other), known) and _all(one.values(), other.values(), known)
    if isinstance(one, (tuple, list)):
        return _all(one, other, known)
    if isinstance(one, types.FunctionType):
        return one.__code__ == other.__code__ and _all(_bound(one), _bound(other), known)
    try:
        if bool(one == other):
            return True
        way, other_way = one.__reduce_ex__(4), other.__reduce_ex__(4)
    except Exception:  # it will not be compared, or copied
        return False
    return _all(_told(way, type(one)), _told(other_way, type(one)), known)


def _all(ones: Any, others: Any, known: Pairs) -> bool:
    ones, others = list(ones), list(others)
    pairs = zip(ones, others, strict=False)
    return len(ones) == len(others) and all(alike(one, other, known) for one, other in pairs)


def _bound(function: types.FunctionType) -> list[Any]:
    """What a function holds beside its code."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [*cells, function.__defaults__, function.__kwdefaults__]


def _told(way: Any, kind: type) -> list[Any]:
    """How to make an object of a kind again; iterators in it as lists."""
    if isinstance(way, str):
        return [way]
    made_by, arguments, *rest = way
    found = {name for above in kind.__mro__ for name, held in vars(above).items()
             if isinstance(held, functools.cached_property)}  # fmt: skip

    def plain(state: Any) -> Any:
        if isinstance(state, dict):
            return {name: plain(part) for name, part in state.items() if name not in found}
        return list(state) if hasattr(state, "__next__") else state

    return [made_by, arguments, *map(plain, rest)]
