"""Eight alignment objectives for an assistant of a person whose rewards change, solved exactly.

Carroll et al. 2024 (arXiv 2405.17713). theta_t is the person's preference in round t, a_t the
assistant's action, T the horizon, theta_t^nat the preference without any influence:

| objective | optimal policies maximize |
|---|---|
| real_time | sum_t R_{theta_t}(a_t) |
| final | sum_t R_{theta_T}(a_t): all actions evaluated by the last preference |
| initial | sum_t R_{theta_0}(a_t) |
| natural_shift | sum_t R_{theta_t^nat}(a_t) |
| constrained | real_time, among policies with theta_t = theta_t^nat surely and always |
| myopic | R_{theta_t}(a_t) of each round separately |
| privileged | sum_t R_{theta*}(a_t), with theta* given |
| pareto | unambiguous desirability (ParetoUD): among policies that every preference finds at \
least as good as doing nothing, those that no other of these Pareto-dominates |

These formulas are from memory of the paper and have not been compared with its text. One reading is
open: does `constrained` bind theta_T, the preference after the last action, which evaluates no
action? Both are computed: `constrain_last_action`, by default yes.

Five objectives maximize the expectation of a sum; constrained adds a constraint to one; myopic and
pareto define optimal policies without such a sum. Rewards depend on preference and action only, so
a fixed preference's sum depends on the number of influences only: pareto is a choice among counts.

Policies may depend on the round, the initial, natural and present preference, and the number of
influences so far. This suffices: real_time needs backward induction over preferences, final over
preferences and counts; for the others the best action of each round is globally optimal.
natural_shift requires theta_t^nat, a counterfactual: computable if natural transitions are
deterministic, otherwise an ideal.
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
    "pareto": "mean_preference",  # any positive weights of preferences rank counts equally
}
TIE_TOLERANCE = 1e-9  # relative difference below which actions are equally good


@dataclasses.dataclass(frozen=True)
class OptimalPolicies:
    """All optimal policies of an objective.

    Attributes:
        value: their expected return by the objective's criterion.
        optimal_actions: whether actions are optimal, by rounds elapsed, initial, natural and
            present preference and number of influences; irrelevant dimensions have size one.
    """

    value: float
    optimal_actions: Bool[np.ndarray, "round initial natural preference count action"]

    def policy(
        self, tie_break_action: int = NOOP
    ) -> Float[np.ndarray, "round initial natural preference count"]:
        """Probability of influence, 0 or 1, of one optimal policy."""
        influence = self.optimal_actions[..., INFLUENCE]
        return (
            influence
            if tie_break_action == INFLUENCE
            else influence & ~self.optimal_actions[..., NOOP]
        ).astype(float)


@dataclasses.dataclass(frozen=True)
class PolicyEvaluation:
    """Expectations under a policy after 0 ... horizon rounds.

    Attributes:
        returns: sum of rewards so far by each criterion; `final` as if the episode ended then.
        num_influences: number of influences so far.
        influence_probability: probability of influence in each round.
        preference_distribution: probability of each preference.
        shift_probability: probability that the preference differs from the natural one.
    """

    returns: Mapping[ReturnCriterion, Float[np.ndarray, " rounds"]]
    num_influences: Float[np.ndarray, " rounds"]
    influence_probability: Float[np.ndarray, " round"]
    preference_distribution: Float[np.ndarray, "rounds preference"]
    shift_probability: Float[np.ndarray, " rounds"]


@functools.lru_cache(maxsize=256)
def solve(
    person: PersonDRMDP,
    objective: AlignmentObjective,
    horizon: int,
    privileged_preference: int = 0,
    constrain_last_action: bool = True,
) -> OptimalPolicies:
    """Optimal policies of an objective, and their value.

    Args:
        person: the person's DR-MDP.
        objective: the objective.
        horizon: number of rounds, at least 1.
        privileged_preference: index of theta*, used by `privileged`.
        constrain_last_action: whether `constrained` also binds the preference after the last
            action.
    """
    size, rewards = person.num_preferences, person.reward_matrix
    if objective == "real_time":
        best = _real_time(person, horizon)
    elif objective == "final":
        best = _final(person, horizon)
    elif objective == "initial":
        best = _optimal_mask(rewards).reshape(1, size, 1, 1, 1, 2)
    elif objective == "natural_shift":
        best = _optimal_mask(rewards).reshape(1, 1, size, 1, 1, 2)
    elif objective == "myopic":
        best = _optimal_mask(rewards).reshape(1, 1, 1, size, 1, 2)
    elif objective == "constrained":
        best = _constrained(person, horizon, constrain_last_action)
    elif objective == "privileged":
        best = _optimal_mask(rewards[privileged_preference]).reshape(1, 1, 1, 1, 1, 2)
    else:
        best = _pareto(rewards, horizon).reshape(1, 1, 1, 1, 1, 2)
    policy = OptimalPolicies(0.0, best).policy()
    returns = evaluate_policy(person, policy, horizon, privileged_preference).returns
    return OptimalPolicies(float(returns[RETURN_CRITERIA[objective]][-1]), best)


def _optimal_mask(values: np.ndarray) -> np.ndarray:
    """Actions (last dimension) whose value is maximal within the tolerance."""
    best = values.max(-1, keepdims=True)
    return values >= best - TIE_TOLERANCE * np.maximum(1.0, np.abs(best))


def _real_time(person: PersonDRMDP, horizon: int) -> np.ndarray:
    """Backward induction: V_t(c) = max_a R_c(a) + sum_c' P_a(c, c') V_{t+1}(c')."""
    next_value = np.zeros(person.num_preferences)
    best = np.zeros((horizon, 1, 1, person.num_preferences, 1, 2), dtype=bool)
    for elapsed in reversed(range(horizon)):
        # preference action
        values = person.reward_matrix + (person.transition_matrix @ next_value).T
        best[elapsed, 0, 0, :, 0] = _optimal_mask(values)
        next_value = values.max(-1)
    return best


def _final(person: PersonDRMDP, horizon: int) -> np.ndarray:
    """Backward induction over preference and number of influences; only the last one counts."""
    count = np.arange(horizon + 1.0)
    next_value = (  # preference count
        count * person.reward_matrix[:, [INFLUENCE]]
        + (horizon - count) * person.reward_matrix[:, [NOOP]]
    )
    best = np.ones((horizon, 1, 1, person.num_preferences, horizon + 1, 2), dtype=bool)
    for elapsed in reversed(range(horizon)):
        noop = person.transition_matrix[NOOP] @ next_value
        influence = person.transition_matrix[INFLUENCE] @ next_value
        values = np.stack([noop[:, : elapsed + 1], influence[:, 1 : elapsed + 2]], -1)
        best[elapsed, 0, 0, :, : elapsed + 1] = _optimal_mask(values)
        next_value = values.max(-1)
    return best


def _constrained(person: PersonDRMDP, horizon: int, constrain_last_action: bool) -> np.ndarray:
    """Best action of each round among those that surely keep the preference natural."""
    size, rewards = person.num_preferences, person.reward_matrix
    allowed = np.array([[True, allow] for allow in person.preserves_natural_preference])
    best = _optimal_mask(np.where(allowed, rewards, -np.inf)).reshape(1, 1, 1, size, 1, 2)
    if constrain_last_action:
        return best
    last = _optimal_mask(rewards).reshape(1, 1, 1, size, 1, 2)
    return np.concatenate([best.repeat(horizon - 1, 0), last])


def _pareto(reward_matrix: np.ndarray, horizon: int) -> np.ndarray:
    """Pareto-optimal actions: numbers of influences compared by every preference.

    Returns of policies with a random number are means of these, and these are linear in the number:
    random policies dominate no number that no fixed number dominates.
    """
    count = np.arange(horizon + 1)[:, None]
    # count preference
    returns = count * reward_matrix[:, INFLUENCE] + (horizon - count) * reward_matrix[:, NOOP]
    slack = TIE_TOLERANCE * np.maximum(1.0, np.abs(returns).max())
    desirable = [i for i in range(horizon + 1) if (returns[i] >= returns[0] - slack).all()]

    def dominated(i: int) -> bool:
        return any(
            (returns[j] >= returns[i] - slack).all() and (returns[j] > returns[i] + slack).any()
            for j in desirable
        )

    efficient = [i for i in desirable if not dominated(i)]
    return np.array([0 in efficient, horizon in efficient])


def evaluate_policy(
    person: PersonDRMDP,
    policy: Float[np.ndarray, "round initial natural preference count"],
    horizon: int,
    privileged_preference: int = 0,
) -> PolicyEvaluation:
    """Exact expectations under a policy, by forward propagation of the state distribution.

    Args:
        person: the person; may differ from the person for whom the policy was computed.
        policy: probability of influence, by rounds elapsed, initial, natural and present preference
            and number of influences; dimensions of size one are broadcast.
        horizon: number of rounds.
        privileged_preference: index of theta*, used by the criterion `privileged`.
    """
    size, rewards, joint = (
        person.num_preferences,
        person.reward_matrix,
        person.joint_transition_matrix,
    )
    state = np.zeros((size, size, size, horizon + 1))  # initial natural preference count
    state[range(size), range(size), range(size), 0] = person.initial_distribution
    count = np.arange(horizon + 1)
    # rewards of both actions, by initial natural preference count
    criteria: dict[ReturnCriterion, np.ndarray] = {
        "initial": rewards[:, None, None, None],
        "natural_shift": rewards[None, :, None, None],
        "real_time": rewards[None, None, :, None],
        "privileged": rewards[privileged_preference],
        "mean_preference": rewards.mean(0),
    }
    sums: dict[ReturnCriterion, list[float]] = {name: [0.0] for name in criteria}
    final, num_influences, shift_probability = [0.0], [0.0], [0.0]
    probability, distribution = [], [person.initial_distribution]
    for elapsed in range(horizon):
        influence = policy[min(elapsed, len(policy) - 1)]
        state_action = np.stack([state * (1 - influence), state * influence], -1)
        for name, reward in criteria.items():
            sums[name].append(sums[name][-1] + float((state_action * reward).sum()))
        probability.append(float(state_action[..., INFLUENCE].sum()))
        num_influences.append(num_influences[-1] + probability[-1])
        state, influenced = (
            np.einsum("inck,ncNC->iNCk", state_action[..., action], joint[action], optimize=True)
            for action in (NOOP, INFLUENCE)
        )
        state[..., 1:] += influenced[..., :-1]
        returns = count * rewards[:, [INFLUENCE]] + (elapsed + 1 - count) * rewards[:, [NOOP]]
        final.append(float((state.sum((0, 1)) * returns).sum()))
        distribution.append(state.sum((0, 1, 3)))
        shift_probability.append(1.0 - float(np.einsum("innk->", state)))
    all_returns: dict[ReturnCriterion, np.ndarray] = {"final": np.array(final)}
    all_returns |= {name: np.array(values) for name, values in sums.items()}
    series = (num_influences, probability, distribution, shift_probability)
    return PolicyEvaluation(all_returns, *map(np.array, series))


def optimal_action_sequences(
    person: PersonDRMDP,
    objective: AlignmentObjective,
    horizon: int,
    privileged_preference: int = 0,
    constrain_last_action: bool = True,
) -> Iterator:
    """All optimal action sequences of a deterministic person.

    Raises:
        UserError: transitions or the initial preference are random.
    """
    if (
        not np.isin(person.transition_matrix, (0.0, 1.0)).all()
        or 1.0 not in person.initial_distribution
    ):
        raise UserError(
            "optimal sequences need deterministic transitions and initial preference",
            code="unsupported",
            path="person",
        )
    problem = (objective, horizon, privileged_preference, constrain_last_action)
    best = solve(person, *problem).optimal_actions
    initial = person.initial_distribution.index(1.0)

    def extend(natural: int, preference: int, actions: tuple[int, ...]) -> Iterator:
        if len(actions) == horizon:
            yield actions
            return
        index = (len(actions), initial, natural, preference, sum(actions))
        optimal = best[tuple(min(i, n - 1) for i, n in zip(index, best.shape, strict=False))]
        for action in np.flatnonzero(optimal):
            next_natural = int(person.transition_matrix[NOOP, natural].argmax())
            next_preference = int(person.transition_matrix[action, preference].argmax())
            yield from extend(next_natural, next_preference, (*actions, int(action)))

    return extend(initial, initial, ())
