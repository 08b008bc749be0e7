"""Memories in parts: what comes back is what was taken apart, or nothing is said to come back."""

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
)
from mores.experiments.results.structural_equality import structurally_equal
from tests.refusals import check_message


@dataclasses.dataclass(frozen=True)
class Part:
    one: Any
    other: Any


class Pair(NamedTuple):
    left: Any
    right: Any


def _through_files(found: SerializedPytree) -> SerializedPytree:
    return SerializedPytree(load(save(found.tensors)), json.loads(json.dumps(found.metadata)))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return (
            one.dtype == other.dtype
            and one.stride() == other.stride()
            and torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
        )
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(_same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (one != one and other != other)


def _tensor(seed: int, kind: int) -> Tensor:
    made = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    return [
        made,
        made.t(),
        made[:, ::2],
        made[:1].expand(5, 4),
        made.to(torch.float16),
        (made > 0),
        made[0, 0].clone(),
        torch.full((2,), torch.nan),
        torch.zeros(0, 3, dtype=torch.int64),
        made[1:2, :, None].expand(2, 4, 3),
        made[:, :1].as_strided((3, 1), (4, 96)),
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
        st.builds(Part, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(pytree.Persistent, inner),
        st.lists(inner, max_size=3),
        st.dictionaries(NAMES, inner, max_size=3),
    ),
    max_leaves=8,
)


@given(TREES)
def test_whatever_a_memory_is_made_of_comes_back(memory):
    assert _same(deserialize(memory, _through_files(serialize(memory, memory))), memory)


def test_lists_and_mappings_may_have_grown_since_the_start():
    blank = pytree.Persistent(
        {"heard": {}, "rows": [], "count": 0, "none": None, 3: torch.zeros(1)}
    )
    now = pytree.Persistent(
        {
            "heard": {"pay": torch.ones(2)},
            "rows": [torch.ones(1), torch.zeros(2)],
            "count": 5,
            "none": torch.ones(1),
            3: torch.ones(1),
        }
    )
    found = deserialize(blank, _through_files(serialize(now, blank)))
    assert _same(found.held, now.value)


def test_what_was_one_tensor_is_one_again():
    """Learners change theirs in place: who shared one before must share it after."""
    shared = torch.zeros(3)
    memory = Part({"mine": shared, "yours": shared}, torch.zeros(3))
    found = deserialize(memory, _through_files(serialize(memory, memory)))
    found.one["mine"].add_(1)
    assert found.one["yours"].tolist() == [1, 1, 1]
    assert found.other.tolist() == [0, 0, 0]
    assert shared.tolist() == [0, 0, 0]


class Maker:
    def __init__(self, size: int, more: Any = None) -> None:
        self.size, self.more = size, more


class Cached:
    def __init__(self, size: int) -> None:
        self.size = size

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.size


@dataclasses.dataclass(frozen=True)
class Works:
    held: Tensor
    room: Any = dataclasses.field(compare=False)


def test_room_to_work_in_is_not_saved_and_may_have_changed():
    now, blank = Works(torch.ones(1), Maker(5)), Works(torch.zeros(1), Maker(1))
    found = deserialize(blank, serialize(now, blank))
    assert found.held.tolist() == [1] and found.room is blank.room


def test_what_was_worked_out_from_a_description_is_no_part_of_it():
    one, other = Cached(3), Cached(3)
    assert one.double == 6
    assert structurally_equal(one, other) and not structurally_equal(one, Cached(4))


def test_descriptions_are_the_blank_ones_and_must_say_the_same():
    memory, blank = Part(Maker(3), torch.ones(2)), Part(Maker(3), torch.zeros(2))
    found = deserialize(blank, serialize(memory, blank))
    assert found.one is blank.one and found.other.tolist() == [1, 1]
    for other in (Maker(4), Maker(3, random.Random(1)), Part(1, 2), np.ones(2)):
        with pytest.raises(SerializationError):
            serialize(memory, Part(other, torch.zeros(2)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (random.Random(1), random.Random(1), True),
        (random.Random(1), random.Random(2), False),
        (np.arange(3), np.arange(3), True),
        (np.arange(3), np.arange(3.0), False),
        (np.random.default_rng(1), np.random.default_rng(1), True),
        (Maker(1, [torch.ones(2)]), Maker(1, [torch.ones(2)]), True),
        (Maker(1, [torch.ones(2)]), Maker(1, [torch.zeros(2)]), False),
        (Maker(1, lambda x: x), Maker(1, lambda x: x + 1), False),
        (collections.deque([1]), collections.deque([2]), False),
        (iter([1]), iter([1]), True),
        ((x for x in "a"), (x for x in "a"), False),  # nobody can know
        ({1, 2}, {2, 1}, True),
        (bytearray(b"a"), bytearray(b"b"), False),
    ],
)
def test_alike(one, other, same):
    assert structurally_equal(one, other) is same


def test_functions_are_alike_with_what_they_hold():
    def adding(number: int) -> Any:
        return lambda x: x + number

    assert structurally_equal(Maker(1, adding(1)), Maker(1, adding(1)))
    assert not structurally_equal(Maker(1, adding(1)), Maker(1, adding(2)))
    loop = Maker(1)
    loop.more, twin = loop, Maker(1)
    twin.more = twin
    assert structurally_equal(loop, twin)


def test_parts_that_are_not_there_are_said_to_be_missing():
    memory = Part(torch.ones(2), {"a": torch.ones(1)})
    found = serialize(memory, memory)
    for path in list(found.tensors):
        left = SerializedPytree(
            {p: t for p, t in found.tensors.items() if p != path}, found.metadata
        )
        with pytest.raises(SerializationError) as found_out:
            deserialize(memory, left)
        assert repr(path) in str(found_out.value)
        check_message(str(found_out.value))
