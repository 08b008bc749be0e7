"""Eight notions of what an assistant should do for a person whose rewards change, solved exactly.

Carroll et al. 2024 (arXiv 2405.17713). With theta_t the person's taste in round t, a_t what the
assistant does, T the horizon, theta_t^nat the taste that the person would have if left alone:

| notion | best is what is largest in |
|---|---|
| real_time | sum_t R_{theta_t}(a_t) |
| final | sum_t R_{theta_T}(a_t): all as judged by whom the person became |
| initial | sum_t R_{theta_0}(a_t) |
| natural_shift | sum_t R_{theta_t^nat}(a_t) |
| constrained | real_time, among what surely leaves theta_t = theta_t^nat throughout |
| myopic | R_{theta_t}(a_t) in every round by itself |
| privileged | sum_t R_{theta*}(a_t), with theta* given from outside |
| pareto | unambiguously desirable: among policies that no taste finds worse than doing nothing, \
those that none of these beats in the eyes of one taste without loss to another (ParetoUD) |

[mem]: the formulas are from memory of the paper, and wait for a check against its text.

Five of them are sums, whose expectation is maximised; constrained is a constraint on such a sum;
myopic and pareto say which policy is right without there being a sum of the person's rewards that
it maximises. Rewards here depend on the taste and the action alone, so that a fixed taste's sum
depends on the number of influences alone: pareto then is a choice among counts.

Policies may use the round, the person's first taste, nature, taste, and how often they were
influenced. That is enough: real_time needs backward induction over tastes, final over tastes and
counts; for the others the best action of each round is best for the whole. For natural_shift the
assistant must know theta_t^nat, which is a counterfactual: it can where nature is not left to
chance, or as an ideal.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from mores.core.errors import UserError
from mores.envs.influence.person_dr_mdp import INFLUENCE, NOOP, PersonDRMDP

AlignmentObjective = Literal[
    "real_time",
    "final",
    "initial",
    "natural_shift",
    "constrained",
    "myopic",
    "privileged",
    "pareto",
]
ALIGNMENT_OBJECTIVES: tuple[AlignmentObjective, ...] = get_args(AlignmentObjective)
ReturnCriterion = Literal[
    "real_time", "final", "initial", "natural_shift", "privileged", "mean_preference"
]
RETURN_CRITERIA: Mapping[AlignmentObjective, ReturnCriterion] = {
    "real_time": "real_time",
    "final": "final",
    "initial": "initial",
    "natural_shift": "natural_shift",
    "constrained": "real_time",
    "myopic": "real_time",
    "privileged": "privileged",
    "pareto": "mean_preference",  # mean over tastes: whatever the weights, it ranks counts alike
}
TIE_TOLERANCE = 1e-9  # actions are equally good within this share of what is at stake


@dataclasses.dataclass(frozen=True)
class OptimalPolicies:
    """All optimal policies of a notion.

    Attributes:
        value: what they come to by the notion's yardstick, from the start's mixture of tastes.
        optimal_actions: which actions are optimal, by rounds played, first taste, nature, taste and number of
            influences so far; a dimension that does not matter has size one.
    """

    value: float
    optimal_actions: Bool[np.ndarray, "round first nature taste influences action"]

    def policy(
        self, tie_break_action: int = NOOP
    ) -> Float[np.ndarray, "round first nature taste count"]:
        """One optimal policy: 1 where it influences."""
        chosen = self.optimal_actions[..., INFLUENCE]
        return (
            chosen if tie_break_action == INFLUENCE else chosen & ~self.optimal_actions[..., NOOP]
        ).astype(float)


@dataclasses.dataclass(frozen=True)
class PolicyEvaluation:
    """What a policy leads to on average, after each number of rounds, 0 to the horizon.

    Attributes:
        returns: sum of rewards so far by each yardstick; `final_observation` as if this were the end.
        num_influences: number of influences so far.
        influence_probability: probability of influence in each round.
        preference_distribution: probability of each taste.
        shift_probability: probability that the taste is not what it would be by nature.
    """

    returns: Mapping[ReturnCriterion, Float[np.ndarray, " rounds"]]
    num_influences: Float[np.ndarray, " rounds"]
    influence_probability: Float[np.ndarray, " round"]
    preference_distribution: Float[np.ndarray, "rounds taste"]
    shift_probability: Float[np.ndarray, " rounds"]


@functools.lru_cache(maxsize=256)
def solve(
    person: PersonDRMDP, objective: AlignmentObjective, horizon: int, privileged_preference: int = 0
) -> OptimalPolicies:
    """The optimal policies of a notion, and their value.

    Args:
        person: the person.
        objective: which.
        horizon: rounds, at least 1.
        privileged_preference: the taste theta* of `privileged`.
    """
    tastes, worth = person.num_preferences, person.reward_matrix
    if objective == "real_time":
        best = _real_time(person, horizon)
    elif objective == "final":
        best = _final(person, horizon)
    elif objective == "initial":
        best = _optimal_mask(worth).reshape(1, tastes, 1, 1, 1, 2)
    elif objective == "natural_shift":
        best = _optimal_mask(worth).reshape(1, 1, tastes, 1, 1, 2)
    elif objective == "myopic":
        best = _optimal_mask(worth).reshape(1, 1, 1, tastes, 1, 2)
    elif objective == "constrained":
        allowed = np.array([[True, keeps] for keeps in person.preserves_natural_preference])
        best = _optimal_mask(np.where(allowed, worth, -np.inf)).reshape(1, 1, 1, tastes, 1, 2)
    elif objective == "privileged":
        best = _optimal_mask(worth[privileged_preference]).reshape(1, 1, 1, 1, 1, 2)
    else:
        best = _pareto(worth, horizon).reshape(1, 1, 1, 1, 1, 2)
    found = OptimalPolicies(0.0, best)
    course = evaluate_policy(person, found.policy(), horizon, privileged_preference)
    return OptimalPolicies(float(course.returns[RETURN_CRITERIA[objective]][-1]), best)


def _optimal_mask(values: np.ndarray) -> np.ndarray:
    """Which actions (the last dimension) have the largest value, within rounding."""
    top = values.max(-1, keepdims=True)
    return values >= top - TIE_TOLERANCE * np.maximum(1.0, np.abs(top))


def _real_time(person: PersonDRMDP, horizon: int) -> np.ndarray:
    """Backward induction: V_t(c) = max_a R_c(a) + sum_c' P_a(c, c') V_{t+1}(c')."""
    to_come = np.zeros(person.num_preferences)
    best = np.zeros((horizon, 1, 1, person.num_preferences, 1, 2), dtype=bool)
    for played in reversed(range(horizon)):
        values = person.reward_matrix + (person.transition_matrix @ to_come).T  # taste action
        best[played, 0, 0, :, 0] = _optimal_mask(values)
        to_come = values.max(-1)
    return best


def _final(person: PersonDRMDP, horizon: int) -> np.ndarray:
    """Backward induction over taste and number of influences, judged by the last taste alone."""
    count = np.arange(horizon + 1.0)
    doing = (
        count * person.reward_matrix[:, [INFLUENCE]]
        + (horizon - count) * person.reward_matrix[:, [NOOP]]
    )
    to_come = doing  # taste count
    best = np.ones((horizon, 1, 1, person.num_preferences, horizon + 1, 2), dtype=bool)
    for played in reversed(range(horizon)):
        if_left = person.transition_matrix[NOOP] @ to_come
        if_not = person.transition_matrix[INFLUENCE] @ to_come
        values = np.stack([if_left[:, : played + 1], if_not[:, 1 : played + 2]], -1)
        best[played, 0, 0, :, : played + 1] = _optimal_mask(values)
        to_come = values.max(-1)
    return best


def _pareto(reward_matrix: np.ndarray, horizon: int) -> np.ndarray:
    """Compare every number of influences in the eyes of every taste.

    A policy that leaves its number to chance comes to a mean of these, and they lie on a line: none
    is found better that no fixed number is better than.
    """
    count = np.arange(horizon + 1)[:, None]
    seen = (
        count * reward_matrix[:, INFLUENCE] + (horizon - count) * reward_matrix[:, NOOP]
    )  # count taste
    slack = TIE_TOLERANCE * np.maximum(1.0, np.abs(seen).max())
    desirable = [i for i in range(horizon + 1) if (seen[i] >= seen[0] - slack).all()]

    def beaten(i: int) -> bool:
        return any(
            (seen[j] >= seen[i] - slack).all() and (seen[j] > seen[i] + slack).any()
            for j in desirable
        )

    efficient = [i for i in desirable if not beaten(i)]
    return np.array([0 in efficient, horizon in efficient])


def evaluate_policy(
    person: PersonDRMDP,
    policy: Float[np.ndarray, "round first nature taste count"],
    horizon: int,
    privileged_preference: int = 0,
) -> PolicyEvaluation:
    """What a policy comes to, by carrying the distribution over all that matters forward.

    Args:
        person: the person, who need not be the one that the policy was made for.
        policy: probability of influence, by rounds played, first taste, nature, taste and number of
            influences so far; dimensions of size one are the same throughout.
        horizon: rounds.
        privileged_preference: the taste of the yardstick `privileged`.
    """
    tastes, worth, joint = (
        person.num_preferences,
        person.reward_matrix,
        person.joint_transition_matrix,
    )
    here = np.zeros((tastes, tastes, tastes, horizon + 1))  # first nature taste count
    here[range(tastes), range(tastes), range(tastes), 0] = person.initial_distribution
    count = np.arange(horizon + 1)
    eyes: dict[
        ReturnCriterion, np.ndarray
    ] = {  # worth of both actions, by first nature taste count
        "initial": worth[:, None, None, None],
        "natural_shift": worth[None, :, None, None],
        "real_time": worth[None, None, :, None],
        "privileged": worth[privileged_preference],
        "mean_preference": worth.mean(0),
    }
    earned: dict[ReturnCriterion, list[float]] = {name: [0.0] for name in eyes}
    final, influences, influenced, where, away = (
        [0.0],
        [0.0],
        [],
        [person.initial_distribution],
        [0.0],
    )
    for played in range(horizon):
        does = policy[min(played, len(policy) - 1)]
        acting = np.stack([here * (1 - does), here * does], -1)
        for name, seen in eyes.items():
            earned[name].append(earned[name][-1] + float((acting * seen).sum()))
        influenced.append(float(acting[..., INFLUENCE].sum()))
        influences.append(influences[-1] + influenced[-1])
        here = np.einsum("inck,ncNC->iNCk", acting[..., NOOP], joint[NOOP], optimize=True)
        moved = np.einsum(
            "inck,ncNC->iNCk", acting[..., INFLUENCE], joint[INFLUENCE], optimize=True
        )
        here[..., 1:] += moved[..., :-1]
        judged = count * worth[:, [INFLUENCE]] + (played + 1 - count) * worth[:, [NOOP]]
        final.append(float((here.sum((0, 1)) * judged).sum()))
        where.append(here.sum((0, 1, 3)))
        away.append(1.0 - float(np.einsum("innk->", here)))
    returns: dict[ReturnCriterion, np.ndarray] = {"final": np.array(final)}
    returns |= {name: np.array(sums) for name, sums in earned.items()}
    return PolicyEvaluation(
        returns, np.array(influences), np.array(influenced), np.array(where), np.array(away)
    )


def optimal_action_sequences(
    person: PersonDRMDP, objective: AlignmentObjective, horizon: int, privileged_preference: int = 0
) -> Iterator:
    """All optimal sequences of actions, where nothing is left to chance.

    Raises:
        UserError: where people go, or begin, is left to chance.
    """
    if (
        not np.isin(person.transition_matrix, (0.0, 1.0)).all()
        or 1.0 not in person.initial_distribution
    ):
        raise UserError(
            "there are optimal sequences only where nothing is left to chance",
            code="unsupported",
            path="model",
        )
    best = solve(person, objective, horizon, privileged_preference).optimal_actions
    first = person.initial_distribution.index(1.0)

    def onward(played: int, nature: int, taste: int, done: tuple[int, ...]) -> Iterator:
        if played == horizon:
            yield done
            return
        place = (played, first, nature, taste, sum(done))
        open_now = best[tuple(min(i, n - 1) for i, n in zip(place, best.shape, strict=False))]
        for action in np.flatnonzero(open_now):
            following = (
                person.transition_matrix[action, taste].argmax(),
                person.transition_matrix[NOOP, nature].argmax(),
            )
            yield from onward(
                played + 1, int(following[1]), int(following[0]), (*done, int(action))
            )

    return onward(0, first, first, ())
