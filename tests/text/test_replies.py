"""Replies are data: whatever they contain, they give an action of the space or none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mores.core.plain_text import compact, decimal, listed, percent, plural
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part, Space
from mores.core.turn_text import (
    TurnText,
    decode_message,
    generic_turn,
    message_space,
    parse_action,
    parse_probabilities,
    written_turn,
)
from tests.cases import scaled
from tests.refusals import refused

SPACES = (
    Discrete(3),
    MultiDiscrete((2, 3)),
    Box.of(rate=Part(1, 0.0, 1.0), free=1),
    message_space(8),
)
NUMBERS = st.floats().map(str) | st.integers().map(str) | st.sampled_from(["1", "2", "-0", "1e999"])
REPLIES = st.text() | st.lists(NUMBERS, max_size=4).map(" ".join) | st.lists(NUMBERS).map(",".join)


def is_in(space: Space, action: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Whether an action is in a space, and legal."""
    if isinstance(space, Discrete):
        option = int(action)
        return 0 <= option < space.num_options and (mask is None or bool(mask[option]))
    if isinstance(space, Box):
        bounded = zip(action.tolist(), space.low, space.high, strict=True)
        return all(low <= x <= high for x, low, high in bounded)
    pairs = zip(action.tolist(), space.num_options, strict=True)
    return all(0 <= option < count for option, count in pairs)


@settings(max_examples=scaled(600), deadline=None)
@given(REPLIES, st.sampled_from(SPACES), st.booleans())
def test_any_reply_is_an_action_or_none(reply: str, space: Space, masked: bool) -> None:
    mask = torch.tensor([True, False, True]) if masked and isinstance(space, Discrete) else None
    action = parse_action(space, reply, mask)
    assert action is None or is_in(space, action, mask)


def test_probabilities_of_the_options_of_a_turn() -> None:
    space = Box.of(answer=Part(3, 0.0, 1.0))
    action = parse_probabilities(space, "0.25, 0.75", 2)
    assert action is not None and action.tolist() == [0.25, 0.75, 0.0]
    assert parse_probabilities(space, "0.25 0.75 0", 2) is None
    with refused("wrong_shape", path="options"):
        parse_probabilities(space, "0 0 0 1", 4)


@settings(max_examples=scaled(300), deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_messages_keep_their_characters(text: str) -> None:
    """A message is the longest beginning of whole characters that fits."""
    action = parse_action(message_space(8), text)
    assert action is not None
    kept = decode_message(action)
    assert text.startswith(kept) and len(kept.encode()) <= 8
    assert kept == text or len((kept + text[len(kept)]).encode()) > 8


def test_written_turn() -> None:
    """Legal options with their numbers, and the form of the reply."""
    turn = TurnText("It rains.", "What do you take?", "choice", ("hat", "coat", "nothing"))
    assert written_turn(turn, torch.tensor([True, False, True])).splitlines() == [
        "It rains.",
        "What do you take?",
        "1. hat",
        "3. nothing",
        "Answer with the number of an option, and nothing else.",
    ]
    message = generic_turn(message_space(9), Box.of(seen=1), torch.tensor([0.5]))
    assert message.form == "message"
    assert written_turn(message) == "seen: 0.5\nWrite a message of at most 9 bytes."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (decimal(-0.001), "0.00"),
        (decimal(1.005, 1), "1.0"),
        (compact(40000.0), "40,000"),
        (compact(0.5), "0.5"),
        (compact(-1234.56), "-1,235"),
        (compact(1 / 3), "0.3333"),
        (compact(-0.0), "0"),
        (compact(2e-12), "2e-12"),
        (compact(float("inf")), "inf"),
        (compact(1e6), "1,000,000"),
        (percent(0.025), "2.5 %"),
        (listed([]), ""),
        (listed(["a", "b", "c"]), "a, b and c"),
        (listed(["a", "b"], "or"), "a or b"),
        (plural(1, "person", "people"), "1 person"),
        (plural(1200, "round"), "1,200 rounds"),
    ],
)
def test_plain_text(text: str, expected: str) -> None:
    assert text == expected
