"""What measures of `mores.envs.influence.dr_mdp` come to when a planner acts: exact expectations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.envs.influence import alignment_objectives as notions
from mores.envs.influence.alignment_objectives import ReturnCriterion
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.influence.person_dr_mdp import PersonDRMDP, susceptibility_threshold

ValuesByRound = dict[str, Float[np.ndarray, " rounds"]]


class PersonGroup(NamedTuple):
    """People who are alike: how many, their susceptibility, and what assistants hold it to be."""

    num_people: int
    susceptibility: float
    believed_susceptibility: float


def planner_metrics(
    planner: DRMDPPlanner,
    groups: Sequence[PersonGroup],
    base_person: PersonDRMDP,
    horizon: int,
    privileged_preference: int,
    reward_criterion: ReturnCriterion,
    num_rounds: int,
) -> ValuesByRound:
    """Measures by name after each number of rounds, 0 to `num_rounds`; after the end they stand still.

    Args:
        planner: who acts.
        groups: the susceptible, and the others.
        base_person: a person of any susceptibility.
        horizon: rounds of an episode.
        privileged_preference: the taste of the environment's yardstick `privileged`.
        reward_criterion: yardstick of the pay.
        num_rounds: of the play.
    """

    def person(susceptibility: float) -> PersonDRMDP:
        return dataclasses.replace(base_person, susceptibility=susceptibility)

    courses = []
    for group in groups:
        known = person(group.believed_susceptibility)
        solution = notions.solve(known, planner.objective, horizon, planner.privileged_preference)
        policy = solution.policy(planner.tie_break_action)
        courses.append(
            notions.evaluate_policy(
                person(group.susceptibility), policy, horizon, privileged_preference
            )
        )
    at = np.minimum(np.arange(num_rounds + 1), horizon)
    weights = np.array([group.num_people for group in groups], dtype=np.float64)

    def averaged(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.average(parts, axis=0, weights=weights)[at]

    shares = [course.num_influences / np.maximum(np.arange(horizon + 1), 1) for course in courses]
    returns = {
        name: averaged([course.returns[name] for course in courses]) for name in courses[0].returns
    }
    found = {f"return_{name}": of for name, of in returns.items() if name != "mean_preference"}
    at_once = averaged([np.full(horizon + 1, course.influence_probability[0]) for course in courses])
    found |= {
        "influence_share": averaged(shares),
        "first_round_influence_share": np.where(np.arange(num_rounds + 1) > 0, at_once, 0.0),
        "preference_shifted_share": averaged([course.shift_probability for course in courses]),
        "objective_return": returns[reward_criterion],
        "return_gap_initial": returns["real_time"] - returns["initial"],
        "return_gap_natural_shift": returns["real_time"] - returns["natural_shift"],
    }
    if all(group.num_people for group in groups):
        found["targeting_gap"] = (shares[0] - shares[1])[at]
    return found


def real_time_switch_susceptibility(person: PersonDRMDP, horizon: int) -> float | None:
    """The susceptibility from which on real time influences at once, by the closed form.

    None where it does not hold: see `susceptibility_threshold`.
    """
    game = (person.natural_transitions, person.influenced_transitions, person.initial_distribution)
    if game != (((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)), (1.0, 0.0)):
        return None
    (leave, influence), (leave_won, influence_won) = person.rewards
    cost, gain = leave - influence, influence_won - leave
    if cost <= 0 or gain <= 0 or influence_won < leave_won:
        return None
    return susceptibility_threshold(cost, gain, horizon)
