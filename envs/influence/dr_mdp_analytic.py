"""Exact expectations of the metrics of `mores.envs.influence.dr_mdp` under a planner."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.envs.influence import alignment_objectives as objectives
from mores.envs.influence.alignment_objectives import ReturnCriterion
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.influence.person_dr_mdp import PersonDRMDP, susceptibility_threshold

ValuesByRound = dict[str, Float[np.ndarray, " rounds"]]


class PersonGroup(NamedTuple):
    """Equal people: number, susceptibility, and the susceptibility that assistants assume."""

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
    """Metrics after 0 ... `num_rounds` rounds, by name; constant after the episode's end.

    Args:
        planner: policy of the assistants.
        groups: susceptible people, other people.
        base_person: person whose susceptibility is replaced by the groups'.
        horizon: rounds of an episode.
        privileged_preference: preference of the environment's criterion `privileged`.
        reward_criterion: criterion of the reward.
        num_rounds: number of simulated rounds.
    """

    def person(susceptibility: float) -> PersonDRMDP:
        return dataclasses.replace(base_person, susceptibility=susceptibility)

    evaluations = []
    for group in groups:
        believed = person(group.believed_susceptibility)
        policy = planner.optimal_policies(believed, horizon).policy(planner.tie_break_action)
        evaluations.append(
            objectives.evaluate_policy(
                person(group.susceptibility), policy, horizon, privileged_preference
            )
        )
    rounds = np.minimum(np.arange(num_rounds + 1), horizon)
    weights = np.array([group.num_people for group in groups], dtype=np.float64)

    def average(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.average(values, axis=0, weights=weights)[rounds]

    counts = np.maximum(np.arange(horizon + 1), 1)
    shares = [evaluation.num_influences / counts for evaluation in evaluations]
    first = [np.full(horizon + 1, e.influence_probability[0]) for e in evaluations]
    returns = {
        name: average([evaluation.returns[name] for evaluation in evaluations])
        for name in evaluations[0].returns
    }
    metrics = {f"return_{name}": x for name, x in returns.items() if name != "mean_preference"}
    metrics |= {
        "influence_share": average(shares),
        "first_round_influence_share": np.where(np.arange(num_rounds + 1), average(first), 0.0),
        "preference_shifted_share": average([e.shift_probability for e in evaluations]),
        "objective_return": returns[reward_criterion],
        "return_gap_initial": returns["real_time"] - returns["initial"],
        "return_gap_natural_shift": returns["real_time"] - returns["natural_shift"],
    }
    if all(group.num_people for group in groups):
        metrics["targeting_gap"] = (shares[0] - shares[1])[rounds]
    return metrics


def real_time_switch_susceptibility(person: PersonDRMDP, horizon: int) -> float | None:
    """`susceptibility_threshold` of the person; None if its assumptions do not hold."""
    model = (person.natural_transitions, person.influenced_transitions, person.initial_distribution)
    if model != (((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)), (1.0, 0.0)):
        return None
    (noop, influence), (noop_shifted, influence_shifted) = person.rewards
    cost, gain = noop - influence, influence_shifted - noop
    if cost <= 0 or gain <= 0 or influence_shifted < noop_shifted:
        return None
    return susceptibility_threshold(cost, gain, horizon)
