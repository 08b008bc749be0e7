"""Turns of `moral_hazard` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, lines, paragraph, percent, plural
from mores.core.turn_text import TurnText

Parts = Mapping[str, Sequence[float]]


def rules(role: str, num_agents: int, noise_std: float, termination_probability: float) -> str:
    """Rules of principal or agent."""
    end = (
        f"After every round the relation ends with probability {percent(termination_probability)}."
    )
    end = end if termination_probability else ""
    output = (
        "Output is the effort plus chance with a standard deviation of "
        f"{compact(noise_std)}; without effort it is 0."
    )
    if role == "principal":
        return paragraph(
            f"In every round you promise {plural(num_agents, 'agent')} a share of output. Each "
            "agent chooses an effort, which costs it and which you do not see.",
            output,
            "Then you keep the promise or break it; if you break it, nobody gets a wage. Agents "
            "see how many promises were kept and broken.",
            "Your reward is output less wages.",
            end,
        )
    return paragraph(
        "In every round a principal promises you a share of your output. You choose an effort, "
        "which the principal does not see.",
        output,
        "Then the principal keeps the promise, and pays the share of your output as your wage, "
        "never less than 0, or breaks it and pays nothing.",
        "Your reward is your wage, less the cost of effort.",
        end,
    )


def _promises(seen: Parts) -> str:
    kept, broken = (int(seen[f"promises_{name}"][0]) for name in ("kept", "broken"))
    return f"Promises so far: {kept} kept, {broken} broken."


def offer_turn(seen: Parts, num_shares: int) -> TurnText:
    """History and the shares."""
    outputs = ", ".join(map(decimal, seen["output"]))
    situation = lines(
        _promises(seen),
        f"Last promised share: {percent(seen['offered_share'][0])}. Output of the last round, by "
        f"agent: {outputs}.",
    )
    options = tuple(f"{percent(i / (num_shares - 1))} of output" for i in range(num_shares))
    return TurnText(situation, "Which share do you promise?", "choice", options, ordered=True)


def pay_turn(seen: Parts) -> TurnText:
    """Output, and whether the promise is kept."""
    share = seen["offered_share"][0]
    wages = share * sum(max(0.0, output) for output in seen["output"])
    outputs = ", ".join(map(decimal, seen["output"]))
    situation = lines(
        _promises(seen), f"You promised {percent(share)} of output. Output by agent: {outputs}."
    )
    options = (
        "break the promise: pay no wages",
        f"keep the promise: pay wages of {decimal(wages)} in total",
    )
    return TurnText(situation, "What do you do?", "choice", options)


def work_turn(seen: Parts, num_efforts: int) -> TurnText:
    """The promise and the efforts with their costs."""
    cost, share = seen["effort_cost"][0], seen["offered_share"][0]
    situation = lines(
        f"You are promised {percent(share)} of your output. {_promises(seen)}",
        f"Your wage of the last round: {decimal(seen['wage'][0])}. Your cost of effort e is "
        f"{decimal(cost, 3)} times e^2 / 2; you can do at most {int(seen['max_effort'][0])}.",
    )
    options = ["effort 0: refuse, without output and cost"]
    options += [
        f"effort {effort}: cost {decimal(cost * effort * effort / 2)}"
        for effort in range(1, num_efforts)
    ]
    question = "Which effort do you choose?"
    return TurnText(situation, question, "choice", tuple(options), ordered=True)
