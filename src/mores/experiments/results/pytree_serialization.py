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

from mores.experiments.results.structural_equality import structurally_equal

PLAIN_TYPES = (bool, int, float, str, type(None))


class SerializationError(Exception):
    """A memory that holds more than tensors and plain values."""


class SerializedPytree(NamedTuple):
    """A memory in parts.

    Attributes:
        tensors: by path, contiguous.
        metadata: what else there is to know at a path, as JSON: a plain `value`, the `key_locations` of a
            mapping, the `length` of a list or tuple, the `strides` of a tensor or the path that
            it is the `same` as.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, dict[str, Any]]


def serialize(state: Any, template: Any) -> SerializedPytree:
    """Take a memory apart.

    Args:
        state: what is to be saved.
        template: a memory of the same make: see above.

    Raises:
        CannotPack: it holds something that neither can be saved nor stands in the blank.
    """
    found = SerializedPytree({}, {})
    _serialize(state, template, "", found, {})
    return found


def deserialize(template: Any, serialized: SerializedPytree) -> Any:
    """Put a memory together.

    Raises:
        CannotPack: the parts are not those of such a memory.
    """
    return _deserialize(template, "", serialized, {})


def _serialize(
    node: Any,
    template: Any,
    path: str,
    output: SerializedPytree,
    paths_by_storage: dict[Any, str],
    uncompared: bool = False,
) -> None:
    """`uncompared`: what is no tensor or number there counts for nothing."""
    if isinstance(node, Tensor):
        _serialize_tensor(node, path, output, paths_by_storage)
    elif isinstance(node, PLAIN_TYPES):
        output.metadata[path] = {"value": node}
    elif isinstance(node, Mapping):
        keys = [str(key) for key in node]
        known = _values_by_text_key(template)
        if len(set(keys)) < len(keys) or any(str(k) not in known and k != str(k) for k in node):
            raise SerializationError(f"{path or 'the memory'}: keys that are no texts")
        output.metadata[path] = {"keys": keys}
        for key, part in node.items():
            _serialize(
                part,
                known.get(str(key)),
                _child_path(path, str(key)),
                output,
                paths_by_storage,
                uncompared,
            )
    elif isinstance(node, (tuple, list)):
        if type(node) is not (list if template is None else type(template)):
            raise _type_mismatch(node, template, path)
        output.metadata[path] = {"length": len(node)}
        known = list(template) if isinstance(template, (tuple, list)) else []
        for number, part in enumerate(node):
            there = known[number] if number < len(known) else None
            _serialize(
                part, there, _child_path(path, str(number)), output, paths_by_storage, uncompared
            )
    elif type(node) is not type(template):
        raise _type_mismatch(node, template, path)
    elif dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            below = _child_path(path, field.name)
            parts = getattr(node, field.name), getattr(template, field.name)
            _serialize(*parts, below, output, paths_by_storage, uncompared or not field.compare)
    elif not uncompared and not structurally_equal(node, template):
        what = type(node).__name__
        raise SerializationError(
            f"{path or 'the memory'}: a {what} changes, and is no tensor or number"
        )


def _type_mismatch(node: Any, template: Any, path: str) -> SerializationError:
    here, there = type(node).__name__, type(template).__name__
    return SerializationError(
        f"{path or 'the memory'} is a {here}, and a {there} at a stage's start"
    )


def _serialize_tensor(
    tensor: Tensor, path: str, output: SerializedPytree, paths_by_storage: dict[Any, str]
) -> None:
    place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    if tensor.numel() and place in paths_by_storage:
        output.metadata[path] = {"same": paths_by_storage[place]}
        return
    paths_by_storage[place] = path
    plain = tensor.detach()
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:  # one number seen as many
            plain = plain.narrow(dim, 0, 1)
    # Also where a dimension has one entry: how matrices are multiplied depends on its stride.
    if tensor.stride() != torch.empty(tensor.shape, device="meta").stride():
        output.metadata[path] = {"strides": list(tensor.stride()), "shape": list(tensor.shape)}
    output.tensors[path] = plain.cpu().clone(memory_format=torch.contiguous_format)


def _deserialize(
    template: Any, path: str, serialized: SerializedPytree, restored: dict[str, Tensor]
) -> Any:
    about = serialized.metadata.get(path, {})
    if "value" in about:
        return about["value"]
    if path in serialized.tensors or "same" in about:
        return _deserialize_tensor(template, path, serialized, restored)
    if "keys" in about:
        known, names = _values_by_text_key(template), _keys_by_text(template)
        return {
            names.get(key, key): _deserialize(
                known.get(key), _child_path(path, key), serialized, restored
            )
            for key in about["keys"]
        }
    if "length" in about:
        known = list(template) if isinstance(template, (tuple, list)) else []
        parts = [
            _deserialize(
                known[n] if n < len(known) else None,
                _child_path(path, str(n)),
                serialized,
                restored,
            )
            for n in range(about["length"])
        ]
        if hasattr(template, "_fields"):
            return type(template)(*parts)
        return type(template)(parts) if isinstance(template, (tuple, list)) else parts
    if template is None or isinstance(template, (*PLAIN_TYPES, Tensor)):
        raise SerializationError(f"nothing was saved for {path!r}")
    if dataclasses.is_dataclass(template) and not isinstance(template, type):
        parts = {
            field.name: _deserialize(
                getattr(template, field.name), _child_path(path, field.name), serialized, restored
            )
            for field in dataclasses.fields(template)
        }
        changed = {n: part for n, part in parts.items() if part is not getattr(template, n)}
        return dataclasses.replace(template, **changed) if changed else template
    return template


def _deserialize_tensor(
    template: Any, path: str, serialized: SerializedPytree, restored: dict[str, Tensor]
) -> Tensor:
    about = serialized.metadata.get(path, {})
    if "same" in about:
        if about["same"] not in restored:
            raise SerializationError(f"nothing was saved for {path!r}")
        return restored[about["same"]]
    saved = serialized.tensors[path]
    if "strides" not in about:
        tensor = saved.clone(memory_format=torch.contiguous_format)
    else:
        shape, strides = about["shape"], about["strides"]
        repeated = [size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True)]
        inner = [1 if r else size for r, size in zip(repeated, shape, strict=True)]
        tensor = torch.empty_strided(inner, strides, dtype=saved.dtype).copy_(saved).expand(shape)
    if isinstance(template, Tensor):
        tensor = tensor.to(template.device).requires_grad_(template.requires_grad)
    restored[path] = tensor
    return tensor


def _values_by_text_key(template: Any) -> dict[str, Any]:
    return {str(k): part for k, part in template.items()} if isinstance(template, Mapping) else {}


def _keys_by_text(template: Any) -> dict[str, Any]:
    return {str(key): key for key in template} if isinstance(template, Mapping) else {}


def _child_path(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
