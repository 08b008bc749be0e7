"""Turns of `inspection` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import decimal
from mores.core.turn_text import TurnText


def rules(role: str) -> str:
    """Rules of inspector or agent; the amounts are part of every turn."""
    if role == "principal":
        return (
            "You are an inspector. In every round an agent complies with a rule or violates it, "
            "and at the same time you inspect the agent or not. An inspection detects every "
            "violation. Your reward is minus your losses and costs."
        )
    return (
        "In every round you comply with a rule or violate it. At the same time an inspector "
        "decides whether to inspect you. An inspection detects every violation. Your reward is "
        "your gain, less your fines."
    )


def turn(role: str, seen: Mapping[str, Sequence[float]]) -> TurnText:
    """Amounts of the game, and both decisions."""
    gain, fine, loss, cost = (
        decimal(seen[name][0]) for name in ("gain", "fine", "loss", "inspection_cost")
    )
    if role == "principal":
        situation = (
            f"A violation that is not inspected gives the agent {gain}, one that is inspected "
            f"costs the agent a fine of {fine}."
        )
        options = (
            f"do not inspect: you lose {loss} if the agent violates, nothing if not",
            f"inspect: it costs you {cost}, whatever the agent does",
        )
        return TurnText(situation, "Do you inspect?", "choice", options)
    situation = (
        f"An inspection costs the inspector {cost}; a violation that is not inspected costs the "
        f"inspector {loss}."
    )
    options = (
        "comply: you gain nothing and pay nothing",
        f"violate: you gain {gain} without an inspection, and pay a fine of {fine} with one",
    )
    return TurnText(situation, "What do you do?", "choice", options)
