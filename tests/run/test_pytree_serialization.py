"""Serialized policy states: restored exactly, or refused."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from mores.core import pytree
from mores.experiments.results.pytree_serialization import (
    SerializationError,
    SerializedPytree,
    deserialize,
    serialize,
    structurally_equal,
)
from tests.refusals import check_message


@dataclasses.dataclass(frozen=True)
class Node:
    first: Any
    second: Any


class Pair(NamedTuple):
    left: Any
    right: Any


def _through_files(parts: SerializedPytree) -> SerializedPytree:
    return SerializedPytree(load(save(parts.tensors)), json.loads(json.dumps(parts.metadata)))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return (
            left.dtype == right.dtype
            and left.stride() == right.stride()
            and torch.equal(left.nan_to_num(7.0), right.nan_to_num(7.0))
        )
    if type(left) is not type(right):
        return False
    if dataclasses.is_dataclass(left):
        names = [field.name for field in dataclasses.fields(left)]
        return all(_same(getattr(left, name), getattr(right, name)) for name in names)
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right or (left != left and right != right)


def _tensor(seed: int, kind: int) -> Tensor:
    normal = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    return [
        normal,
        normal.t(),
        normal[:, ::2],
        normal[:1].expand(5, 4),
        normal.to(torch.float16),
        (normal > 0),
        normal[0, 0].clone(),
        torch.full((2,), torch.nan),
        torch.zeros(0, 3, dtype=torch.int64),
        normal[1:2, :, None].expand(2, 4, 3),
        normal[:, :1].as_strided((3, 1), (4, 96)),
    ][kind]


LEAVES = st.one_of(
    st.builds(_tensor, st.integers(0, 9), st.integers(0, 10)),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=4),
)
NAMES = st.sampled_from(["a", "b/c", "b~1c", "~", ""])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Node, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(pytree.Persistent, inner),
        st.lists(inner, max_size=3),
        st.dictionaries(NAMES, inner, max_size=3),
    ),
    max_leaves=8,
)


@given(TREES)
def test_states_are_restored(state):
    assert _same(deserialize(state, _through_files(serialize(state, state))), state)


def test_lists_and_mappings_may_have_grown():
    template = pytree.Persistent(
        {"feedback": {}, "rows": [], "count": 0, "none": None, 3: torch.zeros(1)}
    )
    state = pytree.Persistent(
        {
            "feedback": {"reward": torch.ones(2)},
            "rows": [torch.ones(1), torch.zeros(2)],
            "count": 5,
            "none": torch.ones(1),
            3: torch.ones(1),
        }
    )
    restored = deserialize(template, _through_files(serialize(state, template)))
    assert _same(restored.value, state.value)


def test_shared_tensors_are_shared_again():
    """Learners update them in place."""
    shared = torch.zeros(3)
    state = Node({"a": shared, "b": shared}, torch.zeros(3))
    restored = deserialize(state, _through_files(serialize(state, state)))
    restored.first["a"].add_(1)
    assert restored.first["b"].tolist() == [1, 1, 1]
    assert restored.second.tolist() == [0, 0, 0]
    assert shared.tolist() == [0, 0, 0]


class Layout:
    def __init__(self, size: int, extra: Any = None) -> None:
        self.size, self.extra = size, extra


class Slots:
    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class Cached:
    def __init__(self, size: int) -> None:
        self.size = size

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.size


@dataclasses.dataclass(frozen=True)
class WithBuffer:
    value: Tensor
    buffer: Any = dataclasses.field(compare=False)


def test_uncompared_fields_are_not_saved_and_may_have_changed():
    state, template = WithBuffer(torch.ones(1), Layout(5)), WithBuffer(torch.zeros(1), Layout(1))
    restored = deserialize(template, serialize(state, template))
    assert restored.value.tolist() == [1] and restored.buffer is template.buffer


def test_cached_properties_are_not_compared():
    cached = Cached(3)
    assert cached.double == 6
    assert structurally_equal(cached, Cached(3)) and not structurally_equal(cached, Cached(4))


def test_descriptions_come_from_the_template_and_must_be_equal():
    state, template = Node(Layout(3), torch.ones(2)), Node(Layout(3), torch.zeros(2))
    restored = deserialize(template, serialize(state, template))
    assert restored.first is template.first and restored.second.tolist() == [1, 1]
    for other in (Layout(4), Layout(3, random.Random(1)), Node(1, 2), np.ones(2)):
        with pytest.raises(SerializationError):
            serialize(state, Node(other, torch.zeros(2)))


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (random.Random(1), random.Random(2), False),
        (np.arange(3), np.arange(3), True),
        (Slots(1), Slots(1), True),
        (Slots(1), Slots(2), False),
        (np.arange(3), np.arange(3.0), False),
        (Layout(1, [torch.ones(2)]), Layout(1, [torch.ones(2)]), True),
        (Layout(1, [torch.ones(2)]), Layout(1, [torch.zeros(2)]), False),
        (Layout(1, lambda x: x), Layout(1, lambda x: x + 1), False),
        (collections.deque([1]), collections.deque([2]), False),
        ((x for x in "a"), (x for x in "a"), False),  # undecidable
        ({1, 2}, {2, 1}, True),
        (bytearray(b"a"), bytearray(b"b"), False),
    ],
)
def test_structural_equality(left, right, equal):
    assert structurally_equal(left, right) is equal


def test_functions_are_compared_with_their_captured_values():
    def add(number: int) -> Any:
        return lambda x: x + number

    assert structurally_equal(Layout(1, add(1)), Layout(1, add(1)))
    assert not structurally_equal(Layout(1, add(1)), Layout(1, add(2)))
    cyclic, other = Layout(1), Layout(1)
    cyclic.extra, other.extra = cyclic, other
    assert structurally_equal(cyclic, other)


def test_missing_parts_are_named():
    state = Node(torch.ones(2), {"a": torch.ones(1)})
    parts = serialize(state, state)
    for path in list(parts.tensors):
        tensors = {p: t for p, t in parts.tensors.items() if p != path}
        with pytest.raises(SerializationError) as caught:
            deserialize(state, SerializedPytree(tensors, parts.metadata))
        assert repr(path) in str(caught.value)
        check_message(str(caught.value))
