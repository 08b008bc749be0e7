"""Turns of `screening` as text."""

from __future__ import annotations

from collections.abc import Sequence

from mores.core.plain_text import compact, decimal, listed, percent
from mores.core.turn_text import TurnText


def rules(role: str, low_cost: float, high_cost: float, low_share: float) -> str:
    """Rules of principal or agent."""
    costs = (
        f"The cost of a unit is {compact(low_cost)} with probability {percent(low_share)}, else "
        f"{compact(high_cost)}, drawn anew in every round"
    )
    if role == "principal":
        return (
            "In every round you post a menu of two items. An item is a quantity that an agent "
            "delivers and the payment that it gets for it. Each agent takes one item or none. "
            f"{costs}; only the agent knows it. For each item that is taken your reward is 2 times "
            "the square root of the quantity, less the payment."
        )
    return (
        "In every round a principal posts a menu of two items. An item is a quantity that you "
        f"deliver and the payment that you get for it. You take one item or none. {costs}; only "
        "you know it. Your reward is the payment, less your cost times the quantity; 0 if you take "
        "none."
    )


def principal_turn(taken: Sequence[float], max_quantity: float, max_payment: float) -> TurnText:
    """Items taken in the last round, and the question for a menu."""
    shares = listed([f"item {i + 1} by {percent(share)}" for i, share in enumerate(taken)])
    question = (
        f"State four numbers: the quantities of item 1 and item 2, each from 0 to "
        f"{compact(max_quantity)}, then the payments of item 1 and item 2, each from 0 to "
        f"{compact(max_payment)}."
    )
    return TurnText(f"In the last round agents took {shares}.", question, "numbers")


def agent_turn(cost: float, quantities: Sequence[float], payments: Sequence[float]) -> TurnText:
    """The own cost, and the items with the income that they leave."""
    options = ["take none: you get 0"]
    for i, (quantity, payment) in enumerate(zip(quantities, payments, strict=True)):
        income = decimal(payment - cost * quantity)
        options.append(
            f"take item {i + 1}: deliver {decimal(quantity)} for a payment of {decimal(payment)}, "
            f"which leaves you {income}"
        )
    situation = f"Your cost of a unit is {decimal(cost)}."
    return TurnText(situation, "What do you take?", "choice", tuple(options))
