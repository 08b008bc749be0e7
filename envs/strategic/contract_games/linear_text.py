"""Turns of `linear` as text: offers of piece rates and salaries, acceptance and efforts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.plain_text import compact, decimal, lines, listed, paragraph, plural
from mores.core.turn_text import TurnText

Parts = Mapping[str, Sequence[float]]
Matrix = Sequence[Sequence[float]]


def principal_rules(num_principals: int, num_agents: int, num_tasks: int) -> str:
    """Rules of a principal."""
    others = (
        f" So do {plural(num_principals - 1, 'other principal')}." if num_principals > 1 else ""
    )
    agents = "an agent" if num_agents == 1 else f"each of {num_agents} agents"
    return paragraph(
        f"In every round you offer {agents} a contract for {plural(num_tasks, 'task')}: a piece "
        f"rate for each unit of output, and a salary; both can be negative.{others}",
        "An agent accepts all offers or refuses all, and chooses efforts, which you do not see. "
        "Output is effort plus chance. Effort costs the agent more the larger it is; risk in its "
        "wage is a loss to a risk-averse agent; without a good enough contract it refuses.",
        "Your reward is your benefit of all outputs, less the wages that you pay.",
    )


def agent_rules(
    cost: Matrix,
    idle_effort: Sequence[float],
    noise: Matrix,
    agent_reward: str,
    income_floor: float,
) -> str:
    """Rules of an agent."""
    tasks = len(cost)
    first = (
        f"In every round you are offered a contract for {plural(tasks, 'task')}: a piece rate for "
        "each unit of output, and a salary. You accept or refuse, and choose your effort in each "
        "task, which nobody else sees. Output is effort plus chance."
    )
    variances = listed([compact(noise[k][k]) for k in range(tasks)])
    scale = "Chance in the output of each task has mean 0 and variance V times"
    chance = f"{scale} {variances}."
    pairs = [(i, j) for i in range(tasks) for j in range(i) if noise[i][j]]
    if pairs:
        joint = [f"{compact(noise[i][j])} for tasks {j + 1} and {i + 1}" for i, j in pairs]
        chance += f" Covariances are V times {listed(joint)}."
    costs = f"Efforts cost K times ({_quadratic(cost, idle_effort)})."
    if agent_reward == "mean_variance":
        reward = "Your reward is your income, less R / 2 times the variance of your wage by chance."
    else:
        floor = f" Income below {compact(income_floor)} counts as {compact(income_floor)}."
        reward = f"Your reward is (1 - exp(-R y)) / R, where y is your income; y if R is 0.{floor}"
    income = "Your income is the wage, less the cost of effort; if you refuse, your outside option."
    return paragraph(first, chance, costs, income, reward, "V, K and R are told in every round.")


def _quadratic(cost: Matrix, idle_effort: Sequence[float]) -> str:
    """(e - m)' C (e - m) / 2, written out."""
    tasks = len(cost)
    names = [
        f"e{k + 1}" if not idle else f"(e{k + 1} - {compact(idle)})"
        for k, idle in enumerate(idle_effort)
    ]
    terms = [f"{compact(cost[k][k] / 2)} {names[k]}^2" for k in range(tasks)]
    terms += [
        f"{compact(cost[i][j])} {names[j]} {names[i]}"
        for i in range(tasks)
        for j in range(i)
        if cost[i][j]
    ]
    return " + ".join(terms)


def principal_turn(
    seen: Parts,
    measured: Sequence[bool],
    limits: tuple[float, float],
) -> TurnText:
    """Agents and own benefits, and the question for piece rates and salaries.

    Args:
        seen: the parts of the observation.
        measured: tasks whose output can be in a contract.
        limits: largest piece rate and largest salary.
    """
    tasks = [k + 1 for k, yes in enumerate(measured) if yes]
    rows = []
    for i, numbers in enumerate(
        zip(seen["risk_aversion"], seen["effort_cost"], seen["noise_variance"], strict=True)
    ):
        risk, cost, noise = map(decimal, numbers)
        rows.append(
            f"agent {i + 1}: risk aversion {risk}, scale of effort cost {cost}, scale of the "
            f"variance of output {noise}"
        )
    benefits = [f"{decimal(b)} of task {k + 1}" for k, b in enumerate(seen["benefits"])]
    agents = len(rows)
    count = agents * len(tasks) + agents
    each = listed([f"for task {k}" for k in tasks])
    whose = "" if agents == 1 else f" of agent 1 to agent {agents}, agent by agent"
    slope, salary = map(compact, limits)
    question = (
        f"State {count} numbers: first the piece rates{whose} ({each}), each from -{slope} to "
        f"{slope}, then the {'salary' if agents == 1 else 'salaries'}, from -{salary} to {salary}."
    )
    return TurnText(
        lines(f"Your benefit of a unit of output is {listed(benefits)}.", *rows),
        question,
        "numbers",
    )


def agent_turn(seen: Parts, max_effort: float) -> TurnText:
    """The offer and the own type, and the question for acceptance and efforts."""
    rates = [f"{decimal(b)} for task {k + 1}" for k, b in enumerate(seen["slopes"])]
    risk, cost, noise, salary, outside = (
        decimal(seen[name][0])
        for name in ("risk_aversion", "effort_cost", "noise_variance", "salary", "outside_option")
    )
    situation = lines(
        f"The offers together: a piece rate of {listed(rates)}, and a salary of {salary}.",
        f"Your outside option is {outside}. R = {risk} (risk aversion), K = {cost} (cost of "
        f"effort), V = {noise} (chance).",
    )
    tasks = len(rates)
    limit = compact(max_effort)
    efforts = "your effort" if tasks == 1 else f"your efforts e1 to e{tasks}"
    question = (
        f"State {1 + tasks} numbers: first 1 to accept or -1 to refuse, then {efforts}, from "
        f"-{limit} to {limit}."
    )
    return TurnText(situation, question, "numbers")
