"""A memory taken apart into named tensors and plain values, and put together again.

What can be saved is what `mores.core.pytree` knows: dataclasses, mappings, tuples, lists and tensors;
plain numbers and texts as well. Everything else (a layout, a description) is not saved: it is taken
from a *blank* memory, one that was made anew and has seen nothing, and must say the same there,
unless it stands in a field that does not count when dataclasses are compared (room to work in). The
blank also says what is made of what: nothing is imported or evaluated because a file says so.

Tensors come back with their strides, on which the order of a sum may depend, and those that were
one and the same, which may be changed in place, are one and the same again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mores.experiments.results.structural_equality import alike

PLAIN = (bool, int, float, str, type(None))


class CannotPack(Exception):
    """A memory that holds more than tensors and plain values."""


class Packed(NamedTuple):
    """A memory in parts.

    Attributes:
        tensors: by path, contiguous.
        about: what else there is to know at a path, as JSON: a plain `value`, the `keys` of a
            mapping, the `length` of a list or tuple, the `strides` of a tensor or the path that
            it is the `same` as.
    """

    tensors: dict[str, Tensor]
    about: dict[str, dict[str, Any]]


def packed(memory: Any, blank: Any) -> Packed:
    """Take a memory apart.

    Args:
        memory: what is to be saved.
        blank: a memory of the same make: see above.

    Raises:
        CannotPack: it holds something that neither can be saved nor stands in the blank.
    """
    found = Packed({}, {})
    _pack(memory, blank, "", found, {})
    return found


def unpacked(blank: Any, packed: Packed) -> Any:
    """Put a memory together.

    Raises:
        CannotPack: the parts are not those of such a memory.
    """
    return _unpack(blank, "", packed, {})


def _pack(
    tree: Any, blank: Any, path: str, into: Packed, seen: dict[Any, str], void: bool = False
) -> None:
    """`void`: what is no tensor or number there counts for nothing."""
    if isinstance(tree, Tensor):
        _pack_tensor(tree, path, into, seen)
    elif isinstance(tree, PLAIN):
        into.about[path] = {"value": tree}
    elif isinstance(tree, Mapping):
        keys = [str(key) for key in tree]
        known = _keys(blank)
        if len(set(keys)) < len(keys) or any(str(k) not in known and k != str(k) for k in tree):
            raise CannotPack(f"{path or 'the memory'}: keys that are no texts")
        into.about[path] = {"keys": keys}
        for key, part in tree.items():
            _pack(part, known.get(str(key)), _below(path, str(key)), into, seen, void)
    elif isinstance(tree, (tuple, list)):
        if type(tree) is not (list if blank is None else type(blank)):
            raise _other(tree, blank, path)
        into.about[path] = {"length": len(tree)}
        known = list(blank) if isinstance(blank, (tuple, list)) else []
        for number, part in enumerate(tree):
            there = known[number] if number < len(known) else None
            _pack(part, there, _below(path, str(number)), into, seen, void)
    elif type(tree) is not type(blank):
        raise _other(tree, blank, path)
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            below = _below(path, field.name)
            parts = getattr(tree, field.name), getattr(blank, field.name)
            _pack(*parts, below, into, seen, void or not field.compare)
    elif not void and not alike(tree, blank):
        what = type(tree).__name__
        raise CannotPack(f"{path or 'the memory'}: a {what} changes, and is no tensor or number")


def _other(tree: Any, blank: Any, path: str) -> CannotPack:
    here, there = type(tree).__name__, type(blank).__name__
    return CannotPack(f"{path or 'the memory'} is a {here}, and a {there} at a stage's start")


def _pack_tensor(tensor: Tensor, path: str, into: Packed, seen: dict[Any, str]) -> None:
    place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    if tensor.numel() and place in seen:
        into.about[path] = {"same": seen[place]}
        return
    seen[place] = path
    plain = tensor.detach()
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:  # one number seen as many
            plain = plain.narrow(dim, 0, 1)
    # Also where a dimension has one entry: how matrices are multiplied depends on its stride.
    if tensor.stride() != torch.empty(tensor.shape, device="meta").stride():
        into.about[path] = {"strides": list(tensor.stride()), "shape": list(tensor.shape)}
    into.tensors[path] = plain.cpu().clone(memory_format=torch.contiguous_format)


def _unpack(blank: Any, path: str, packed: Packed, made: dict[str, Tensor]) -> Any:
    about = packed.about.get(path, {})
    if "value" in about:
        return about["value"]
    if path in packed.tensors or "same" in about:
        return _unpack_tensor(blank, path, packed, made)
    if "keys" in about:
        known, names = _keys(blank), _names(blank)
        return {
            names.get(key, key): _unpack(known.get(key), _below(path, key), packed, made)
            for key in about["keys"]
        }
    if "length" in about:
        known = list(blank) if isinstance(blank, (tuple, list)) else []
        parts = [
            _unpack(known[n] if n < len(known) else None, _below(path, str(n)), packed, made)
            for n in range(about["length"])
        ]
        if hasattr(blank, "_fields"):
            return type(blank)(*parts)
        return type(blank)(parts) if isinstance(blank, (tuple, list)) else parts
    if blank is None or isinstance(blank, (*PLAIN, Tensor)):
        raise CannotPack(f"nothing was saved for {path!r}")
    if dataclasses.is_dataclass(blank) and not isinstance(blank, type):
        parts = {
            field.name: _unpack(getattr(blank, field.name), _below(path, field.name), packed, made)
            for field in dataclasses.fields(blank)
        }
        changed = {n: part for n, part in parts.items() if part is not getattr(blank, n)}
        return dataclasses.replace(blank, **changed) if changed else blank
    return blank


def _unpack_tensor(blank: Any, path: str, packed: Packed, made: dict[str, Tensor]) -> Tensor:
    about = packed.about.get(path, {})
    if "same" in about:
        if about["same"] not in made:
            raise CannotPack(f"nothing was saved for {path!r}")
        return made[about["same"]]
    saved = packed.tensors[path]
    if "strides" not in about:
        tensor = saved.clone(memory_format=torch.contiguous_format)
    else:
        shape, strides = about["shape"], about["strides"]
        repeated = [size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True)]
        inner = [1 if r else size for r, size in zip(repeated, shape, strict=True)]
        tensor = torch.empty_strided(inner, strides, dtype=saved.dtype).copy_(saved).expand(shape)
    if isinstance(blank, Tensor):
        tensor = tensor.to(blank.device).requires_grad_(blank.requires_grad)
    made[path] = tensor
    return tensor


def _keys(blank: Any) -> dict[str, Any]:
    return {str(k): part for k, part in blank.items()} if isinstance(blank, Mapping) else {}


def _names(blank: Any) -> dict[str, Any]:
    return {str(key): key for key in blank} if isinstance(blank, Mapping) else {}


def _below(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
