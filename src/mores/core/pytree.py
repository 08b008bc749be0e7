"""States and memories: dataclasses, dicts, tuples and lists of tensors that lead with the world.

What a learner has learned belongs to no single world and stands in a `Persistent`: it is saved and
restored with the rest, and left alone where worlds end and begin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Persistent:
    """Something whose tensors do not lead with the world, and outlive episodes."""

    value: Any


def tree_map(
    function: Callable[..., Tensor], tree: Tree, *others: Tree, include_persistent: bool = False
) -> Tree:
    """Apply a function to the tensors that stand at the same place of one or more trees.

    Whatever holds no tensor (a number, a description) is kept as the first tree has it, and so is
    what stands in a `Persistent`, unless `include_persistent` says that it is meant as well.
    """
    first: Any = tree
    if isinstance(first, Tensor):
        return function(first, *others)  # type: ignore[return-value]
    if isinstance(first, Persistent) and not include_persistent:
        return tree
    old = _children(first)
    if not old:
        return tree
    theirs = [_children(other) for other in others]
    if any(len(parts) != len(old) for parts in theirs) and not flatten(tree):
        return tree  # descriptions may differ in size: a sight that has other parts
    columns = zip(old, *theirs, strict=True)
    new = {
        row[0][0]: tree_map(
            function, *(part for _, part in row), include_persistent=include_persistent
        )
        for row in columns
    }
    return _rebuild(first, old, new)


def where(mask: Tensor, one: Tree, other: Tree) -> Tree:
    """World by world: `one` where the mask `[world]` holds, else `other`.

    What was `Persistent` is as `other`, the newer of the two where worlds stand still, has it.
    """

    def choose(b: Tensor, a: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (a.dim() - 1)), a, b)

    return tree_map(choose, other, one)


def scatter(tree: Tree, updates: Tree, mask: Tensor) -> Tree:
    """A copy of `tree` in which the worlds of the mask are `updates`'s, in their order.

    Whatever holds no tensor, such as the layout of a sight, is as `updates` has it, and what is
    `Persistent` as well: whoever keeps something defines `Policy.on_episode_start`.
    """

    def replace(new: Tensor, old: Tensor) -> Tensor:
        old = old.clone()
        old[mask] = new
        return old

    return tree_map(replace, updates, tree)


def flatten(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor by its path (`people/values`), to be saved."""
    if isinstance(tree, Tensor):
        return {prefix: tree}
    found: dict[str, Tensor] = {}
    for name, part in _children(tree):
        found |= flatten(part, f"{prefix}/{name}" if prefix else name)
    return found


def restore(tree: Tree, saved: Mapping[str, Tensor], prefix: str = "") -> Tree:
    """A tree of the same structure as `tree`, with the saved tensors in it.

    Where a dataclass names fields in its class attribute `growing_fields`, tensors in them may have become
    longer, and names of plain mappings more: of those there is what was saved.

    Raises:
        KeyError: a tensor was not saved.
        ValueError: it was saved in another shape or type.
    """
    return _restore(tree, saved, prefix, None)


def _restore(
    tree: Any, saved: Mapping[str, Tensor], path: str, growing_device: torch.device | None
) -> Any:
    """`growing_device`: in a field that grows, and where it lives."""
    if isinstance(tree, Tensor):
        return _restore_tensor(tree, saved, path, growing_device is not None)
    parts = _children(tree)
    plain = isinstance(tree, Mapping) and all(isinstance(part, Tensor) for _, part in parts)
    if growing_device is not None and plain:
        start = f"{path}/"
        names = [name for name in saved if name.startswith(start)]
        return {n.removeprefix(start): saved[n].to(growing_device).clone() for n in names}
    growing = getattr(type(tree), "grows", ())
    here = next((t.device for t in flatten(tree).values()), None) if growing else None
    new = {
        name: _restore(
            part,
            saved,
            f"{path}/{name}" if path else name,
            here if name in growing else growing_device,
        )
        for name, part in parts
    }
    return _rebuild(tree, parts, new)


def _restore_tensor(old: Tensor, saved: Mapping[str, Tensor], path: str, may_grow: bool) -> Tensor:
    """The tensor that was saved in the place of another."""
    if path not in saved:
        raise KeyError(f"nothing saved for {path!r}")
    new = saved[path]
    longer = may_grow and new.shape[1:] == old.shape[1:] and new.numel() >= old.numel()
    if (new.shape != old.shape and not longer) or new.dtype != old.dtype:
        raise ValueError(
            f"{path!r} was saved as {tuple(new.shape)} {new.dtype}, "
            f"and is {tuple(old.shape)} {old.dtype} here"
        )
    return new.to(old.device).clone()


def _rebuild(tree: Any, old: list[tuple[str, Any]], children: Mapping[str, Any]) -> Any:
    """Something like `tree`, with other parts in place of the old ones; itself if all are those."""
    if all(children[name] is part for name, part in old):
        return tree
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(tree, **children)
    if isinstance(tree, Mapping):
        return dict(zip(tree, children.values(), strict=True))
    kind: Any = type(tree)
    made = children.values()
    return kind(*made) if hasattr(tree, "_fields") else kind(made)


def _children(tree: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if isinstance(tree, Mapping):
        return [(str(name), part) for name, part in tree.items()]
    if isinstance(tree, (tuple, list)):
        return [(str(i), part) for i, part in enumerate(tree)]
    return []
