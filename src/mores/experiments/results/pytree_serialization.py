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
    output = SerializedPytree({}, {})
    _serialize(state, template, "", output, {})
    return output


def deserialize(template: Any, serialized: SerializedPytree) -> Any:
    """Rebuild a state.

    Raises:
        SerializationError: the parts do not fit the template.
    """
    return _deserialize(template, "", serialized, {})


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


def _serialize(
    node: Any,
    template: Any,
    path: str,
    output: SerializedPytree,
    paths_by_storage: dict[Any, str],
    uncompared: bool = False,
) -> None:
    """Add a node to the output. `uncompared`: objects that are not saved may differ."""
    if isinstance(node, Tensor):
        _serialize_tensor(node, path, output, paths_by_storage)
        return
    children: list[tuple[str, Any, Any, bool]] = []  # name, part, its template, `uncompared`
    if isinstance(node, PLAIN_TYPES):
        output.metadata[path] = {"value": node}
    elif isinstance(node, Mapping):
        keys, known = [str(key) for key in node], _values_by_text_key(template)
        if len(set(keys)) < len(keys) or any(str(k) not in known and k != str(k) for k in node):
            raise SerializationError(f"{path or 'the state'}: keys that are not strings")
        output.metadata[path] = {"keys": keys}
        children = [(str(key), part, known.get(str(key)), False) for key, part in node.items()]
    elif isinstance(node, (tuple, list)):
        if type(node) is not (list if template is None else type(template)):
            raise _type_mismatch(node, template, path)
        output.metadata[path] = {"length": len(node)}
        known = dict(enumerate(template)) if isinstance(template, (tuple, list)) else {}
        children = [(str(n), part, known.get(n), False) for n, part in enumerate(node)]
    elif type(node) is not type(template):
        raise _type_mismatch(node, template, path)
    elif dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            parts = getattr(node, field.name), getattr(template, field.name)
            children.append((field.name, *parts, not field.compare))
    elif not uncompared and not structurally_equal(node, template):
        kind = type(node).__name__
        raise SerializationError(
            f"{path or 'the state'}: a {kind} changes, and is not a tensor or number"
        )
    for name, part, other, may_differ in children:
        below = _child_path(path, name)
        _serialize(part, other, below, output, paths_by_storage, uncompared or may_differ)


def _type_mismatch(node: Any, template: Any, path: str) -> SerializationError:
    found, expected = type(node).__name__, type(template).__name__
    return SerializationError(
        f"{path or 'the state'} is a {found}, and a {expected} at the start of a stage"
    )


def _serialize_tensor(
    tensor: Tensor, path: str, output: SerializedPytree, paths_by_storage: dict[Any, str]
) -> None:
    storage = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    if tensor.numel() and storage in paths_by_storage:
        output.metadata[path] = {"alias_of": paths_by_storage[storage]}
        return
    paths_by_storage[storage] = path
    plain = tensor.detach()
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:  # an expanded dimension: one number, repeated
            plain = plain.narrow(dim, 0, 1)
    # Also for dimensions of size 1: their stride decides how matrices are multiplied.
    if tensor.stride() != torch.empty(tensor.shape, device="meta").stride():
        output.metadata[path] = {"strides": list(tensor.stride()), "shape": list(tensor.shape)}
    output.tensors[path] = plain.cpu().clone(memory_format=torch.contiguous_format)


def _deserialize(
    template: Any, path: str, serialized: SerializedPytree, restored: dict[str, Tensor]
) -> Any:
    entry = serialized.metadata.get(path, {})
    if "value" in entry:
        return entry["value"]
    if path in serialized.tensors or "alias_of" in entry:
        return _deserialize_tensor(template, path, serialized, restored)

    def child(name: str, part_template: Any) -> Any:
        return _deserialize(part_template, _child_path(path, name), serialized, restored)

    if "keys" in entry:
        known = _values_by_text_key(template)
        keys = {str(key): key for key in template} if isinstance(template, Mapping) else {}
        return {keys.get(key, key): child(key, known.get(key)) for key in entry["keys"]}
    if "length" in entry:
        known = dict(enumerate(template)) if isinstance(template, (tuple, list)) else {}
        parts = [child(str(n), known.get(n)) for n in range(entry["length"])]
        if hasattr(template, "_fields"):
            return type(template)(*parts)
        return type(template)(parts) if isinstance(template, (tuple, list)) else parts
    if template is None or isinstance(template, (*PLAIN_TYPES, Tensor)):
        raise SerializationError(f"no saved value for {path!r}")
    if dataclasses.is_dataclass(template) and not isinstance(template, type):
        old = {field.name: getattr(template, field.name) for field in dataclasses.fields(template)}
        parts = {name: child(name, part) for name, part in old.items()}
        changed = {name: part for name, part in parts.items() if part is not old[name]}
        return dataclasses.replace(template, **changed) if changed else template
    return template


def _deserialize_tensor(
    template: Any, path: str, serialized: SerializedPytree, restored: dict[str, Tensor]
) -> Tensor:
    entry = serialized.metadata.get(path, {})
    if "alias_of" in entry:
        if entry["alias_of"] not in restored:
            raise SerializationError(f"no saved value for {path!r}")
        return restored[entry["alias_of"]]
    saved = serialized.tensors[path]
    if "strides" not in entry:
        tensor = saved.clone(memory_format=torch.contiguous_format)
    else:
        shape, strides = entry["shape"], entry["strides"]
        repeated = [size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True)]
        inner = [1 if r else size for r, size in zip(repeated, shape, strict=True)]
        tensor = torch.empty_strided(inner, strides, dtype=saved.dtype).copy_(saved).expand(shape)
    if isinstance(template, Tensor):
        tensor = tensor.to(template.device).requires_grad_(template.requires_grad)
    restored[path] = tensor
    return tensor


def _values_by_text_key(template: Any) -> dict[str, Any]:
    return {str(k): part for k, part in template.items()} if isinstance(template, Mapping) else {}


def _child_path(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
