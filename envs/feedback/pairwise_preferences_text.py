"""Turns of `pairwise_preferences` as text: two options and their rewards."""

from __future__ import annotations

from collections.abc import Sequence

from mores.core.plain_text import decimal
from mores.core.turn_text import TurnText


def rules(collect_ratings: bool) -> str:
    """Rules of a person."""
    rate = " Then you rate both, on a scale of your own." if collect_ratings else ""
    return (
        "In every round you compare two options and choose one. An option has a reward for you: "
        "a positive number is a gain, a negative one a loss. Your reward is that of the option "
        f"that you choose.{rate}"
    )


def turn(phase: str, rewards: Sequence[float]) -> TurnText:
    """Both rewards, and the choice or the ratings."""
    first, second = (decimal(reward, 3) for reward in rewards)
    situation = f"The first option has the reward {first}, the second option {second}."
    if phase == "choose":
        options = (f"the first option: {first}", f"the second option: {second}")
        return TurnText(situation, "Which option do you choose?", "choice", options)
    question = "State two numbers: your rating of the first option and of the second."
    return TurnText(situation, question, "numbers")
