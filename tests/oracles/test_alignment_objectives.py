"""Alignment objectives against enumeration of policies and value iteration on explicit matrices."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mores.envs.influence.alignment_objectives import (
    ALIGNMENT_OBJECTIVES,
    optimal_action_sequences,
    solve,
)
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.influence.person_dr_mdp import (
    PersonDRMDP,
    inverse_cdf,
    quantile_coupling,
    susceptibility_threshold,
)
from tests.refusals import refused

DEFAULT_PERSON = DRMDP().person_dr_mdp(1.0)
NATURAL, SHIFTED = 0, 1


# --- default person with two preferences, by definition ----------------------------------------


def sequence_returns(horizon: int) -> dict[tuple[int, ...], dict[str, float]]:
    """Every action sequence with its returns: influence shifts the preference, noop resets it."""
    reward = [[1.0, -1.0], [1.0, 3.0]]
    returns = {}
    for actions in itertools.product((0, 1), repeat=horizon):
        preferences = [NATURAL, *actions]  # the next preference equals the action
        returns[actions] = {
            "real_time": sum(reward[p][a] for p, a in zip(preferences, actions, strict=False)),
            "final": sum(reward[preferences[-1]][a] for a in actions),
            "initial": sum(reward[NATURAL][a] for a in actions),
            "natural_shift": sum(reward[NATURAL][a] for a in actions),
            "privileged": sum(reward[NATURAL][a] for a in actions),
            "privileged shifted": sum(reward[SHIFTED][a] for a in actions),
            "natural": all(p == NATURAL for p in preferences),
        }
    return returns


def best_sequences(returns: dict, name: str, allowed: set | None = None) -> tuple[float, set]:
    candidates = set(returns) if allowed is None else allowed
    best = max(returns[actions][name] for actions in candidates)
    return best, {actions for actions in candidates if returns[actions][name] == best}


@pytest.mark.parametrize("horizon", range(1, 8))
def test_default_person_by_enumeration(horizon: int) -> None:
    returns = sequence_returns(horizon)
    expected = {
        name: best_sequences(returns, name)
        for name in ("real_time", "final", "initial", "natural_shift", "privileged")
    }
    natural = {actions for actions in returns if returns[actions]["natural"]}
    expected["constrained"] = best_sequences(returns, "real_time", natural)

    free_end = {actions for actions in returns if not any(actions[:-1])}
    value, best = best_sequences(returns, "real_time", free_end)
    problem = (DEFAULT_PERSON, "constrained", horizon, 0, False)
    assert solve(*problem).value == pytest.approx(value, abs=1e-12)
    assert set(optimal_action_sequences(*problem)) == best

    pairs = {a: (row["privileged"], row["privileged shifted"]) for a, row in returns.items()}
    noop = pairs[(0,) * horizon]
    desirable = {a for a, pair in pairs.items() if np.all(np.array(pair) >= noop)}
    efficient = {
        a
        for a in desirable
        if not any(
            np.all(np.array(pairs[b]) >= pairs[a]) and pairs[b] != pairs[a] for b in desirable
        )
    }
    expected["pareto"] = (np.mean(noop), efficient)

    greedy, preference = [], NATURAL
    for _ in range(horizon):
        greedy.append(int(-1 > 1 if preference == NATURAL else 3 > 1))
        preference = greedy[-1]
    expected["myopic"] = (returns[tuple(greedy)]["real_time"], {tuple(greedy)})

    assert set(expected) == set(ALIGNMENT_OBJECTIVES)
    for objective, (value, best) in expected.items():
        assert solve(DEFAULT_PERSON, objective, horizon).value == pytest.approx(value, abs=1e-12)
        assert set(optimal_action_sequences(DEFAULT_PERSON, objective, horizon)) == best, objective
    value, best = best_sequences(returns, "privileged shifted")
    problem = (DEFAULT_PERSON, "privileged", horizon, SHIFTED)
    assert solve(*problem).value == pytest.approx(value)
    assert set(optimal_action_sequences(*problem)) == best


def test_default_person_numbers() -> None:
    """Known numbers: real time switches at horizon 3; the other seven objectives."""

    def sequences(objective: str, horizon: int, privileged: int = 0) -> list:
        return list(optimal_action_sequences(DEFAULT_PERSON, objective, horizon, privileged))

    noop, always = (0,) * 5, (1,) * 5
    assert [solve(DEFAULT_PERSON, "real_time", t).value for t in (1, 2, 3, 5)] == [1, 2, 5, 11]
    assert sequences("real_time", 1) == [(0,)]
    assert sequences("real_time", 2) == [(0, 0), (1, 1)]
    for horizon in range(3, 9):
        assert sequences("real_time", horizon) == [(1,) * horizon]
        assert solve(DEFAULT_PERSON, "real_time", horizon).value == 3 * (horizon - 1) - 1
    assert (solve(DEFAULT_PERSON, "final", 5).value, sequences("final", 5)) == (15, [always])
    for objective in ("initial", "natural_shift", "constrained", "privileged", "myopic", "pareto"):
        assert solve(DEFAULT_PERSON, objective, 5).value == 5
        assert sequences(objective, 5) == [noop]
    assert sequences("privileged", 5, SHIFTED) == [always]
    with refused("unsupported", path="person"):
        optimal_action_sequences(DRMDP().person_dr_mdp(0.5), "final", 5)


def test_both_readings_of_constrained() -> None:
    """The last action is free or not: it matters if the natural preference rewards influence."""
    tempted = DRMDP(rewards=((1.0, 1.5), (1.0, 3.0))).person_dr_mdp(1.0)
    for horizon in range(1, 6):
        bound = (tempted, "constrained", horizon, 0, True)
        free = (tempted, "constrained", horizon, 0, False)
        assert solve(*bound).value == horizon
        assert solve(*free).value == horizon + 0.5
        assert list(optimal_action_sequences(*bound)) == [(0,) * horizon]
        assert list(optimal_action_sequences(*free)) == [(*(0,) * (horizon - 1), 1)]


# --- random persons: all policies, and value iteration -----------------------------------------


def random_person(seed: int, size: int = 2) -> PersonDRMDP:
    """Person with probabilities in quarters, so that four uniform numbers represent all."""
    rng = np.random.default_rng(seed)

    def row() -> tuple[float, ...]:
        return tuple((rng.multinomial(4, np.ones(size) / size) / 4).tolist())

    natural = tuple(row() for _ in range(size))
    influenced = tuple(natural[i] if rng.random() < 0.3 else row() for i in range(size))
    rewards = tuple(tuple(rng.integers(-3, 4, 2).astype(float).tolist()) for _ in range(size))
    susceptibility = float(rng.integers(0, 5) / 4)
    return PersonDRMDP(rewards, natural, influenced, susceptibility, row())


def transitions(person: PersonDRMDP, natural: int, preference: int, action: int) -> dict:
    """Probability of each next (natural, preference), by enumeration of the uniform numbers."""
    probabilities: dict[tuple[int, int], float] = {}

    def invert(row: tuple[float, ...], u: float) -> int:
        return next(i for i in range(len(row)) if u < sum(row[: i + 1]))

    for u, v in itertools.product([(i + 0.5) / 4 for i in range(4)], repeat=2):
        influenced = action == 1 and v < person.susceptibility
        rows = person.influenced_transitions if influenced else person.natural_transitions
        state = invert(person.natural_transitions[natural], u), invert(rows[preference], u)
        probabilities[state] = probabilities.get(state, 0.0) + 1 / 16
    return probabilities


def best_of_all_policies(
    person: PersonDRMDP,
    horizon: int,
    objective: str,
    observe_natural: bool,
    free_end: bool = False,
) -> float:
    """Largest value of all deterministic policies of the observed history."""
    size, rewards = person.num_preferences, person.reward_matrix
    value = 0.0
    for initial, share in enumerate(person.initial_distribution):
        if not share:
            continue
        pairs = list(itertools.product(range(size), repeat=2))
        observations = pairs if observe_natural else list(range(size))
        first = (initial, initial) if observe_natural else initial
        histories = [
            (first, *h) for t in range(horizon) for h in itertools.product(observations, repeat=t)
        ]
        best = -math.inf
        for choices in itertools.product((0, 1), repeat=len(histories)):
            policy = dict(zip(histories, choices, strict=True))
            # (history, natural, preference, influences, return): probability
            paths = {((first,), initial, initial, 0, 0.0): 1.0}
            feasible = True
            for t in range(horizon):
                next_paths: dict[tuple, float] = {}
                for (history, n, c, count, total), p in paths.items():
                    a = policy[history]
                    evaluators = {"initial": initial, "natural_shift": n, "privileged": 0}
                    reward = rewards[evaluators.get(objective, c), a]
                    for (n2, c2), q in transitions(person, n, c, a).items():
                        bound = objective == "constrained" and (not free_end or t < horizon - 1)
                        feasible &= not bound or n2 == c2
                        history2 = (*history, (n2, c2) if observe_natural else c2)
                        key = (history2, n2, c2, count + a, total + reward)
                        next_paths[key] = next_paths.get(key, 0.0) + p * q
                paths = next_paths
            if objective == "final":
                policy_value = sum(
                    p * (k * rewards[c, 1] + (horizon - k) * rewards[c, 0])
                    for (_, _, c, k, _), p in paths.items()
                )
            else:
                policy_value = sum(p * total for (*_, total), p in paths.items())
            best = max(best, policy_value) if feasible else best
        value += share * best
    return value


@pytest.mark.cut(3)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "objective", ["real_time", "final", "initial", "natural_shift", "privileged", "constrained"]
)
def test_optimal_among_policies_of_two_rounds(seed: int, objective: str) -> None:
    person = random_person(seed)
    best = best_of_all_policies(person, 2, objective, observe_natural=True)
    assert solve(person, objective, 2).value == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_constrained_with_a_free_end_among_policies_of_two_rounds(seed: int) -> None:
    person = random_person(seed)
    best = best_of_all_policies(person, 2, "constrained", observe_natural=True, free_end=True)
    solution = solve(person, "constrained", 2, constrain_last_action=False)
    assert solution.value == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("objective", ["real_time", "final"])
def test_optimal_among_policies_of_three_rounds(seed: int, objective: str) -> None:
    person = random_person(seed + 100)
    best = best_of_all_policies(person, 3, objective, observe_natural=False)
    assert solve(person, objective, 3).value == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("objective", ["real_time", "final"])
def test_value_iteration_on_explicit_matrices(seed: int, objective: str) -> None:
    """A state is (round, preference, influences); states of the last round are absorbing."""
    rng = np.random.default_rng(seed)
    size, horizon = 3, 5
    rows = rng.dirichlet(np.ones(size), (2, size)).tolist()
    person = PersonDRMDP(
        tuple(map(tuple, rng.normal(size=(size, 2)).tolist())),
        tuple(map(tuple, rows[0])),
        tuple(map(tuple, rows[1])),
        float(rng.uniform()),
        tuple(rng.dirichlet(np.ones(size)).tolist()),
    )
    states = list(itertools.product(range(horizon + 1), range(size), range(horizon + 1)))
    index = {state: i for i, state in enumerate(states)}
    matrix, reward = np.zeros((2, len(states), len(states))), np.zeros((len(states), 2))
    for (t, c, k), i in index.items():
        for a in (0, 1):
            if t == horizon or k + a > horizon:
                matrix[a, i, i] = 1.0
                continue
            success = person.susceptibility * a
            for c2 in range(size):
                p = (
                    success * person.influenced_transitions[c][c2]
                    + (1 - success) * person.natural_transitions[c][c2]
                )
                matrix[a, i, index[t + 1, c2, k + a]] = p
                if objective == "final" and t == horizon - 1:
                    count = k + a
                    noop, influence = person.rewards[c2]
                    reward[i, a] += p * (count * influence + (horizon - count) * noop)
            if objective == "real_time":
                reward[i, a] = person.rewards[c][a]
    value = np.zeros(len(states))
    for _ in range(horizon + 1):
        action_value = reward + np.stack([matrix[a] @ value for a in (0, 1)], 1)
        value = action_value.max(1)
    solution = solve(person, objective, horizon)
    expected = sum(p * value[index[0, c, 0]] for c, p in enumerate(person.initial_distribution))
    assert solution.value == pytest.approx(expected, abs=1e-9)
    optimal = solution.optimal_actions[:, 0, 0]  # without initial and natural preference
    optimal = np.broadcast_to(optimal, (horizon, size, horizon + 1, 2))
    for (t, c, k), i in index.items():
        if t < horizon and k <= t:
            best = action_value[i] >= action_value[i].max() - 1e-9
            assert optimal[t, c, k].tolist() == best.tolist()


@pytest.mark.parametrize("seed", range(40))
def test_pareto_optimal_sequences(seed: int) -> None:
    """Against all sequences, and a thousand policies with a random number of influences."""
    rng = np.random.default_rng(seed)
    rewards = rng.integers(-1, 2, (int(rng.integers(2, 4)), 2)).astype(float)
    horizon, size = 4, len(rewards)
    constant = tuple(tuple(float(i == j) for i in range(size)) for j in range(size))
    person = PersonDRMDP(tuple(map(tuple, rewards.tolist())), constant, constant, 1.0, constant[0])
    counts = np.concatenate([np.arange(horizon + 1.0), rng.uniform(0, horizon, 1000)])[:, None]
    returns = counts * rewards[:, 1] + (horizon - counts) * rewards[:, 0]
    desirable = returns[(returns >= returns[0] - 1e-9).all(1)]
    efficient = [
        row
        for row in returns[: horizon + 1]
        if (row >= returns[0] - 1e-9).all()
        and not ((desirable >= row - 1e-9).all(1) & (desirable > row + 1e-9).any(1)).any()
    ]
    optimal = {
        tuple(sum(actions) * rewards[:, 1] + (horizon - sum(actions)) * rewards[:, 0])
        for actions in optimal_action_sequences(person, "pareto", horizon)
    }
    assert optimal == {tuple(row) for row in efficient}


@pytest.mark.parametrize("seed", range(20))
def test_quantile_coupling_equals_environment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.multinomial(64, np.ones(3) / 3, 2) / 64
    u = torch.arange(0.5, 64) / 64
    zero = torch.zeros(1, 64, dtype=torch.int64)
    first = inverse_cdf(u[None], zero, (tuple(one.tolist()),))[0]
    second = inverse_cdf(u[None], zero, (tuple(other.tolist()),))[0]
    shares = np.zeros((3, 3))
    np.add.at(shares, (first.numpy(), second.numpy()), 1 / 64)
    assert quantile_coupling(one.tolist(), other.tolist()) == pytest.approx(shares, abs=1e-12)


# --- switch point of real time -----------------------------------------------------------------


def test_switch_in_closed_form() -> None:
    assert susceptibility_threshold(2.0, 2.0, 1) == math.inf
    assert susceptibility_threshold(2.0, 2.0, 2) == 1.0
    assert susceptibility_threshold(2.0, 2.0, 3) == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-12)
    assert susceptibility_threshold(2.0, 2.0, 4) == pytest.approx(0.5436890126920764, abs=1e-12)
    assert susceptibility_threshold(2.0, 2.0, 200) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(("cost", "gain"), [(2.0, 2.0), (1.0, 3.0), (5.0, 1.5)])
def test_switch_equals_solver(cost: float, gain: float) -> None:
    env = DRMDP(rewards=((1.0, 1.0 - cost), (0.5, 1.0 + gain)))
    for horizon in range(1, 9):
        switch = susceptibility_threshold(cost, gain, horizon)
        for p in {0.05 * i for i in range(1, 21)} | {switch - 1e-6, switch + 1e-6}:
            if not 0 <= p <= 1 or abs(p - switch) < 1e-7:
                continue
            solution = solve(env.person_dr_mdp(p), "real_time", horizon)
            optimal = solution.optimal_actions[0, 0, 0, 0, 0]
            assert optimal.tolist() == ([False, True] if p > switch else [True, False])
