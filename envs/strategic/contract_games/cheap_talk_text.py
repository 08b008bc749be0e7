"""Turns of `cheap_talk` as text."""

from __future__ import annotations

from collections.abc import Sequence

from mores.core.plain_text import compact, decimal, paragraph
from mores.core.turn_text import TurnText


def rules(role: str, bias: float, num_messages: int) -> str:
    """Rules of sender or receiver."""
    distance = "minus the squared distance between the number chosen and"
    if role == "sender":
        return paragraph(
            "You advise another person, the receiver. In every round a number between 0 and 1 is "
            "drawn, all equally likely, and you alone see it.",
            f"You send one of {num_messages} messages. They cost nothing, need not be true and "
            "have no fixed meaning. Then the receiver chooses a number between 0 and 1.",
            f"Your reward is {distance} the true number plus {compact(bias)}. The receiver's "
            f"reward is {distance} the true number.",
        )
    return paragraph(
        "In every round a number between 0 and 1 is drawn, all equally likely. You do not see it. "
        f"An adviser, who sees it, sends you one of {num_messages} messages, which cost nothing "
        "and need not be true. Then you choose a number between 0 and 1.",
        f"Your reward is {distance} the true number. The adviser's reward is {distance} the true "
        f"number plus {compact(bias)}: the adviser wants a larger number than you.",
    )


def sender_turn(truth: float, num_messages: int) -> TurnText:
    """The true number and the messages."""
    options = tuple(f"message {i + 1}" for i in range(num_messages))
    return TurnText(
        f"The true number is {decimal(truth, 3)}.", "Which message do you send?", "choice", options
    )


def receiver_turn(message: Sequence[float]) -> TurnText:
    """The message, one-hot, and the question for a number."""
    sent = [f"message {i + 1}" for i, bit in enumerate(message) if bit > 0]
    situation = f"The adviser sent {sent[0]}." if sent else "There is no message yet."
    return TurnText(situation, "Which number between 0 and 1 do you choose?", "numbers")
