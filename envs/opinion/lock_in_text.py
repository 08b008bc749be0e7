"""Turns of `lock_in` as text: a belief about a number, and the report of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, lines, paragraph, plural
from mores.core.turn_text import TurnText


def rules(
    role: str, num_people: int, num_assistants: int, trust: float | None, noise_std: float
) -> str:
    """Rules of a person or an assistant.

    Args:
        role: the role.
        num_people, num_assistants: numbers of agents.
        trust: weight of a report of the other role; `None`: it differs between people.
        noise_std: standard deviation of one observation.
    """
    others = plural(num_assistants, "assistant")
    if role == "assistant":
        others = plural(num_people, "person", "people")
    weight = "" if trust is None else f", each with weight {compact(trust)}"
    return paragraph(
        "You and others estimate an unknown number, which does not change. In every round you make "
        f"a private observation of it, with random errors of standard deviation "
        f"{compact(noise_std)}.",
        f"Your belief is computed for you from your observations and from the reports of {others}"
        f"{weight}, as if these were independent evidence. They do the same with reports like "
        "yours.",
        "In every round you report a number to them. Your reward is minus the squared error of "
        "your own belief.",
    )


def turn(seen: Mapping[str, Sequence[float]], others: str) -> TurnText:
    """Belief, evidence and reports of others."""
    belief, evidence, reports = (
        decimal(seen[name][0], 3) for name in ("belief", "mean_evidence", "mean_report")
    )
    situation = lines(
        f"Your belief: {belief}.",
        f"Mean of your own observations: {evidence}.",
        f"Mean of the last reports of {others}: {reports}.",
    )
    return TurnText(situation, "Which number do you report?", "numbers")
