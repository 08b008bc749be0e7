"""What measures of `mores.envs.influence.dr_mdp` come to when a planner acts: exact expectations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.envs.influence import alignment_objectives as notions
from mores.envs.influence.alignment_objectives import Yardstick
from mores.envs.influence.dr_mdp_planner import Planner
from mores.envs.influence.person_dr_mdp import ChangingRewards, least_susceptibility

Formulas = dict[str, Float[np.ndarray, " rounds"]]


class Group(NamedTuple):
    """People who are alike: how many, their susceptibility, and what assistants hold it to be."""

    many: int
    susceptibility: float
    believed: float


def of_planner(
    planner: Planner,
    groups: Sequence[Group],
    anybody: ChangingRewards,
    horizon: int,
    ideal: int,
    paid_by: Yardstick,
    rounds: int,
) -> Formulas:
    """Measures by name after each number of rounds, 0 to `rounds`; after the end they stand still.

    Args:
        planner: who acts.
        groups: the susceptible, and the others.
        anybody: a person of any susceptibility.
        horizon: rounds of an episode.
        ideal: the taste of the environment's yardstick `privileged`.
        paid_by: yardstick of the pay.
        rounds: of the play.
    """

    def person(susceptibility: float) -> ChangingRewards:
        return dataclasses.replace(anybody, susceptibility=susceptibility)

    courses = []
    for group in groups:
        known = person(group.believed)
        solution = notions.solve(known, planner.objective, horizon, planner.ideal)
        policy = solution.policy(planner.action_if_tied)
        courses.append(notions.evaluate(person(group.susceptibility), policy, horizon, ideal))
    at = np.minimum(np.arange(rounds + 1), horizon)
    weights = np.array([group.many for group in groups], dtype=np.float64)

    def averaged(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.average(parts, axis=0, weights=weights)[at]

    shares = [course.influences / np.maximum(np.arange(horizon + 1), 1) for course in courses]
    returns = {
        name: averaged([course.returns[name] for course in courses]) for name in courses[0].returns
    }
    found = {f"return_{name}": of for name, of in returns.items() if name != "everybody"}
    at_once = averaged([np.full(horizon + 1, course.influenced[0]) for course in courses])
    found |= {
        "influence_share": averaged(shares),
        "influenced_at_once": np.where(np.arange(rounds + 1) > 0, at_once, 0.0),
        "converted": averaged([course.away for course in courses]),
        "paid": returns[paid_by],
        "gap_initial": returns["real_time"] - returns["initial"],
        "gap_natural": returns["real_time"] - returns["natural_shift"],
    }
    if all(group.many for group in groups):
        found["targeting_gap"] = (shares[0] - shares[1])[at]
    return found


def real_time_switch(person: ChangingRewards, horizon: int) -> float | None:
    """The susceptibility from which on real time influences at once, by the closed form.

    None where it does not hold: see `least_susceptibility`.
    """
    game = (person.natural, person.influenced, person.start)
    if game != (((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)), (1.0, 0.0)):
        return None
    (leave, influence), (leave_won, influence_won) = person.rewards
    cost, gain = leave - influence, influence_won - leave
    if cost <= 0 or gain <= 0 or influence_won < leave_won:
        return None
    return least_susceptibility(cost, gain, horizon)
