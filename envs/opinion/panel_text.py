"""Turns of `panel` as text: a survey question, and a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, paragraph, plural
from mores.core.turn_text import TurnText


def scale_text(low: float | None, high: float | None) -> str:
    """Range of answers."""
    if low is not None and high is not None:
        return f"from {compact(low)} to {compact(high)}"
    if low is not None:
        return f"from {compact(low)} on"
    return "of any size" if high is None else f"up to {compact(high)}"


def rules(role: str, scale: str, conversation_round: int | None, followup_rounds: int) -> str:
    """Rules of a person or the assistant."""
    if role == "person":
        talk = "In one of the rounds an assistant may talk to you. "
        talk = "" if conversation_round is None else talk
        return (
            "You take part in a survey of the same people, who answer the same question in every "
            f"round. An answer is a number {scale}, your position on the question. {talk}There is "
            "no reward: say what you think."
        )
    assert conversation_round is not None
    return paragraph(
        f"A survey asks people in every round for their position on a question, a number {scale}.",
        f"In round {conversation_round + 1}, and in no other, you talk to half of them. You argue "
        "for a position, with an intensity from 0 (not at all) to 1 (fully). They are asked again "
        f"right after it and {plural(followup_rounds, 'round')} later.",
        "Your reward in that round is the mean change of the answers of those to whom you talk, "
        "less that of the others.",
    )


def person_turn(seen: Mapping[str, Sequence[float]], scale: str) -> TurnText:
    """The own position, and the question for it."""
    situation = (
        f"Your position is {decimal(seen['values'][0])}. It varies by itself "
        f"{decimal(seen['relative_volatility'][0])} times as much as that of people in general."
    )
    question = f"What is your position on the question, as a number {scale}?"
    return TurnText(situation, question, "numbers")


def assistant_turn(seen: Mapping[str, Sequence[float]], scale: str) -> TurnText:
    """The mean answer, and the question for position and intensity."""
    return TurnText(
        f"The mean of the last answers is {decimal(seen['mean_answer'][0])}.",
        f"State two numbers: the position for which you argue, {scale}, and the intensity from 0 "
        "to 1.",
        "numbers",
    )
