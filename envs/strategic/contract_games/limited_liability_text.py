"""Turns of `limited_liability` as text."""

from __future__ import annotations

from collections.abc import Sequence

from mores.core.plain_text import compact, decimal, percent
from mores.core.turn_text import TurnText


def rules(
    role: str, effort_success: float, shirk_success: float, effort_cost: float, value: float
) -> str:
    """Rules of principal or agent."""
    chances = (
        f"Work succeeds with probability {percent(effort_success)} if the agent makes an effort, "
        f"which costs the agent {compact(effort_cost)}, and with {percent(shirk_success)} without "
        "effort."
    )
    if role == "principal":
        return (
            "In every round you offer all agents the same two wages: one after failure, one after "
            f"success. An agent may refuse. {chances} You do not see the effort. Your reward is "
            f"{compact(value)} for each success, less the wages."
        )
    chances = chances.replace("the agent makes", "you make").replace("the agent", "you")
    return (
        "In every round a principal offers you two wages: one after failure, one after success. "
        f"You may refuse. {chances} The principal does not see your effort, only success or "
        "failure. Your reward is the wage, less the cost of effort; 0 if you refuse."
    )


def principal_turn(successes: float, max_wage: float) -> TurnText:
    """Success in the last round, and the question for two wages."""
    limits = f"each from 0 to {compact(max_wage)}"
    return TurnText(
        f"In the last round {percent(successes)} of the agents had success.",
        f"State two numbers, {limits}: the wage after failure and the wage after success.",
        "numbers",
    )


def agent_turn(
    wages: Sequence[float], effort_success: float, shirk_success: float, effort_cost: float
) -> TurnText:
    """The offered wages, and the three decisions."""
    options = (
        "refuse: you get 0",
        f"accept and make no effort: success with probability {percent(shirk_success)}",
        f"accept and make an effort: success with probability {percent(effort_success)}, at a cost "
        f"of {compact(effort_cost)}",
    )
    failure, success = map(decimal, wages)
    situation = f"You are offered a wage of {failure} after failure and {success} after success."
    return TurnText(situation, "What do you do?", "choice", options, ordered=True)
