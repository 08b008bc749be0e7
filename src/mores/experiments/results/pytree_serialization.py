"""Split a policy state into named tensors and plain values, and rebuild it.

Supported are the types that `mores.core.pytree` supports (dataclasses, mappings, tuples, lists,
tensors) and plain numbers and strings. Any other object (a layout, a description) is not saved: it
is taken from a *template*, a state made anew with the same classes, and must be equal in both,
unless it is in a field that dataclasses do not compare (a work buffer). The template also supplies
all classes: nothing is imported or evaluated because a file names it.

Tensors keep their strides, on which the order of a sum may depend. Tensors that share memory, which
may be updated in place, share memory again.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

PLAIN_TYPES = (bool, int, float, str, type(None))


class SerializationError(Exception):
    """A state that holds more than tensors and plain values, or does not fit its template."""


class SerializedPytree(NamedTuple):
    """A state as tensors and metadata.

    Attributes:
        tensors: by path, contiguous.
        metadata: by path, as JSON: a plain `value`, the `keys` of a mapping, the `length` of a list
            or tuple, the `strides` and `shape` of a tensor, or the path of the tensor that it is an
            `alias_of`.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, dict[str, Any]]


def serialize(state: Any, template: Any) -> SerializedPytree:
    """Split a state.

    Args:
        state: the state to save.
        template: a state made with the same classes: see above.

    Raises:
        SerializationError: an object cannot be saved and is not equal in the template.
    """
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, dict[str, Any]] = {}
    paths_by_storage: dict[Any, str] = {}

    def visit(node: Any, template: Any, path: str, uncompared: bool = False) -> None:
        """Add a node. `uncompared`: objects that are not saved may differ."""
        if isinstance(node, Tensor):
            storage = (node.data_ptr(), tuple(node.shape), node.stride(), node.dtype)
            if node.numel() and storage in paths_by_storage:
                metadata[path] = {"alias_of": paths_by_storage[storage]}
                return
            paths_by_storage[storage] = path
            tensors[path] = _contiguous(node)
            # Also for dimensions of size 1: their stride decides how matrices are multiplied.
            if node.stride() != torch.empty(node.shape, device="meta").stride():
                metadata[path] = {"strides": list(node.stride()), "shape": list(node.shape)}
            return
        if isinstance(node, PLAIN_TYPES):
            metadata[path] = {"value": node}
            return
        name, children, known = path or "the state", _children(node), _children(template)
        if isinstance(node, Mapping):
            if len(children) < len(node) or any(k != str(k) and str(k) not in known for k in node):
                raise SerializationError(f"{name}: keys that are not strings")
            metadata[path] = {"keys": list(children)}
        elif type(node) is not (list if template is None else type(template)):
            found, expected = type(node).__name__, type(template).__name__
            message = f"{name} is a {found}, and a {expected} at the start of a stage"
            raise SerializationError(message)
        elif isinstance(node, (tuple, list)):
            metadata[path] = {"length": len(node)}
        elif not children and not uncompared and not structurally_equal(node, template):
            kind = type(node).__name__
            raise SerializationError(f"{name}: a {kind} changes, and is not a tensor or number")
        fields = dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
        buffers = {field.name for field in fields if not field.compare}
        for key, part in children.items():
            visit(part, known.get(key), _child_path(path, key), uncompared or key in buffers)

    visit(state, template, "")
    return SerializedPytree(tensors, metadata)


def deserialize(template: Any, serialized: SerializedPytree) -> Any:
    """Rebuild a state.

    Raises:
        SerializationError: the parts do not fit the template.
    """
    tensors, metadata = serialized
    restored: dict[str, Tensor] = {}

    def visit(template: Any, path: str) -> Any:
        entry, known = metadata.get(path, {}), _children(template)
        if "value" in entry:
            return entry["value"]
        if path in tensors:
            restored[path] = _restore_tensor(tensors[path], entry, template)
            if isinstance(template, Tensor):
                found = [(each.dtype, each.dim()) for each in (restored[path], template)]
                if found[0] != found[1]:
                    raise SerializationError(f"{path!r} has another type, or number of dimensions")
            return restored[path]
        if entry.get("alias_of") in restored:
            return restored[entry["alias_of"]]
        if "keys" in entry:
            keys = {str(key): key for key in template} if isinstance(template, Mapping) else {}
            return {
                keys.get(key, key): visit(known.get(key), _child_path(path, key))
                for key in entry["keys"]
            }
        if "length" in entry:
            names = map(str, range(entry["length"]))
            parts = [visit(known.get(name), _child_path(path, name)) for name in names]
            if hasattr(template, "_fields"):
                return type(template)(*parts)
            return type(template)(parts) if isinstance(template, (tuple, list)) else parts
        if "alias_of" in entry or isinstance(template, (*PLAIN_TYPES, Tensor)):
            raise SerializationError(f"no saved value for {path!r}")
        fields = {name: visit(part, _child_path(path, name)) for name, part in known.items()}
        changed = {name: part for name, part in fields.items() if part is not known[name]}
        return dataclasses.replace(template, **changed) if changed else template

    return visit(template, "")


def structurally_equal(left: Any, right: Any, visited: frozenset[int] = frozenset()) -> bool:
    """Whether two objects are equal, or have equal attributes; False if that is unknown.

    Results of `functools.cached_property` are left out. `visited`: objects above, which may contain
    themselves, by `id`.
    """
    if left is right or id(left) in visited:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    visited |= {id(left)}

    def all_equal(lefts: Iterable[Any], rights: Iterable[Any]) -> bool:
        pairs = zip(lefts, rights, strict=False)
        return all(structurally_equal(one, other, visited) for one, other in pairs)

    if isinstance(left, Mapping):
        return list(left) == list(right) and all_equal(left.values(), right.values())
    if isinstance(left, (tuple, list)):
        return len(left) == len(right) and all_equal(left, right)
    if isinstance(left, types.FunctionType):
        captured = [
            [*(cell.cell_contents for cell in each.__closure__ or ()), each.__defaults__]
            for each in (left, right)
        ]
        return left.__code__ == right.__code__ and all_equal(*captured)
    try:
        if bool(left == right):
            return True
    except Exception:  # the class refuses comparison
        return False
    has_attributes = hasattr(left, "__dict__") or hasattr(left, "__slots__")
    if type(left).__reduce__ is not object.__reduce__ or not has_attributes:
        return False  # a number, or an object with a state of another kind: a random generator
    bases = [vars(base).items() for base in type(left).__mro__]
    cached = {n for items in bases for n, v in items if isinstance(v, functools.cached_property)}

    def attributes(instance: Any) -> list[Any]:
        state = instance.__getstate__()  # None, `__dict__`, or that and the slots
        parts = [part or {} for part in (state if isinstance(state, tuple) else (state,))]
        return [{n: v for n, v in part.items() if n not in cached} for part in parts]

    return structurally_equal(attributes(left), attributes(right), visited)


def _children(node: Any) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return {str(key): part for key, part in node.items()}
    if isinstance(node, (tuple, list)):
        return {str(n): part for n, part in enumerate(node)}
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return {}


def _contiguous(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU, with one number for an expanded dimension."""
    plain = tensor.detach()
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:
            plain = plain.narrow(dim, 0, 1)
    return plain.cpu().clone(memory_format=torch.contiguous_format)


def _restore_tensor(saved: Tensor, entry: Mapping[str, Any], template: Any) -> Tensor:
    if "strides" not in entry:
        tensor = saved.clone(memory_format=torch.contiguous_format)
    else:
        shape, strides = entry["shape"], entry["strides"]
        repeated = [size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True)]
        inner = [1 if r else size for r, size in zip(repeated, shape, strict=True)]
        tensor = torch.empty_strided(inner, strides, dtype=saved.dtype).copy_(saved).expand(shape)
    if isinstance(template, Tensor):
        tensor = tensor.to(template.device).requires_grad_(template.requires_grad)
    return tensor


def _child_path(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
