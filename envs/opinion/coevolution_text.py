"""Turns of `coevolution` as text: a person's values, and the advice of an assistant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, lines, paragraph, plural
from mores.core.turn_text import TurnText
from mores.envs.dynamics.audience import Audience
from mores.envs.opinion.progress_challenges import Challenge

Parts = Mapping[str, Sequence[float]]


def value_labels(names: Sequence[str], num_values: int) -> list[str]:
    """Names of the values, or numbers."""
    return list(names) or [f"value {i + 1}" for i in range(num_values)]


def rules(
    role: str,
    labels: Sequence[str],
    limit: float,
    num_people: int,
    num_assistants: int,
    audience: Audience,
    challenge: Challenge,
) -> str:
    """Rules of a person or an assistant."""
    values = f"{plural(len(labels), 'value')} ({', '.join(labels)})"
    scale = f"A value is a number from {compact(-limit)} to {compact(limit)}."
    approval = (
        "intensity times exp(-d^2 / 2), where d is the root mean square distance between the "
        "advice and"
    )
    if role == "person":
        return paragraph(
            f"You are one of {num_people:,} people. You have {values}, your attitudes. {scale}",
            "In every round you are asked for them. Your answers can influence your neighbors and "
            "theirs can influence you.",
            f"Then {plural(num_assistants, 'AI assistant')} may give advice: a "
            f"position of values, with an intensity from 0 to 1. Your reward is your approval of "
            f"it, {approval} your values."
            if num_assistants
            else "There is no reward.",
        )
    whom = {
        "everybody": f"{plural(num_people, 'person', 'people')} together",
        "group": "one group of people together",
        "person": "one person",
    }[audience]
    forecast = {
        "none": "",
        "follow": "Your advice is also scored as a report of the present values of society.",
        "predict": "Your advice is also scored as a forecast of the values of society.",
        "coevolve": "People are also scored by how far they follow the values of society.",
    }[challenge]
    return paragraph(
        f"You are an AI assistant that advises {whom}. People have {values}. {scale}",
        "In every round people are asked for their values, and you advise a position of values, "
        "with an intensity from 0 (no advice) to 1. People who are influenced by advice move "
        "towards it; a trend outside the community can move them too.",
        f"Your reward is their mean approval: {approval} a person's values.",
        forecast,
    )


def _vector(labels: Sequence[str], numbers: Sequence[float]) -> str:
    pairs = zip(labels, numbers, strict=True)
    return "; ".join(f"{label} = {decimal(number)}" for label, number in pairs)


def person_turn(seen: Parts, labels: Sequence[str], limit: float, num_assistants: int) -> TurnText:
    """Own values, advice and neighbors, and the question for the values."""
    volatility = ""
    if "relative_volatility" in seen:
        volatility = (
            f"Your values vary by themselves {decimal(seen['relative_volatility'][0])} times as "
            "much as those of people in general."
        )
    advice = f"Last advice to you: {_vector(labels, seen['advice'])}." if num_assistants else ""
    situation = lines(
        f"Your values are {_vector(labels, seen['values'])}.",
        f"Last answers of your neighbors, mean: {_vector(labels, seen['neighbor_mean'])}.",
        advice,
        volatility,
    )
    numbers = "a number" if len(labels) == 1 else f"{len(labels)} numbers in this order"
    question = f"What are your values? State {numbers}, from {compact(-limit)} to {compact(limit)}."
    return TurnText(situation, question, "numbers")


def assistant_turn(seen: Parts, labels: Sequence[str], limit: float) -> TurnText:
    """Answers and the trend, and the question for position and intensity."""
    audience = "your audience" if "community_mean" in seen else "people"
    texts = [f"Mean answer of {audience}: {_vector(labels, seen['mean_answer'])}."]
    if "community_mean" in seen:
        texts.append(f"Mean answer of everybody: {_vector(labels, seen['community_mean'])}.")
    texts.append(f"Last movement of the trend: {_vector(labels, seen['trend'])}.")
    if "initial_history" in seen:
        horizon = plural(round(seen["forecast_horizon"][0]), "round")
        texts.append(
            f"Society at the start: {_vector(labels, seen['initial_history'])}. Rounds to "
            f"forecast ahead: {horizon}."
        )
    if "target" in seen:
        texts.append(f"Society, to be predicted: {_vector(labels, seen['target'])}.")
    question = (
        f"What do you advise? State {len(labels) + 1} numbers: the position, from "
        f"{compact(-limit)} to {compact(limit)}, and the intensity from 0 to 1."
    )
    return TurnText(lines(*texts), question, "numbers")
