"""Trees of tensors: dataclasses, dicts, tuples, lists. The first dimension of tensors is the world.

Learned parameters belong to no single world and are wrapped in `Persistent`: they are saved and
restored like the rest, and do not change when worlds are reset.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Persistent:
    """A subtree whose tensors have another first dimension than the world and outlive episodes."""

    value: Any


class Growing:
    """Base of dataclasses with fields that may be saved with longer tensors than a new object has.

    Attributes:
        growing_fields: their names; plain mappings of tensors in them are restored with all saved
            names.
    """

    growing_fields: ClassVar[tuple[str, ...]] = ()


def tree_map(
    function: Callable[..., Tensor], tree: Tree, *others: Tree, include_persistent: bool = False
) -> Tree:
    """Apply a function to corresponding tensors of one or more trees of equal structure.

    Leaves that are not tensors (a number, a description) are taken from the first tree, and so are
    `Persistent` subtrees unless `include_persistent`.
    """
    first: Any = tree
    if isinstance(first, Tensor):
        return function(first, *others)  # type: ignore[return-value]
    if first is None or (isinstance(first, Persistent) and not include_persistent):
        return tree
    children = _children(first)
    if not children:
        return tree
    other_children = [_children(other) for other in others]
    if any(len(each) != len(children) for each in other_children) and not flatten(tree):
        return tree  # descriptions may differ in size: an observation space with other parts
    new: dict[str, Any] = {}
    for (name, part), *rest in zip(children, *other_children, strict=True):
        if isinstance(part, Tensor):
            new[name] = function(part, *[other for _, other in rest])
        elif part is None:
            new[name] = None
        else:
            parts = [other for _, other in rest]
            new[name] = tree_map(function, part, *parts, include_persistent=include_persistent)
    return _rebuild(first, children, new)


def where(mask: Tensor, one: Tree, other: Tree) -> Tree:
    """Tree with `one` in the worlds of the mask `[world]` and `other` elsewhere.

    `Persistent` subtrees are taken from `other`: callers pass the newer tree there.
    """

    def select(b: Tensor, a: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (a.dim() - 1)), a, b)

    return tree_map(select, other, one)


def scatter(tree: Tree, updates: Tree, mask: Tensor) -> Tree:
    """A copy of `tree` with the worlds of the mask replaced by those of `updates`, in order.

    Tensors `[world, part]` with different numbers of parts (ties of a graph) are padded with zeros.
    Leaves that are not tensors, and `Persistent` subtrees, are taken from `updates`: a policy that
    keeps learned parameters overrides `Policy.on_episode_start`.
    """
    first = _first_tensor(updates)
    rows = 0 if first is None else first.shape[0]
    if rows in (0, len(mask)):  # nothing of a world, or all worlds
        return updates
    # the number of rows is known: no read of the mask from a device
    return replace_rows(tree, updates, torch.nonzero_static(mask, size=rows)[:, 0])


def replace_rows(tree: Tree, updates: Tree, indices: Tensor, rows: Tensor | None = None) -> Tree:
    """`scatter` to the worlds of these indices. Tensors that are one in both trees remain one.

    Args:
        tree: of all worlds.
        updates: what replaces them.
        indices: of the worlds in `tree`.
        rows: of the worlds in `updates`; default: all, in order.
    """
    first = _first_tensor(tree)
    if first is None or first.shape[0] == indices.shape[0]:  # nothing of a world, or all worlds
        return updates if rows is None else take_rows(updates, rows)
    replaced: dict[tuple[int, int], Tensor] = {}
    taken: dict[int, Tensor] = {}

    def replace(new: Tensor, old: Tensor) -> Tensor:
        key = id(new), id(old)  # both trees are alive: numbers of objects are unique
        if (known := replaced.get(key)) is not None:
            return known
        part = new
        if rows is not None:
            if key[0] not in taken:
                taken[key[0]] = new.index_select(0, rows)
            part = taken[key[0]]
        if part.dim() == 2 and part.shape[1] != old.shape[1]:
            size = max(part.shape[1], old.shape[1])
            part, old = (torch.nn.functional.pad(x, (0, size - x.shape[1])) for x in (part, old))
        replaced[key] = result = old.index_copy(0, indices, part)
        return result

    return tree_map(replace, updates, tree)


def take_rows(tree: Tree, indices: Tensor) -> Tree:
    """The worlds of these indices. Tensors that are one remain one."""
    taken: dict[int, Tensor] = {}

    def take(part: Tensor) -> Tensor:
        if id(part) not in taken:
            taken[id(part)] = part.index_select(0, indices)
        return taken[id(part)]

    return tree_map(take, tree)


def flatten(tree: Any, prefix: str = "", include_persistent: bool = True) -> dict[str, Tensor]:
    """Every tensor by its path (`people/values`), for saving."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    if isinstance(tree, Persistent) and not include_persistent:
        return {}
    tensors: dict[str, Tensor] = {}
    for name, part in _children(tree):
        path = f"{prefix}/{name}" if prefix else name
        tensors |= flatten(part, path, include_persistent)
    return tensors


def is_of_worlds(tree: Any) -> bool:
    """Whether a tree has tensors, and none of them is in a `Persistent` subtree."""
    tensors = flatten(tree)
    return bool(tensors) and tensors.keys() == flatten(tree, include_persistent=False).keys()


def _first_tensor(tree: Any) -> Tensor | None:
    """A tensor that leads with the world dimension, if there is any."""
    if isinstance(tree, Tensor):
        return tree
    if tree is None or isinstance(tree, (Persistent, str, int, float)):
        return None
    for _, part in _children(tree):
        if (found := _first_tensor(part)) is not None:
            return found
    return None


def restore(tree: Tree, saved: Mapping[str, Tensor], prefix: str = "") -> Tree:
    """A tree with the structure of `tree` and the saved tensors.

    Fields of `Growing` dataclasses may be saved with longer tensors, or with `[world, part]` of
    another number of parts.

    Raises:
        KeyError: a tensor was not saved.
        ValueError: it was saved with another shape or dtype.
    """
    return _restore(tree, saved, prefix, None)


def _restore(
    tree: Any, saved: Mapping[str, Tensor], path: str, growing_device: torch.device | None
) -> Any:
    """`growing_device`: device of the enclosing growing field; `None` outside of one."""
    if isinstance(tree, Tensor):
        return _restore_tensor(tree, saved, path, growing_device is not None)
    parts = _children(tree)
    plain = isinstance(tree, Mapping) and all(isinstance(part, Tensor) for _, part in parts)
    if growing_device is not None and plain:
        prefix = f"{path}/"
        names = [name for name in saved if name.startswith(prefix)]
        return {n.removeprefix(prefix): saved[n].to(growing_device).clone() for n in names}
    growing = tree.growing_fields if isinstance(tree, Growing) else ()
    device = next((t.device for t in flatten(tree).values()), None) if growing else None
    new = {
        name: _restore(
            part,
            saved,
            f"{path}/{name}" if path else name,
            device if name in growing else growing_device,
        )
        for name, part in parts
    }
    return _rebuild(tree, parts, new)


def _restore_tensor(old: Tensor, saved: Mapping[str, Tensor], path: str, may_grow: bool) -> Tensor:
    """The saved tensor at a path, checked against the current one."""
    if path not in saved:
        raise KeyError(f"nothing saved for {path!r}")
    new = saved[path]
    longer = new.shape[1:] == old.shape[1:] and new.numel() >= old.numel()
    ragged = new.shape[:1] == old.shape[:1] and new.dim() == old.dim() == 2
    other_size = may_grow and (longer or ragged)
    if (new.shape != old.shape and not other_size) or new.dtype != old.dtype:
        raise ValueError(
            f"{path!r} was saved as {tuple(new.shape)} {new.dtype}, "
            f"expected {tuple(old.shape)} {old.dtype}"
        )
    return new.to(old.device).clone()


def _rebuild(tree: Any, old: list[tuple[str, Any]], children: Mapping[str, Any]) -> Any:
    """A copy of `tree` with other children; `tree` itself if none differs."""
    if all(children[name] is part for name, part in old):
        return tree
    if _field_names(type(tree)):
        if _all_in_init(type(tree)):
            return type(tree)(**children)  # `replace` costs more
        return dataclasses.replace(tree, **children)
    if isinstance(tree, Mapping):
        return dict(zip(tree, children.values(), strict=True))
    sequence_type: Any = type(tree)
    values = children.values()
    return sequence_type(*values) if hasattr(tree, "_fields") else sequence_type(values)


def _children(tree: Any) -> list[tuple[str, Any]]:
    if names := _field_names(type(tree)):
        return [(name, getattr(tree, name)) for name in names]
    if tree is None or isinstance(tree, type):
        return []
    if isinstance(tree, Mapping):
        return [(str(name), part) for name, part in tree.items()]
    if isinstance(tree, (tuple, list)):
        return [(str(i), part) for i, part in enumerate(tree)]
    return []


@functools.cache
def _all_in_init(kind: type) -> bool:
    """Whether all fields of a dataclass are arguments of its `__init__`."""
    return all(field.init for field in dataclasses.fields(kind))


@functools.cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Names of the fields of a dataclass; none of other classes."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind))
